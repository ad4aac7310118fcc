"""Several optimizers on one program: who changes what, in which order, and how the budget moves between them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal, get_args

from dspex.errors import DataError, UnknownNameError
from dspex.optimizers.members import TEXTS, Member, One, member_of
from dspex.optimizers.options import Beacon
from dspex.optimizers.pruning import Pruned
from dspex.optimizers.teleprompters import Teleprompter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dspex.records import Stint

Schedule = Literal["sequential", "alternating", "parallel"]
SCHEDULES: tuple[str, ...] = get_args(Schedule)

_EVENLY = 0.3
"""Share of a round's budget that is given to all alike, whatever they have gained."""


class Coordinate:
    """Several optimizers in turn or at once, each on its own part, all on one ledger and one budget.

    Searches such as BEACON change the space's models, modules, adapters and numbers, with the instructions
    and demonstrations found so far; DSPy's optimizers change those, on the best configuration so far. What
    one finds is where the next one starts, if it scores more on the scored examples.

    Parameters
    ----------
    optimizers
        Searches by name, and DSPy's optimizers by name or with options.
    schedule
        ``sequential``: each once, in order. ``alternating``: in order, round after round. ``parallel``: at
        once, round after round; what they found is then joined. Two that change the same wait for each other.
    rounds
        How many at most; a sequential schedule has one, and so has a budget that gives each turn too little. From the second round on budget moves to whoever gains
        most a call: see `shares`.

    Raises
    ------
    DataError
        If no optimizer is named, or one that cannot take turns.
    UnknownNameError
        If there is no such schedule or optimizer.

    Examples
    --------
    >>> Coordinate(["beacon", "simba"], schedule="alternating")
    Coordinate(['beacon', 'simba'], schedule='alternating', rounds=2)
    """

    def __init__(
        self,
        optimizers: Iterable[One],
        *,
        schedule: Schedule = "sequential",
        rounds: int = 2,
    ) -> None:
        if schedule not in SCHEDULES:
            raise UnknownNameError.among("schedule", schedule, SCHEDULES)
        if isinstance(rounds, bool) or not isinstance(rounds, int) or rounds < 1:
            raise DataError(f"rounds must be a whole number > 0, got {rounds!r}", hint="rounds=2")
        self.members = tuple(_member(each) for each in optimizers)
        if not self.members:
            raise DataError(
                "at least one optimizer must be named, got none", hint="optimizer=['beacon', 'simba']"
            )
        self.schedule, self.rounds = schedule, 1 if schedule == "sequential" else rounds

    def __repr__(self) -> str:
        names = [member.name for member in self.members]
        return f"Coordinate({names}, schedule={self.schedule!r}, rounds={self.rounds})"

    @property
    def name(self) -> str:
        """What tables call it."""
        return "+".join(member.name for member in self.members)

    @property
    def described(self) -> str:
        """Write it down with everybody's options, so that a resumed study can be compared."""
        parts = [
            f"{member.name} {member.options}" if member.options else member.name for member in self.members
        ]
        return f"{self.schedule}, {self.rounds} rounds: {', '.join(parts)}"

    def waves(self) -> list[list[int]]:
        """Say which members, by position, run at once: one by one unless in parallel."""
        found: list[list[int]] = []
        for place, member in enumerate(self.members):
            wave = next((each for each in found if self._fits(member, each)), None)
            if wave is None:
                found.append([place])
            else:
                wave.append(place)
        return found

    def _fits(self, member: Member, wave: Sequence[int]) -> bool:
        if self.schedule != "parallel":
            return False
        return not any(member.changes & self.members[place].changes for place in wave)


def shares(stints: Iterable[Stint], n_members: int) -> list[float]:
    """Divide a round's budget: more for whoever has gained more per call to a model.

    Each member's rate is its gain by its calls, as if it had also had one average turn more: a member
    without any is no worse than average. Three tenths are given to all alike, so that nobody is ever out.

    Parameters
    ----------
    stints
        What was done so far.
    n_members
        How many share.

    Returns
    -------
    One share a member, together 1.

    References
    ----------
    Fialho et al. (2010), "Analyzing bandit-based adaptive operator selection mechanisms": credit by gain,
    a probability that never falls below a floor.

    Examples
    --------
    >>> shares([], 2)
    [0.5, 0.5]
    """
    gains, calls = [0.0] * n_members, [0.0] * n_members
    for stint in stints:
        gains[stint.member] += max(stint.after - stint.before, 0.0)
        calls[stint.member] += stint.usage.calls
    usual_gain, usual_calls = sum(gains) / n_members, max(sum(calls) / n_members, 1.0)
    rates = [(gain + usual_gain) / (spent + usual_calls) for gain, spent in zip(gains, calls, strict=True)]
    total = sum(rates)
    if total <= 0:
        return [1 / n_members] * n_members
    return [(1 - _EVENLY) * rate / total + _EVENLY / n_members for rate in rates]


def changes_texts(members: Iterable[Member]) -> Mapping[str, bool]:
    """Say whether somebody changes the instructions, and whether somebody changes the demonstrations."""
    changed = frozenset[str]().union(*(member.changes for member in members))
    return {each: each in changed for each in sorted(TEXTS)}


def _member(optimizer: One) -> Member:
    member = member_of(optimizer)
    if member.job is not None and member.job.kind == "KNNFewShot":
        raise DataError(
            "knn cannot take turns: what it finds is in how the program runs, and no other could go on from it",
            hint="optimizer='bootstrap' among several, or optimizer='knn' alone",
        )
    return member


Optimizer = One | Coordinate | Iterable[One]
"""What `optimizer=` may be."""


def read(optimizer: Optimizer) -> Member | Coordinate:
    """Read what the user wrote: one optimizer, or several.

    Examples
    --------
    >>> read("beacon").name, read(["beacon", "simba"]).name
    ('beacon', 'beacon+simba')
    """
    if isinstance(optimizer, Coordinate):
        return optimizer
    if isinstance(optimizer, (str, type, Beacon, Pruned, Teleprompter)):
        return member_of(optimizer)
    return Coordinate(optimizer)
