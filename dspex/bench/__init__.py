"""Benchmarks: each prints figures side by side with a named peer, measured in one run.

This room measures against stock DSPy, so beside `bridge/` it is the one that may import it.
"""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import TYPE_CHECKING

from dspex.bench import definitions, native, overhead, pools, routing, scoring
from dspex.errors import UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

BENCHMARKS: dict[str, Callable[[], None]] = {
    "definitions": definitions.run,
    "native": native.run,
    "overhead": overhead.run,
    "pools": pools.run,
    "routing": routing.run,
    "scoring": scoring.run,
}


def run(names: Sequence[str]) -> None:
    """Run the named benchmarks, or all of them, and print their figures."""
    for name in names:
        if name not in BENCHMARKS:
            raise UnknownNameError.among("benchmark", name, BENCHMARKS)
    print(
        f"dspex {version('dspex')}, DSPy {version('dspy')}, Python {platform.python_version()}, {platform.machine()}"
    )
    for name in names or BENCHMARKS:
        print(f"\n── {name} ──")
        BENCHMARKS[name]()
