"""Measuring: one program on one example, on this thread or in a worker process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from dspex.bridge import examples as examples_bridge
from dspex.bridge import observe
from dspex.bridge import prices as prices_bridge
from dspex.bridge import program as program_bridge
from dspex.bridge.observe import Stopped
from dspex.errors import PoolError, ShippingError
from dspex.pools.shipping import pack
from dspex.records import Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import dspy

    from dspex.pools.pool import Pool
    from dspex.records import Price

_POLL_S = 0.05
"""How soon a cancellation is noticed while a worker is waited for."""


class Measured(NamedTuple):
    """What a program's answer was worth, and what it took."""

    score: float
    error: str | None
    feedback: str | None
    usage: Usage


class Measure(Protocol):
    """Runs a program on an example and scores its answer; a failure is a score of 0 that says so."""

    def __call__(
        self,
        program: dspy.Module,
        lm: dspy.BaseLM,
        metric: Callable[..., Any],
        example: dspy.Example,
        stop: Callable[[], bool] | None,
    ) -> Measured:
        """Measure; once `stop` says yes, end with `observe.Stopped`."""
        ...


def here(
    program: dspy.Module,
    lm: dspy.BaseLM,
    metric: Callable[..., Any],
    example: dspy.Example,
    stop: Callable[[], bool] | None,
) -> Measured:
    """Measure on this thread."""
    inputs = examples_bridge.inputs_of(example)
    prediction, outcome = program_bridge.run(program, inputs, lm, failures=(Exception,), stop=stop)
    if prediction is None:
        # What a model did wrong is told in a sentence; the way into DSPy's client tells nobody anything.
        told = outcome.traceback if outcome.hint is None else f"{outcome.error}\n  → {outcome.hint}"
        return Measured(0.0, told, None, outcome.usage)
    found, judging = program_bridge.judged(metric, example, prediction, lm, stop=stop)
    return Measured(found.score, found.error, found.feedback, outcome.usage + judging)


class InWorkers:
    """Measures in the worker processes of a pool; a program that crashes its process scores 0."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    def check(self, program: dspy.Module, metric: Callable[..., Any]) -> None:
        """Refuse what cannot travel to a worker, before anything runs.

        Raises
        ------
        ShippingError
            With the part that cannot.
        """
        pack("the program", program)
        pack("the metric", metric)

    def __call__(
        self,
        program: dspy.Module,
        lm: dspy.BaseLM,
        metric: Callable[..., Any],
        example: dspy.Example,
        stop: Callable[[], bool] | None,
    ) -> Measured:
        """Have it measured in a worker, and wait."""
        adapter, prices = program_bridge.adapter_in_force(), prices_bridge.declared()
        future = self.pool.submit_exempt(_there, program, lm, metric, example, adapter, prices)
        while True:
            try:
                found, spent = future.result(_POLL_S)
            except TimeoutError:
                if stop is not None and stop():
                    future.stop()
                    raise Stopped from None
            except ShippingError:
                raise
            except PoolError as error:
                return Measured(0.0, f"{type(error).__name__}: {error}", None, Usage())
            else:
                for model, usage in spent:
                    observe.tell(model, usage)
                return found  # type: ignore[no-any-return]  # what `_there` returns


def _there(
    program: dspy.Module,
    lm: dspy.BaseLM,
    metric: Callable[..., Any],
    example: dspy.Example,
    adapter: dspy.Adapter | None,
    prices: Mapping[str, Price],
) -> tuple[Measured, list[tuple[str, Usage]]]:
    """Measure, and bring along what each call took: the session that spends it is another process's."""
    for name, price in prices.items():
        prices_bridge.declare(name, price)
    spent: list[tuple[str, Usage]] = []
    unlisten = observe.listen(lambda model, usage: spent.append((model, usage)))
    try:
        with program_bridge.adapted(adapter):
            return here(program, lm, metric, example, None), spent
    finally:
        unlisten()
