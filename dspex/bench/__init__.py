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
    builtin,
    cache,
    definitions,
    joint,
    native,
    neural,
    optimizers,
    overhead,
    pools,
    reliability,
    routing,
    scoring,
    soak,
    spaces,
    studies,
    together,
)
from dspex.errors import DataError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

BENCHMARKS: dict[str, Callable[..., None]] = {
    "adapters": adapters.run,
    "apply": apply.run,
    "cache": cache.run,
    "definitions": definitions.run,
    "gpu": neural.run,
    "joint": joint.run,
    "native": native.run,
    "optimizers": optimizers.run,
    "overhead": overhead.run,
    "pools": pools.run,
    "reliability": reliability.run,
    "routing": routing.run,
    "scoring": scoring.run,
    "small": builtin.run,
    "soak": soak.run,
    "spaces": spaces.run,
    "studies": studies.run,
    "together": together.run,
}
_BY_NAME_ONLY = ("soak",)
"""What takes minutes is run when it is asked for."""

_OPTIONS = {"optimizers": ("seeds", "matrix"), "joint": ("seeds",), "soak": ("seconds",)}


def run(names: Sequence[str], **options: Any) -> None:
    """Run the named benchmarks, or all but the soak, and print their figures.

    Parameters
    ----------
    options
        For ``optimizers``: ``seeds`` and ``matrix``; for ``joint``: ``seeds``; for ``soak``: ``seconds``.

    Raises
    ------
    DataError
        If there are options, and not just one benchmark that takes them is named.
    """
    for name in names:
        if name not in BENCHMARKS:
            raise UnknownNameError.among("benchmark", name, BENCHMARKS)
    for option in options:
        takers = [name for name, taken in _OPTIONS.items() if option in taken]
        if len(names) != 1 or names[0] not in takers:
            raise DataError(
                f"{option} can be set for one benchmark alone: {' or '.join(takers)}",
                hint=f"dspex bench {takers[0]}",
            )
    print(
        f"dspex {version('dspex')}, DSPy {version('dspy')}, Python {platform.python_version()}, {platform.machine()}"
    )
    for name in names or [name for name in BENCHMARKS if name not in _BY_NAME_ONLY]:
        print(f"\n── {name} ──")
        BENCHMARKS[name](**options)
