"""Leaving poor configurations early: each is scored step by step, and one of Optuna's pruners says when to stop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from dspex.errors import DataError, UnknownNameError
from dspex.optimizers.beacon.work import Work
from dspex.optimizers.options import WHOLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import optuna

    from dspex.optimizers.beacon.work import Row
    from dspex.optimizers.search import Search
    from dspex.variables.space import Space

Pruner = Literal["hyperband", "median"]
PRUNERS: tuple[str, ...] = get_args(Pruner)

_STEP = 6
"""Examples between two looks."""
_STARTUP = 4
"""Configurations that are scored whole before a median says anything."""


@dataclass(frozen=True)
class Pruned:
    """A search of whole configurations that leaves poor ones early, for `dspex.optimize(..., optimizer=...)`.

    A trial is scored six examples at a time; one that is pruned keeps the score of those it has seen. What
    is saved goes to further configurations: a budget's trials are counted by examples scored.

    Parameters
    ----------
    search
        ``"tpe"``, ``"gp"``, ``"random"`` or ``"grid"``; BEACON divides its examples itself.
    pruner
        ``"median"`` stops what is worse than half of the earlier ones were after as many examples;
        ``"hyperband"`` lets a third go on, from several numbers of examples at first.

    References
    ----------
    Golovin et al. (2017), "Google Vizier" (the median rule); Li et al. (2018), "Hyperband". The pruners are
    Optuna's.

    Examples
    --------
    >>> Pruned("random", pruner="median")
    Pruned(search='random', pruner='median')
    """

    search: str = "tpe"
    pruner: Pruner = "hyperband"

    def __post_init__(self) -> None:
        if self.search not in WHOLE:
            raise UnknownNameError.among("pruned search", self.search, WHOLE)
        if self.pruner not in PRUNERS:
            raise UnknownNameError.among("pruner", self.pruner, PRUNERS)


class Stepwise:
    """Lets a search be asked for work a few examples at a time, and goes on only with what is promising.

    Parameters
    ----------
    search
        What proposes configurations; it is told the mean of the examples that were scored.
    space
        Names configurations.
    example_keys
        The examples that a configuration is scored on if it is not pruned.
    pruner
        Which of Optuna's pruners decides.
    """

    def __init__(self, search: Search, space: Space, example_keys: Sequence[str], pruner: Pruner) -> None:
        if not example_keys:
            raise DataError("a configuration is scored on at least one example, got none")
        self._search, self._space = search, space
        keys = tuple(example_keys)
        self._steps = [keys[k : k + _STEP] for k in range(0, len(keys), _STEP)]
        self._study = _study(pruner, len(self._steps))
        self._running: _Running | None = None

    def ask(self, n: int = 1) -> list[Work]:
        """Return the next step of the configuration under way, or the first of the next one; `n` is not used.

        Whether a step is worth while is known once the one before is told.
        """
        del n
        if self._running is None:
            configuration = self._search.ask()
            if configuration is None:
                return []
            self._running = _Running(configuration, self._study.ask())
        configuration = self._running.configuration
        step = self._steps[len(self._running.means)]
        return [Work(configuration, self._space.key_of(configuration), step)]

    def tell(self, rows: Iterable[Row]) -> None:
        """Take in the rows of the step that was asked for, and decide."""
        running = self._running
        if running is None:
            return
        running.scores += [row.score for row in rows]
        mean = sum(running.scores) / len(running.scores)
        running.means.append(mean)
        running.trial.report(mean, len(running.means))
        is_whole = len(running.means) == len(self._steps)
        if is_whole or running.trial.should_prune():
            self._close(running, mean, is_whole=is_whole)

    def _close(self, running: _Running, mean: float, *, is_whole: bool) -> None:
        from optuna.trial import TrialState

        self._study.tell(running.trial, mean if is_whole else None, None if is_whole else TrialState.PRUNED)
        self._search.tell(running.configuration, mean)
        self._running = None


class _Running:
    """The configuration under way."""

    def __init__(self, configuration: dict[str, Any], trial: optuna.Trial) -> None:
        self.configuration, self.trial = configuration, trial
        self.scores: list[float] = []
        self.means: list[float] = []


def _study(pruner: Pruner, n_steps: int) -> optuna.Study:
    import optuna

    from dspex.optimizers.tpe import quiet_study

    chosen: optuna.pruners.BasePruner = optuna.pruners.MedianPruner(n_startup_trials=_STARTUP)
    if pruner == "hyperband":
        chosen = optuna.pruners.HyperbandPruner(min_resource=1, max_resource=n_steps)
    # Hyperband assigns brackets by the study's name: one name, one sequence.
    return quiet_study(optuna.samplers.RandomSampler(seed=0), pruner=chosen, name="dspex")
