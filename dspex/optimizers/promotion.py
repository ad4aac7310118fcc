"""Whether a candidate earns the place of the values in force: a paired check on examples never searched."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from dspex.bridge import examples as examples_bridge
from dspex.bridge import program as program_bridge
from dspex.bridge.identity import key_of_function
from dspex.errors import DataError, UnknownNameError
from dspex.optimizers import SEARCHES
from dspex.optimizers.definition import define
from dspex.optimizers.evaluate import Evaluator
from dspex.optimizers.ledger import Ledger
from dspex.optimizers.stats import compare
from dspex.variables import using

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import dspy

    from dspex.optimizers.definition import Budget, Examples
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
    """Runs two configurations as the registry would, on the same examples, and says whether one may replace the other.

    Parameters
    ----------
    program
        What is bound to the values; the registry's demos are shown.
    trainset, valset
        What may be searched and what only checks; without a `valset`, half of the trainset does.
    recent
        Called before each check for more examples.
    min_gain
        A candidate must gain more than this, in metric units.
    stopped
        Asked all the time; when it says yes, the check ends with `CancelledError`.

    Attributes
    ----------
    searched
        The examples for a study.
    """

    def __init__(
        self,
        program: dspy.Module,
        registry: Registry,
        *,
        trainset: Examples,
        valset: Examples | None,
        recent: Callable[[], Examples] | None,
        min_gain: float,
        seed: int,
        lm: Callable[[Any], dspy.BaseLM],
        default_lm: dspy.BaseLM,
        pool: Pool,
        store: Store,
        stopped: Callable[[], bool],
    ) -> None:
        self._program, self._registry = program, registry
        self._inputs = program_bridge.input_names(program)
        self._recent, self._min_gain = recent, min_gain
        self._lm, self._default_lm = lm, default_lm
        self._pool, self._store, self._stopped = pool, store, stopped
        train = examples_bridge.checked(trainset, what="trainset", inputs=self._inputs)
        if valset is None:
            self.searched, held = halves(train, seed=seed)
        else:
            self.searched, held = train, examples_bridge.checked(valset, what="valset", inputs=self._inputs)
        self._held = without(held, self.searched)
        if not self._held:
            raise DataError(
                "every example that should check a candidate is searched", hint="give the valset others"
            )
        self.bind(registry.configuration)  # what does not fit is said now

    def rehearse(self, optimizer: str, metric: Callable[..., Any], budget: Budget) -> None:
        """Refuse now what a study would refuse later."""
        if optimizer not in SEARCHES:  # those of DSPy vary programs, not the values of a registry
            raise UnknownNameError.among("optimizer", optimizer, SEARCHES)
        define(
            self._program,
            title="",
            space=self._registry.as_space(),
            trainset=self.searched,
            valset=None,
            metric=metric,
            optimizer=optimizer,
            budget=budget,
            name="",
            seed=0,
            lm=self._lm,
            default_lm=self._default_lm,
        )

    def bind(self, configuration: Configuration) -> dspy.Module:
        """Return the program as `execute` would run it with these values."""
        space = self._registry.space
        values = using.values_of(space, configuration, self._lm)
        return using.bound(
            space, self._program, values, default_lm=self._default_lm, examples=self._registry.demos
        )

    def compare(
        self, candidate: Configuration, current: Configuration, metric: Since, *, study: str
    ) -> Comparison:
        """Score both on every example that was not searched; the rows go to the study's ledger."""
        ledger = Ledger(study, self._store, key_of_function(metric))
        evaluator = Evaluator(metric, ledger, self._pool, stopped=self._stopped, announce=lambda _: None)
        examples = self._examples()
        return compare(*(self._scores(evaluator, values, examples) for values in (candidate, current)))

    def problem_with(self, comparison: Comparison) -> str | None:
        """Say why a gain does not suffice, or None."""
        if comparison.difference <= self._min_gain:
            return f"a gain of {comparison.difference:+.3f} is not above {self._min_gain:g}"
        if comparison.winner != 0:
            interval = f"[{comparison.low:+.3f}, {comparison.high:+.3f}]"
            return (
                f"a gain of {comparison.difference:+.3f} may be luck: {interval} on {comparison.n} examples"
            )
        return None

    def _examples(self) -> list[dspy.Example]:
        given = [] if self._recent is None else list(self._recent())
        lately = examples_bridge.checked(given, what="recent", inputs=self._inputs) if given else []
        return without([*self._held, *lately], self.searched)

    def _scores(
        self, evaluator: Evaluator, values: Configuration, examples: Sequence[dspy.Example]
    ) -> list[float]:
        key = self._registry.space.key_of(values)
        scores, _ = evaluator.evaluate(self.bind(values), self._default_lm, key, examples)
        return [score.score for score in scores]


def without(examples: Sequence[dspy.Example], others: Sequence[dspy.Example]) -> list[dspy.Example]:
    """Leave out the examples that are among the others, and what comes twice."""
    known = {examples_bridge.key_of(each) for each in others}
    left = {examples_bridge.key_of(each): each for each in examples}
    return [each for key, each in left.items() if key not in known]
