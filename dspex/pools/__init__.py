"""Where work runs: pools of workers, by name.

``pools.general``, ``pools.optimizer`` and ``pools.neural`` are always there; `define` makes more.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dspex.events import correlation_id
    from dspex.pools.base import Engine, Pool, make_pool
    from dspex.pools.named import close, define, get, names, stats, stop_owned, subscribe
    from dspex.pools.output import sink
    from dspex.pools.parcels import sharing
    from dspex.pools.spec import PoolSpec
    from dspex.pools.task import owner, state

__all__ = [
    "Engine",
    "Pool",
    "PoolSpec",
    "close",
    "correlation_id",
    "define",
    "get",
    "make_pool",
    "names",
    "owner",
    "sharing",
    "sink",
    "state",
    "stats",
    "stop_owned",
    "subscribe",
]

# Each is imported when it is first used, so that `import dspex` costs milliseconds.
_HOMES = {
    "Engine": "dspex.pools.base",
    "Pool": "dspex.pools.base",
    "PoolSpec": "dspex.pools.spec",
    "close": "dspex.pools.named",
    "correlation_id": "dspex.events",
    "define": "dspex.pools.named",
    "get": "dspex.pools.named",
    "make_pool": "dspex.pools.base",
    "names": "dspex.pools.named",
    "owner": "dspex.pools.task",
    "sharing": "dspex.pools.parcels",
    "sink": "dspex.pools.output",
    "state": "dspex.pools.task",
    "stats": "dspex.pools.named",
    "stop_owned": "dspex.pools.named",
    "subscribe": "dspex.pools.named",
}


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(f"module 'dspex.pools' has no attribute {name!r}")
    if name in _HOMES:
        found = globals()[name] = getattr(importlib.import_module(_HOMES[name]), name)
        return found
    # `from dspex.pools import ...` asks here before it looks for a room of that name.
    if importlib.util.find_spec(f"dspex.pools.{name}") is not None:
        return importlib.import_module(f"dspex.pools.{name}")
    named = importlib.import_module("dspex.pools.named")
    if name in named.names():
        return named.get(name)
    from dspex.errors import did_you_mean

    hint = did_you_mean(name, [*named.names(), *__all__])
    known = ", ".join(named.names())
    raise AttributeError(f"there is no pool {name!r}; known: {known}" + (f"; {hint}" if hint else ""))


def __dir__() -> list[str]:
    named = importlib.import_module("dspex.pools.named")
    return sorted([*__all__, *named.names()])
