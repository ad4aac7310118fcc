"""What a run took: tokens, dollars, seconds and calls, right under threads too."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import dspy

from dspex.bridge.prices import price_of
from dspex.records import Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_current: ContextVar[Meter | None] = ContextVar("dspex_meter", default=None)


class Stopped(BaseException):
    """Ends a running program.

    DSPy swallows an `Exception` in many places (callbacks, worker threads, metrics); only a
    `BaseException` passes through all of them.
    """


class Meter:
    """DSPy's usage tracker for one run, made to survive DSPy's worker threads.

    DSPy deep-copies the tracker for each of its worker threads and then forgets the copies; this one
    answers with itself. Simulated models add their latency, which then stands in for the clock's.
    """

    def __init__(self, stop: Callable[[], bool] | None = None) -> None:
        self._lock = threading.Lock()
        self._stop = stop
        self._started = time.perf_counter()
        self._simulated_s = 0.0
        self._usage = Usage()

    def __deepcopy__(self, memo: dict[int, Any]) -> Meter:
        return self

    def add_usage(self, lm: str, usage_entry: Mapping[str, Any]) -> None:
        """Count one call to a model; DSPy calls this after each one that was not a cache hit."""
        tokens_in = int(usage_entry.get("prompt_tokens") or usage_entry.get("input_tokens") or 0)
        tokens_out = int(usage_entry.get("completion_tokens") or usage_entry.get("output_tokens") or 0)
        cost_usd = price_of(lm).cost_usd(tokens_in, tokens_out)
        with self._lock:
            self._usage += Usage(1, tokens_in, tokens_out, cost_usd)
        if self._stop is not None and self._stop():
            raise Stopped

    def add_simulated_latency(self, seconds: float) -> None:
        """Count seconds that a simulated model pretends to have taken."""
        with self._lock:
            self._simulated_s += seconds

    @property
    def usage(self) -> Usage:
        """What has been used so far."""
        with self._lock:
            latency_s = self._simulated_s or time.perf_counter() - self._started
            return self._usage + Usage(latency_s=latency_s)


@contextmanager
def metered(stop: Callable[[], bool] | None = None) -> Iterator[Meter]:
    """Measure what the calls in this context take.

    `stop` is asked after each call to a model; when it says yes, the run ends with `Stopped`.
    """
    meter = Meter(stop)
    token = _current.set(meter)
    try:
        with dspy.context(usage_tracker=meter):
            yield meter
    finally:
        _current.reset(token)


def add_simulated_latency(seconds: float) -> None:
    """Count simulated seconds on the meter in charge, if there is one."""
    meter = _current.get()
    if meter is not None:
        meter.add_simulated_latency(seconds)
