"""The searches that a study runs, with their options: by name, or as `dspex.optimizers.Beacon(...)`."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from dspex.errors import DataError, UnknownNameError
from dspex.optimizers.beacon.blackbox import Smooth
from dspex.optimizers.beacon.goal import Goal
from dspex.optimizers.beacon.pacing import Paced
from dspex.optimizers.beacon.search import ACQUISITIONS, Acquisition
from dspex.optimizers.random_search import RandomSearch
from dspex.optimizers.tpe import Tpe

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dspex.optimizers.beacon.ability import Likelihood
    from dspex.optimizers.search import Search
    from dspex.records import Configuration
    from dspex.variables.space import Space

_PARALLEL = 4
_BATCH = 8
"""What the search takes if left out."""


@dataclass(frozen=True, init=False)
class Beacon:
    """BEACON with options, ready for `dspex.optimize(..., optimizer=...)`.

    Parameters
    ----------
    acquisition
        ``"thompson"``, ``"ei"``, ``"ucb"``, ``"pi"`` or ``"ucbe"``; ``"auto"`` chooses by the space.
    batch
        Most examples of a configuration at a time; 8 if left out.
    parallel
        Configurations that are proposed together and evaluated at the same time. It does not follow the
        pool's workers: one seed is one study on any machine.
    goal
        What is wanted beside quality: see `Goal`.
    cost_aware
        Prefer the cheaper among proposals that seem equally good.
    likelihood
        ``"logit"`` for scores in [0, 1], ``"gaussian"`` for any; ``"auto"`` looks at the scores.
    prior
        How promising a configuration is thought to be, any positive number.
    warm_start
        Begin with what earlier studies of this store have scored of the same programs, metric and examples;
        it is neither paid for nor counted. What is found then depends on the store, not on the seed alone.

    Examples
    --------
    >>> Beacon(acquisition="ei", batch=4)
    Beacon(acquisition='ei', batch=4)
    >>> Beacon(aquisition="ei")
    Traceback (most recent call last):
        ...
    dspex.errors.UnknownNameError: unknown BEACON option 'aquisition'; known: acquisition, batch, cost_aware, goal, likelihood, parallel, prior, warm_start
      → did you mean 'acquisition'?
    """

    acquisition: Acquisition = "auto"
    batch: int | None = None
    parallel: int = _PARALLEL
    goal: Goal | None = None
    cost_aware: bool = False
    likelihood: Likelihood = "auto"
    prior: Callable[[Configuration], float] | None = None
    warm_start: bool = False

    def __init__(self, **options: Any) -> None:
        known = {field.name: field.default for field in fields(self)}
        for name in options:
            if name not in known:
                raise UnknownNameError.among("BEACON option", name, known)
        for name, value in {**known, **options}.items():
            object.__setattr__(self, name, value)
        self._check()

    def _check(self) -> None:
        if self.acquisition not in ACQUISITIONS:
            raise UnknownNameError.among("acquisition", self.acquisition, ACQUISITIONS)
        if self.goal is not None and not isinstance(self.goal, Goal):
            raise DataError(
                f"a goal is a Goal, got {self.goal!r}",
                hint='dspex.optimizers.Goal(("cost_usd",), quality_at_least=0.8)',
            )
        for name, value in (("batch", self.batch), ("parallel", self.parallel)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise DataError(f"BEACON's {name} must be a whole number > 0, got {value!r}")

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self.options.items())
        return f"Beacon({given})"

    @property
    def options(self) -> dict[str, Any]:
        """The options that are not left at their defaults."""
        return {
            field.name: value
            for field in fields(self)
            if (value := getattr(self, field.name)) != field.default
        }

    @property
    def most_scores(self) -> int:
        """How many examples are scored at most before the next proposals."""
        return self.parallel * (self.batch or _BATCH)

    def start(self, space: Space, examples: Sequence[str], seed: int, most: int | None) -> Paced:
        """Start a search that tries at most so many configurations."""
        return Paced(
            space,
            examples=examples,
            most=most,
            seed=seed,
            batch=self.batch,
            acquisition=self.acquisition,
            likelihood=self.likelihood,
            goal=self.goal,
            cost_aware=self.cost_aware,
            prior=self.prior,
        )


def _gp(space: Space, *, seed: int = 0) -> Smooth:
    # A mean over examples is itself uncertain: how much, is learnt.
    return Smooth(space, seed=seed, noise=None)


WHOLE: dict[str, Callable[..., Search]] = {"gp": _gp, "random": RandomSearch, "tpe": Tpe}
"""Searches that look at a configuration's mean over one sample of the examples."""

SEARCHES = ("beacon", *WHOLE)


def search_named(name: str, space: Space, seed: int) -> Search:
    """Start a search of whole configurations by its name.

    Raises
    ------
    UnknownNameError
        If there is no such optimizer.
    """
    if name not in WHOLE:
        raise UnknownNameError.among("optimizer", name, SEARCHES)
    return WHOLE[name](space, seed=seed)
