"""Whether a candidate earns the place of the values in force: a paired check on examples never searched."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from dspex.bridge import examples as examples_bridge
from dspex.errors import DataError
from dspex.optimizers.evaluate import Evaluator
from dspex.optimizers.ledger import Ledger
from dspex.optimizers.stats import compare
from dspex.variables import using

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import dspy

    from dspex.optimizers.stats import Comparison
    from dspex.pools import Pool
    from dspex.records import Configuration
    from dspex.store import Store
    from dspex.variables.registry import Registry

_FEWEST = 4
"""Examples that can be told apart into searched and checked ones, two each."""


class Since:
    """A metric, and since when its scores hold: the ledger's rows from before the world changed are others.

    Examples
    --------
    >>> from dspex.bridge.identity import key_of_function
    >>> key_of_function(Since(max, "one")) == key_of_function(Since(max, "two"))
    False
    """

    def __init__(self, metric: Callable[..., Any], since: str) -> None:
        self.metric = metric
        self.since = since
        self.__name__ = str(getattr(metric, "__name__", type(metric).__name__))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Score as the metric does."""
        return self.metric(*args, **kwargs)


def halves(examples: Sequence[dspy.Example], *, seed: int) -> tuple[list[dspy.Example], list[dspy.Example]]:
    """Part examples into those that are searched and those that check what was found.

    Raises
    ------
    DataError
        If they are too few.
    """
    if len(examples) < _FEWEST:
        raise DataError(
            f"searching and checking need different examples, the trainset has {len(examples)}",
            hint="give more examples, or a valset, which is only checked",
        )
    mixed = list(examples)
    random.Random(seed).shuffle(mixed)
    return mixed[: len(mixed) // 2], mixed[len(mixed) // 2 :]


class Check:
    """Runs two configurations as the registry would, on the same examples, and compares them.

    Parameters
    ----------
    program
        What is bound to the values; the registry's demos are shown.
    stopped
        Asked all the time; when it says yes, the check ends with `CancelledError`.
    """

    def __init__(
        self,
        program: dspy.Module,
        registry: Registry,
        *,
        lm: Callable[[Any], dspy.BaseLM],
        default_lm: dspy.BaseLM,
        pool: Pool,
        store: Store,
        stopped: Callable[[], bool],
    ) -> None:
        self._program, self._registry = program, registry
        self._lm, self._default_lm = lm, default_lm
        self._pool, self._store, self._stopped = pool, store, stopped

    def bind(self, configuration: Configuration) -> dspy.Module:
        """Return the program as `execute` would run it with these values."""
        space = self._registry.space
        values = using.values_of(space, configuration, self._lm)
        return using.bound(
            space, self._program, values, default_lm=self._default_lm, examples=self._registry.demos
        )

    def compare(
        self,
        candidate: Configuration,
        current: Configuration,
        examples: Sequence[dspy.Example],
        metric: Callable[..., Any],
        *,
        metric_key: str,
        study: str,
    ) -> Comparison:
        """Score both on every example; the rows go to the study's ledger."""
        ledger = Ledger(study, self._store, metric_key)
        evaluator = Evaluator(metric, ledger, self._pool, stopped=self._stopped, announce=lambda _: None)
        first, second = (
            [score.score for score in self._scores(evaluator, values, examples)]
            for values in (candidate, current)
        )
        return compare(first, second)

    def _scores(self, evaluator: Evaluator, values: Configuration, examples: Sequence[dspy.Example]) -> Any:
        key = self._registry.space.key_of(values)
        return evaluator.evaluate(self.bind(values), self._default_lm, key, examples)[0]


def without(examples: Sequence[dspy.Example], others: Sequence[dspy.Example]) -> list[dspy.Example]:
    """Leave out the examples that are among the others, and what comes twice."""
    known = {examples_bridge.key_of(each) for each in others}
    left = {examples_bridge.key_of(each): each for each in examples}
    return [each for key, each in left.items() if key not in known]
