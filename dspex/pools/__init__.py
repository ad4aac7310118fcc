"""Where work runs: pools of workers, by name.

``pools.general``, ``pools.optimizer`` and ``pools.neural`` are always there; `define` makes more.
"""

from __future__ import annotations

from typing import Any

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


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(f"module 'dspex.pools' has no attribute {name!r}")
    if name in names():
        return get(name)
    from dspex.errors import did_you_mean

    hint = did_you_mean(name, [*names(), *__all__])
    known = ", ".join(names())
    raise AttributeError(f"there is no pool {name!r}; known: {known}" + (f"; {hint}" if hint else ""))


def __dir__() -> list[str]:
    return sorted([*__all__, *names()])
