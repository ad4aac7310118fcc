"""One optimizer as a study knows it: a search by its name, BEACON with options, or one of DSPy's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dspex.bridge.identity import key_of_function
from dspex.errors import UnknownNameError
from dspex.optimizers.beacon.goal import Goal
from dspex.optimizers.options import SEARCHES, Beacon
from dspex.optimizers.pruning import Pruned
from dspex.optimizers.teleprompters import TELEPROMPTERS, Teleprompter, teleprompter_named

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dspex.optimizers.pruning import Pruner

One = str | Beacon | Pruned | Teleprompter | type[Beacon] | type[Pruned] | type[Teleprompter]
"""What the user may write for one optimizer."""

_CHANGES: dict[str, frozenset[str]] = {
    "BootstrapFewShot": frozenset({"demos"}),
    "BootstrapFewShotWithOptuna": frozenset({"demos"}),
    "BootstrapFewShotWithRandomSearch": frozenset({"demos"}),
    "COPRO": frozenset({"instructions"}),
    "GEPA": frozenset({"instructions"}),
    "InferRules": frozenset({"instructions"}),
    "LabeledFewShot": frozenset({"demos"}),
}
"""What each of DSPy's optimizers changes, where it is not both; a search changes the configuration."""
TEXTS = frozenset({"instructions", "demos"})


@dataclass(frozen=True)
class Member:
    """One optimizer: a search, or one of DSPy's.

    Attributes
    ----------
    job
        The optimizer of DSPy; None for a search.
    beacon
        BEACON's options; None for any other.
    pruner
        What leaves poor configurations early; None where each is scored whole.
    """

    name: str
    job: Teleprompter | None = None
    beacon: Beacon | None = None
    pruner: Pruner | None = None

    @property
    def changes(self) -> frozenset[str]:
        """What it changes: two that change the same never run at once."""
        if self.job is None:
            return frozenset({"configuration"})
        return _CHANGES.get(self.job.kind, TEXTS)

    @property
    def options(self) -> dict[str, str]:
        """Its options, written down, so that a resumed study can be compared."""
        given: Mapping[str, Any] = {}
        if self.job is not None:
            given = self.job.options
        elif self.beacon is not None:
            given = self.beacon.options
        elif self.pruner is not None:
            given = {"pruner": self.pruner}
        return {name: _option(value) for name, value in sorted(given.items())}


def member_of(optimizer: One) -> Member:
    """Read what the user wrote.

    Raises
    ------
    UnknownNameError
        If there is no such optimizer.

    Examples
    --------
    >>> member_of("SIMBA").name, member_of(Beacon(batch=4)).options
    ('simba', {'batch': '4'})
    """
    made = optimizer() if isinstance(optimizer, type) else optimizer
    if isinstance(made, Pruned):
        return Member(made.search, pruner=made.pruner)
    if made == "beacon":
        made = Beacon()
    if isinstance(made, Beacon):
        return Member("beacon", beacon=made)
    job = made if isinstance(made, Teleprompter) else teleprompter_named(str(made))
    if job is not None:
        return Member(next(name for name, each in TELEPROMPTERS.items() if each is type(job)), job)
    if made not in SEARCHES:
        raise UnknownNameError.among("optimizer", str(made), [*SEARCHES, *TELEPROMPTERS])
    return Member(str(made))


def _option(value: Any) -> str:
    plain = isinstance(value, (str, int, float, bool, list, tuple, Goal, type(None)))
    return repr(value) if plain else getattr(value, "model", None) or key_of_function(value)
