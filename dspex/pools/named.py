"""The pools by name: the three that there always are, and those that were defined."""

from __future__ import annotations

import importlib.util
import logging
import os
import threading
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dspex.errors import DefinitionError, PoolError, UnknownNameError
from dspex.events import EventBus, PoolDegraded
from dspex.pools.breaker import PoolBreaker
from dspex.pools.devices import plan
from dspex.pools.gpus import probe
from dspex.pools.spec import DEFAULTS, Machine, PoolSpec, excess, scaled
from dspex.pools.sweep import sweep
from dspex.reliability.breaker import Breaker, BreakerSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspex.pools.base import Engine
    from dspex.pools.cluster import Cluster
    from dspex.pools.counters import PoolStats
    from dspex.pools.devices import DevicePlan
    from dspex.pools.pool import Pool
    from dspex.pools.sessions import Session

_log = logging.getLogger("dspex.pools")
_lock = threading.RLock()
_specs: dict[str, PoolSpec] = dict(DEFAULTS)
_pools: dict[str, Pool] = {}
_made: weakref.WeakSet[Pool] = weakref.WeakSet()
_hooked = False
_cluster: Cluster | None = None
events = EventBus()
"""What happens in all pools; `subscribe` hears it."""


def names() -> list[str]:
    """Return the names of the pools that there are, used or not."""
    return sorted(_specs)


def subscribe(subscriber: Callable[..., None]) -> Callable[[], None]:
    """Call `subscriber` with every event of every pool; returns the function that stops it."""
    return events.subscribe(subscriber)


def get(name: str) -> Pool:
    """Return a pool by its name; its workers are started when they are first needed.

    Raises
    ------
    UnknownNameError
        If there is no such pool.
    """
    with _lock:
        if name not in _pools:
            if name not in _specs:
                raise UnknownNameError.among("pool", name, _specs)
            spec = _specs[name]
            if spec is DEFAULTS.get(name) and _cluster is None:
                spec, notice = scaled(name, spec, Machine.here())
                if notice is not None:
                    _log.warning("%s", notice)
            _pools[name] = make(name, spec)
        return _pools[name]


def define(name: str, spec: PoolSpec) -> Pool:
    """Define a pool, or define one anew; the one it replaces is closed.

    Examples
    --------
    >>> define("mine", PoolSpec(workers=1)).submit(pow, 2, 10).result()
    1024
    >>> close("mine")

    Raises
    ------
    DefinitionError
        If the name is no name.
    """
    if not name.isidentifier() or name.startswith("_") or _is_taken(name):
        raise DefinitionError(
            f"a pool cannot be called {name!r}",
            hint="choose a Python name that dspex.pools does not use itself",
        )
    close(name)
    machine = Machine.here()
    with _lock:
        _specs[name] = spec
    too_much = excess({name: spec}, machine)
    if too_much is not None and _cluster is None:
        _log.warning("%s", too_much)
    return get(name)


def _is_taken(name: str) -> bool:
    """Whether ``dx.pools.<name>`` is something else."""
    from dspex import pools

    return name in pools.__all__ or importlib.util.find_spec(f"dspex.pools.{name}") is not None


def make(name: str, spec: PoolSpec) -> Pool:
    """Make a pool that is in no list."""
    from dspex.pools.pool import Pool
    from dspex.pools.worker import is_worker

    if is_worker():
        raise PoolError(
            "a worker has no pools of its own",
            hint="return what is to be done, and submit it where the pools are",
        )
    _prepare()
    engine = _engine(name, spec)
    pool = Pool(name, engine.spec, engine, _breaker(name, spec))
    _made.add(pool)
    return pool


def _make_breaker(pool: str, settings: BreakerSettings | None) -> Breaker:
    # A pool settles every task, so a probe that takes long is not lost.
    return Breaker(f"pool {pool!r}", replace(settings or BreakerSettings(), probe_lease_s=float("inf")))


def _breaker(name: str, spec: PoolSpec) -> PoolBreaker | None:
    """Guard a pool of processes; threads are this process's own, and do not break."""
    if spec.profile == "thread" or spec.breaker is False:
        return None
    settings = None if spec.breaker is True else spec.breaker
    return PoolBreaker(name, _make_breaker(name, settings), events.publish)


def _placed(name: str, spec: PoolSpec) -> DevicePlan:
    """Say where a pool's workers go, aloud if that is not where they wanted to."""
    gpus = probe() if spec.device == "gpu" else []
    found = plan(name, spec, gpus, os.environ.get("CUDA_VISIBLE_DEVICES"))
    if found.notice is not None:
        _log.warning("%s", found.notice)
        events.publish(PoolDegraded(name, found.notice))
    return found


def _engine(name: str, spec: PoolSpec) -> Engine:
    if _cluster is not None and spec.profile == "process":
        from dspex.pools.dask_engine import DaskEngine

        return DaskEngine(name, spec, events.publish, _cluster)
    found = _placed(name, spec)
    if spec.profile == "thread":
        from dspex.pools.threads import ThreadEngine

        return ThreadEngine(name, found.spec, events.publish)
    from dspex.pools.local import LocalEngine

    return LocalEngine(name, found.spec, events.publish, found.placements)


def use(cluster: object | None) -> None:
    """Run pools on a dask cluster from now on; with None, on this machine again. Pools that there are begin anew.

    Threads stay where they are: a pool with ``profile="thread"`` is this process's.

    Parameters
    ----------
    cluster
        A scheduler's address, or a `dask.distributed.Client`, or a cluster object such as `LocalCluster`.

    Raises
    ------
    NotSupportedError, ClusterError, DefinitionError
        If it cannot be used; all stays as it was then.
    """
    global _cluster  # where the session's pools are
    if cluster is None and _cluster is None:
        return
    found = None
    if cluster is not None:
        from dspex.pools.cluster import Cluster

        found = Cluster(cluster)
    close()
    with _lock:
        before, _cluster = _cluster, found
    if before is not None:
        before.close()


def _close_made() -> None:
    for pool in list(_made):
        pool.close()
    if _cluster is not None:
        _cluster.close()


def close(name: str | None = None) -> None:
    """Close a pool, or all of them; one that is used again begins anew."""
    with _lock:
        closing = [
            _pools.pop(each) for each in ([name] if name is not None else list(_pools)) if each in _pools
        ]
    for pool in closing:
        pool.close()


def stats() -> dict[str, PoolStats]:
    """Return the statistics of the pools that were used."""
    with _lock:
        pools = dict(_pools)
    return {name: pool.stats() for name, pool in pools.items()}


def session(name: str) -> Session:
    """Return the session of that name, in whichever pool it is.

    Raises
    ------
    UnknownNameError
        If there is none.
    DefinitionError
        If several pools have one.
    """
    with _lock:
        found = {each: pool.sessions for each, pool in _pools.items()}
    homes = [each for each, sessions in found.items() if name in sessions]
    if not homes:
        raise UnknownNameError.among(
            "session", name, {each for sessions in found.values() for each in sessions}
        )
    if len(homes) > 1:
        raise DefinitionError(
            f"there is a session {name!r} in each of the pools {', '.join(homes)}",
            hint="give the session itself: dx.pools.get(pool).sessions[name]",
        )
    return found[homes[0]][name]


def stop_owned(owner: str) -> int:
    """Stop every task in any pool that was submitted under this owner."""
    with _lock:
        pools = list(_pools.values())
    return sum(pool.stop_owned(owner) for pool in pools)


def _prepare() -> None:
    """Sweep up once, and have the pools closed before the interpreter waits for loky's threads.

    Those wait for their tasks, so that one that hangs would hold the interpreter for ever.
    """
    global _hooked  # noqa: PLW0603  # once a process
    if _hooked:
        return
    _hooked = True
    sweep()
    from loky import process_executor

    # Called last in, first out: loky's own hook is put in first, so that ours comes before it.
    register: Any = threading._register_atexit  # type: ignore[attr-defined]  # noqa: SLF001  # as loky itself
    if process_executor.process_pool_executor_at_exit is None:
        register(process_executor._python_exit)  # noqa: SLF001  # what loky would register later
        process_executor.process_pool_executor_at_exit = True
    register(_close_made)
