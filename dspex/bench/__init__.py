"""Benchmarks: each prints figures side by side with a named peer, measured in one run.

This room measures against stock DSPy, so beside `bridge/` it is the one that may import it.
"""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import TYPE_CHECKING

from dspex.bench import definitions, native, overhead, reliability, routing, scoring, soak
from dspex.errors import UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

BENCHMARKS: dict[str, Callable[[], None]] = {
    "definitions": definitions.run,
    "native": native.run,
    "overhead": overhead.run,
    "reliability": reliability.run,
    "routing": routing.run,
    "scoring": scoring.run,
    "soak": soak.run,
}
_BY_NAME_ONLY = ("soak",)
"""What takes minutes is run when it is asked for."""


def run(names: Sequence[str]) -> None:
    """Run the named benchmarks, or all but the soak, and print their figures."""
    for name in names:
        if name not in BENCHMARKS:
            raise UnknownNameError.among("benchmark", name, BENCHMARKS)
    print(
        f"dspex {version('dspex')}, DSPy {version('dspy')}, Python {platform.python_version()}, {platform.machine()}"
    )
    for name in names or [name for name in BENCHMARKS if name not in _BY_NAME_ONLY]:
        print(f"\n── {name} ──")
        BENCHMARKS[name]()
