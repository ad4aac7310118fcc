"""Overload: twice the calls that the slots can serve, for a while, and how soon all is well again afterwards."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dspex.bench.timing import print_rows
from dspex.errors import DspexError
from dspex.reliability import deadline
from dspex.reliability.limits import Bulkhead

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    Slot = Callable[[], AbstractAsyncContextManager[None]]

_SLOTS = 20
_SERVICE_S = 0.05
_DEADLINE_S = 1.0
_CALM_S = 3.0
_OVERLOAD_S = 6.0
_LOADS = (0.5, 2.0, 0.5)
"""Of what the slots can serve: before, during and after."""
_AT_ONCE_S = 4 * _SERVICE_S
"""What is answered within so long has hardly waited."""


@dataclass(slots=True)
class _Call:
    at_s: float
    took_s: float
    is_good: bool


def print_overload() -> None:
    """Print how our bulkhead and a semaphore, whose queue has no bound, come through."""
    for name, slot in (("dspex", _ours()), ("asyncio.Semaphore", _semaphore())):
        calls = asyncio.run(_drive(slot))
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

    @asynccontextmanager
    async def slot() -> AsyncIterator[None]:
        with deadline.within(_DEADLINE_S):
            async with bulkhead.aslot():
                yield

    return slot


def _semaphore() -> Slot:
    semaphore = asyncio.Semaphore(_SLOTS)

    @asynccontextmanager
    async def slot() -> AsyncIterator[None]:
        async with semaphore:
            yield

    return slot


async def _drive(slot: Slot) -> list[_Call]:
    rng, began, calls, tasks = random.Random(0), time.monotonic(), list[_Call](), set[asyncio.Task[None]]()
    ends = (_CALM_S, _CALM_S + _OVERLOAD_S, 2 * _CALM_S + _OVERLOAD_S)
    at_s = 0.0
    for load, end_s in zip(_LOADS, ends, strict=True):
        while at_s < end_s:
            at_s += rng.expovariate(load * _SLOTS / _SERVICE_S)
            await asyncio.sleep(max(0.0, began + at_s - time.monotonic()))
            task = asyncio.create_task(_call(slot, at_s, calls))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    return calls


async def _call(slot: Slot, at_s: float, calls: list[_Call]) -> None:
    began = time.monotonic()
    try:
        async with asyncio.timeout(_DEADLINE_S), slot():
            await asyncio.sleep(_SERVICE_S)
    except (TimeoutError, DspexError):
        calls.append(_Call(at_s, time.monotonic() - began, is_good=False))
    else:
        calls.append(_Call(at_s, time.monotonic() - began, is_good=True))


def _recovered_s(calls: list[_Call]) -> float:
    """Say when, after the overload's end, calls were first answered at once, and were from then on."""
    end_s = _CALM_S + _OVERLOAD_S
    late = [
        call.at_s for call in calls if call.at_s >= end_s and not (call.is_good and call.took_s < _AT_ONCE_S)
    ]
    return max(late, default=end_s) - end_s
