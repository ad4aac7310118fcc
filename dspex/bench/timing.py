"""How times are taken: interleaved calls, thread CPU time, medians."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def medians_us(calls: Mapping[str, Callable[[], object]], *, repeats: int = 300) -> dict[str, float]:
    """Time several calls in turn and return each one's median thread CPU time, in microseconds.

    Taking turns lets a change of the machine's speed hit all of them alike; CPU time leaves out what
    other programs did meanwhile.
    """
    taken: dict[str, list[int]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(repeats):
        for name, call in calls.items():
            began = time.thread_time_ns()
            call()
            taken[name].append(time.thread_time_ns() - began)
    return {name: statistics.median(times) / 1e3 for name, times in taken.items()}


def print_rows(rows: Mapping[str, float], unit: str) -> None:
    """Print one figure a line."""
    for name, value in rows.items():
        print(f"  {name:<58}{value:>12,.2f} {unit}")
