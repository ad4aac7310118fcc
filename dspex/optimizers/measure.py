"""Measuring: one program on one example, on this thread or in a worker process."""

from __future__ import annotations

import concurrent.futures
import contextvars
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from dspex.bridge import examples as examples_bridge
from dspex.bridge import program as program_bridge
from dspex.bridge.elsewhere import Errand
from dspex.bridge.observe import Stopped
from dspex.errors import (
    CircuitOpenError,
    ClusterError,
    PoolError,
    ShippingError,
    TaskTimeoutError,
    WorkerStartError,
)
from dspex.pools.shipping import pack
from dspex.records import Usage

if TYPE_CHECKING:
    from collections.abc import Callable

    import dspy

    from dspex.errors import DspexError
    from dspex.pools.pool import Pool
    from dspex.pools.task import TaskFuture

_POLL_S = 0.05
"""How soon a cancellation is noticed while a worker is waited for."""
_PROBED_S = 0.5
"""How long a pool is given at least to find out whether it is well again."""
_PATIENCE_S = 150.0
"""How long an example waits for a pool that is broken; somewhat longer than its breaker stays open."""


class Measured(NamedTuple):
    """What a program's answer was worth, and what it took."""

    score: float
    error: str | None
    feedback: str | None
    usage: Usage
    failure: DspexError | None = None
    """What a model's provider did wrong, or that the time was up; None if the program or the metric failed."""


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
        return Measured(0.0, told, None, outcome.usage, outcome.failure)
    found, judging = program_bridge.judged(metric, example, prediction, lm, stop=stop)
    return Measured(found.score, found.error, found.feedback, outcome.usage + judging, found.failure)


class Timed:
    """Measures as another one does, in limited time; what takes longer scores 0 and is left behind."""

    def __init__(self, measure: Measure, timeout_s: float) -> None:
        self._measure, self._timeout_s = measure, timeout_s

    def __call__(
        self,
        program: dspy.Module,
        lm: dspy.BaseLM,
        metric: Callable[..., Any],
        example: dspy.Example,
        stop: Callable[[], bool] | None,
    ) -> Measured:
        """Measure on a thread that can be left behind."""
        given_up = threading.Event()
        answer: concurrent.futures.Future[Measured] = concurrent.futures.Future()

        def stopped() -> bool:
            return given_up.is_set() or (stop is not None and stop())

        def work() -> None:
            try:
                answer.set_result(self._measure(program, lm, metric, example, stopped))
            except BaseException as error:  # noqa: BLE001  # a future carries whatever ended its task
                answer.set_exception(error)

        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(work,), name="dspex-timed", daemon=True).start()
        try:
            return answer.result(timeout=self._timeout_s)
        except TimeoutError:
            given_up.set()
            late = TaskTimeoutError(f"the example took longer than {self._timeout_s:g} s")
            return Measured(
                0.0, f"TimeoutError: {late.message}", None, Usage(latency_s=self._timeout_s), late
            )


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
        """Have it measured in a worker, and wait.

        Raises
        ------
        CircuitOpenError, WorkerStartError, ClusterError
            If the pool is broken.
        """
        return self._waited(
            self.pool.submit_exempt(Errand(partial(here, program, lm, metric, example, None))), stop
        )

    def _waited(self, future: TaskFuture, stop: Callable[[], bool] | None) -> Measured:
        while True:
            try:
                returned = future.result(_POLL_S)
            except TimeoutError:
                if stop is not None and stop():
                    future.stop()
                    raise Stopped from None
            except (ShippingError, WorkerStartError, ClusterError):
                raise
            except PoolError as error:
                return Measured(0.0, f"{type(error).__name__}: {error}", None, Usage())
            else:
                return returned.counted()  # type: ignore[no-any-return]  # what `here` returns


class Recovering:
    """Measures as another one does, and again once the pool that it does so in is well.

    A pool that is broken says nothing of a program: it is waited for, and if it stays so, the study ends. The
    waiting belongs to no example, so it stands before their time limits and the slots of their models.
    """

    def __init__(self, measure: Measure) -> None:
        self._measure = measure

    def __call__(
        self,
        program: dspy.Module,
        lm: dspy.BaseLM,
        metric: Callable[..., Any],
        example: dspy.Example,
        stop: Callable[[], bool] | None,
    ) -> Measured:
        """Measure, as often as the pool is broken and there is patience.

        Raises
        ------
        CircuitOpenError, WorkerStartError, ClusterError
            If the pool stays broken.
        """
        patience_ends: float | None = None
        while True:
            try:
                return self._measure(program, lm, metric, example, stop)
            except (CircuitOpenError, WorkerStartError, ClusterError) as error:
                now, pause_s = time.monotonic(), max(_PROBED_S, getattr(error, "retry_after_s", None) or 0.0)
                patience_ends = now + _PATIENCE_S if patience_ends is None else patience_ends
                if now + pause_s > patience_ends:
                    raise
            _pause(pause_s, stop)


def _pause(seconds: float, stop: Callable[[], bool] | None) -> None:
    ends = time.monotonic() + seconds
    while (left_s := ends - time.monotonic()) > 0:
        if stop is not None and stop():
            raise Stopped
        time.sleep(min(left_s, _POLL_S))
