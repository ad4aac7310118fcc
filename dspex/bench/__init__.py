"""Benchmarks: each prints figures side by side with a named peer, measured in one run.

This room measures against stock DSPy, so beside `bridge/` it is the one that may import it.
"""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from dspex.bench import (
    adapters,
    apply,
    cache,
    definitions,
    native,
    optimizers,
    overhead,
    reliability,
    routing,
    scoring,
    soak,
    spaces,
    studies,
)
from dspex.errors import DataError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

BENCHMARKS: dict[str, Callable[..., None]] = {
    "adapters": adapters.run,
    "apply": apply.run,
    "cache": cache.run,
    "definitions": definitions.run,
    "native": native.run,
    "optimizers": optimizers.run,
    "overhead": overhead.run,
    "reliability": reliability.run,
    "routing": routing.run,
    "scoring": scoring.run,
    "soak": soak.run,
    "spaces": spaces.run,
    "studies": studies.run,
}
_BY_NAME_ONLY = ("soak",)
"""What takes minutes is run when it is asked for."""
_OPTIONS = {"matrix": "optimizers", "seconds": "soak", "seeds": "optimizers"}


def run(names: Sequence[str], **options: Any) -> None:
    """Run the named benchmarks, or all but the soak, and print their figures.

    Parameters
    ----------
    options
        For ``optimizers``: ``seeds`` and ``matrix``. For ``soak``: ``seconds``.

    Raises
    ------
    DataError
        If there is an option that is not the named benchmark's.
    """
    for name in names:
        if name not in BENCHMARKS:
            raise UnknownNameError.among("benchmark", name, BENCHMARKS)
    for option in options:
        if list(names) != [_OPTIONS[option]]:
            raise DataError(
                f"{option} can be set for the benchmark {_OPTIONS[option]!r} alone",
                hint=f"dspex bench {_OPTIONS[option]}",
            )
    print(
        f"dspex {version('dspex')}, DSPy {version('dspy')}, Python {platform.python_version()}, {platform.machine()}"
    )
    for name in names or [name for name in BENCHMARKS if name not in _BY_NAME_ONLY]:
        print(f"\n── {name} ──")
        BENCHMARKS[name](**options)
