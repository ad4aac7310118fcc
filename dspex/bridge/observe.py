"""What a run took: tokens, dollars, seconds and calls, right under threads too."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import dspy
from dspy.utils.callback import BaseCallback

from dspex.bridge.prices import price_of
from dspex.records import Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


class Stopped(BaseException):
    """Ends a running program.

    DSPy swallows an `Exception` in many places (callbacks, worker threads, metrics); only a
    `BaseException` passes through all of them.
    """


class Tally:
    """What one run of a program within a larger piece of work takes."""

    def __init__(self) -> None:
        self.usage = Usage()


tally_in_charge: ContextVar[Tally | None] = ContextVar("dspex_tally", default=None)
"""The run that calls to models on this thread belong to."""

rollout_asked: ContextVar[int] = ContextVar("dspex_rollout", default=0)
"""Which draw of a request the call under way asks for: DSPy keeps it from the engines."""


_listeners: tuple[Callable[[str, Usage], None], ...] = ()
_listening = threading.Lock()


def listen(listener: Callable[[str, Usage], None]) -> Callable[[], None]:
    """Tell `listener` of each call to a model, by the model's name; returns the function that stops it."""
    global _listeners  # noqa: PLW0603  # DSPy's tracker is global too
    with _listening:
        _listeners = (*_listeners, listener)

    def unlisten() -> None:
        global _listeners  # noqa: PLW0603
        with _listening:
            _listeners = tuple(each for each in _listeners if each != listener)

    return unlisten


class Meter:
    """DSPy's usage tracker for one run, made to survive DSPy's worker threads.

    DSPy deep-copies the tracker for each of its worker threads and then forgets the copies; this one
    answers with itself. Simulated models add their latency, which then stands in for the clock's.

    A meter within another one's context counts for both.
    """

    def __init__(self, stop: Callable[[], bool] | None = None, outer: Meter | None = None) -> None:
        self._lock = threading.Lock()
        self._stop = stop
        self._outer = outer
        self._started = time.perf_counter()
        self._simulated_s = 0.0
        self._usage = Usage()

    def __deepcopy__(self, memo: dict[int, Any]) -> Meter:
        return self

    def add_usage(self, lm: str, usage_entry: Mapping[str, Any]) -> None:
        """Count one call to a model; DSPy calls this after each one that was not a cache hit."""
        tokens_in = int(usage_entry.get("prompt_tokens") or usage_entry.get("input_tokens") or 0)
        tokens_out = int(usage_entry.get("completion_tokens") or usage_entry.get("output_tokens") or 0)
        self.count(lm, Usage(1, tokens_in, tokens_out, price_of(lm).cost_usd(tokens_in, tokens_out)))

    def count(self, lm: str, used: Usage) -> None:
        """Count one call to a model, priced already."""
        with self._lock:
            self._usage += used
        tally = tally_in_charge.get()
        if tally is not None and self._outer is None:
            tally.usage += used
        if self._outer is not None:
            self._outer.count(lm, used)
        else:
            tell(lm, used)
        self.check()

    def check(self) -> None:
        """End the run if it is to stop."""
        if self._stop is not None and self._stop():
            raise Stopped

    def add_simulated_latency(self, seconds: float) -> None:
        """Count seconds that a simulated model pretends to have taken."""
        with self._lock:
            self._simulated_s += seconds
        tally = tally_in_charge.get()
        if tally is not None and self._outer is None:
            tally.usage += Usage(latency_s=seconds)
        if self._outer is not None:
            self._outer.add_simulated_latency(seconds)

    @property
    def usage(self) -> Usage:
        """What has been used so far."""
        with self._lock:
            latency_s = self._simulated_s or time.perf_counter() - self._started
            return self._usage + Usage(latency_s=latency_s)


def count(lm: str, used: Usage) -> None:
    """Count a call to a model that went past DSPy: on the meter in charge, and for whoever listens."""
    counted, meter = replace(used, latency_s=0.0), _current()
    if meter is not None:
        meter.count(lm, counted)
    else:
        tell(lm, counted)


def tell(lm: str, used: Usage) -> None:
    """Tell whoever listens of calls to a model, such as those of another process."""
    for listener in _listeners:
        listener(lm, used)


class _Gate(BaseCallback):  # type: ignore[misc]  # dspy is untyped
    """Lets no further call to a model begin once the run is to stop, in whichever thread it would."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def on_lm_start(self, call_id: str, instance: Any, inputs: Mapping[str, Any]) -> None:  # noqa: ARG002  # DSPy's protocol
        self._meter.check()
        note_rollout(instance, inputs)


def note_rollout(lm: dspy.BaseLM, inputs: Mapping[str, Any]) -> None:
    """Note which draw of its request a call that begins asks for."""
    asked = {**lm.kwargs, **(inputs.get("kwargs") or {})}.get("rollout_id")
    rollout_asked.set(int(asked or 0))


@contextmanager
def drawing(rollout: int | None) -> Iterator[None]:
    """Let the calls in this context ask for one draw of their requests; None for the first."""
    token = rollout_asked.set(rollout or 0)
    try:
        yield
    finally:
        rollout_asked.reset(token)


@contextmanager
def metered(stop: Callable[[], bool] | None = None, *, is_gated: bool = True) -> Iterator[Meter]:
    """Measure what the calls in this context take.

    `stop` is asked before and after each call to a model; when it says yes, the run ends with `Stopped`.
    Without a gate it is asked only afterwards, and whoever sets this up asks before.
    """
    meter = Meter(stop, _current())
    settings: dict[str, Any] = {"usage_tracker": meter}
    if stop is not None and is_gated:
        settings["callbacks"] = [*(dspy.settings.callbacks or ()), _Gate(meter)]
    # The calls within note their own draws, and those after it are none of theirs.
    with drawing(rollout_asked.get()), dspy.context(**settings):
        yield meter


def add_simulated_latency(seconds: float) -> None:
    """Count simulated seconds on the meter in charge, if there is one."""
    meter = _current()
    if meter is not None:
        meter.add_simulated_latency(seconds)


def _current() -> Meter | None:
    # DSPy carries its settings into its own worker threads; a context variable of ours would stay behind.
    tracker = dspy.settings.usage_tracker
    return tracker if isinstance(tracker, Meter) else None
