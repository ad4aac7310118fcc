"""Overload: twice the calls that the slots can serve, for a while, and how soon all is well again afterwards."""

from __future__ import annotations

import random
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dspex.bench.timing import print_rows
from dspex.errors import DspexError
from dspex.reliability import deadline
from dspex.reliability.limits import Bulkhead

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    Slot = Callable[[], AbstractContextManager[None]]

_SLOTS = 20
_SERVICE_S = 0.05
_DEADLINE_S = 1.0
_CALM_S = 3.0
_OVERLOAD_S = 6.0
_LOADS = (0.5, 2.0, 0.5)
"""Of what the slots can serve: before, during and after."""
_THREADS = 1_000
"""More than calls that wait at once, so that no call waits for anything but a slot."""
_AT_ONCE_S = 4 * _SERVICE_S
"""What is answered within so long has hardly waited."""


@dataclass(slots=True)
class _Call:
    at_s: float
    took_s: float
    is_good: bool


def print_overload() -> None:
    """Print how our bulkhead and a semaphore, whose queue has no bound, come through."""
    for name, slot in (("dspex", _ours()), ("threading.Semaphore", _semaphore())):
        calls = _drive(slot)
        during = [call for call in calls if _CALM_S <= call.at_s < _CALM_S + _OVERLOAD_S]
        good = [call.took_s for call in during if call.is_good]
        servable = _OVERLOAD_S * _SLOTS / _SERVICE_S
        print_rows({f"twice the load, good of what can be served: {name}": 100 * len(good) / servable}, "%")
        cuts = statistics.quantiles(good, n=100) if len(good) > 1 else [0.0] * 99
        print_rows(
            {f"  half of these within: {name}": cuts[49], f"  99 of 100 within: {name}": cuts[98]}, "s"
        )
        print_rows({f"  all well again after: {name}": _recovered_s(calls)}, "s")


def _ours() -> Slot:
    bulkhead = Bulkhead("bench", slots=_SLOTS)

    @contextmanager
    def slot() -> Iterator[None]:
        with deadline.within(_DEADLINE_S), bulkhead.slot():
            yield

    return slot


def _semaphore() -> Slot:
    semaphore = threading.Semaphore(_SLOTS)

    @contextmanager
    def slot() -> Iterator[None]:
        if not semaphore.acquire(timeout=_DEADLINE_S):
            raise TimeoutError
        try:
            yield
        finally:
            semaphore.release()

    return slot


def _drive(slot: Slot) -> list[_Call]:
    rng, began, calls = random.Random(0), time.monotonic(), list[_Call]()
    ends = (_CALM_S, _CALM_S + _OVERLOAD_S, 2 * _CALM_S + _OVERLOAD_S)
    at_s = 0.0
    with ThreadPoolExecutor(_THREADS) as threads:
        for load, end_s in zip(_LOADS, ends, strict=True):
            while at_s < end_s:
                at_s += rng.expovariate(load * _SLOTS / _SERVICE_S)
                time.sleep(max(0.0, began + at_s - time.monotonic()))
                threads.submit(_call, slot, at_s, calls)
    return calls


def _call(slot: Slot, at_s: float, calls: list[_Call]) -> None:
    began = time.monotonic()
    try:
        with slot():
            time.sleep(_SERVICE_S)
    except (TimeoutError, DspexError):
        is_good = False
    else:
        is_good = time.monotonic() - began <= _DEADLINE_S
    calls.append(_Call(at_s, time.monotonic() - began, is_good))


def _recovered_s(calls: list[_Call]) -> float:
    """Say when, after the overload's end, calls were first answered at once, and were from then on."""
    end_s = _CALM_S + _OVERLOAD_S
    late = [
        call.at_s for call in calls if call.at_s >= end_s and not (call.is_good and call.took_s < _AT_ONCE_S)
    ]
    return max(late, default=end_s) - end_s
