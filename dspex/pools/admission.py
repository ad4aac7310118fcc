"""Admission: who may wait in a pool's queue, and what becomes of one too many.

All of it is called under the engine's lock.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from dspex.pools.refusals import busy, closed, saturated

if TYPE_CHECKING:
    from dspex.pools.books import Books
    from dspex.pools.task import Task


def check(engine: Books, task: Task) -> None:
    """Refuse a task that has no business here, however much room there is.

    Raises
    ------
    PoolClosedError
        If the pool is closed.
    PoolError
        If the engine refuses it, such as a call that has cost too many workers before.
    WorkerBusyError, SessionLostError
        If its session's worker cannot take it.
    """
    if engine.is_closed:
        raise closed(engine.name)
    engine.refuse(task)
    session = task.session
    if session is None:
        return
    if session.is_lost:
        raise session.lost_error()
    is_busy = session.pending or (session.slot is not None and session.slot.inflight)
    if session.affinity == "strict_fail_fast" and is_busy:
        raise busy(session)


def make_room(engine: Books, task: Task) -> Task | None:
    """Make room for one more, the way the pool was asked to; returns the task that gives way.

    Raises
    ------
    PoolSaturatedError
        If there is none.
    """
    if len(engine.queue) < engine.spec.queue_limit:
        return None
    overflow = engine.spec.overflow
    if overflow == "drop_oldest" and (oldest := engine.queue.oldest()) is not None:
        engine.queue.discard(oldest)
        engine.counters.dropped += 1
        return oldest
    if overflow == "block" and _wait_for_room(engine, task):
        return None
    engine.counters.rejected += 1
    run_s = engine.counters.mean_run_s()
    raise saturated(engine.name, engine.spec, queued=len(engine.queue), run_s=run_s)


def _wait_for_room(engine: Books, task: Task) -> bool:
    patience_s = engine.spec.queue_timeout_s
    if task.deadline is not None:
        patience_s = min(patience_s, task.deadline - time.monotonic())
    engine.blocked += 1
    try:
        has_room = engine.changed.wait_for(
            lambda: len(engine.queue) < engine.spec.queue_limit or engine.is_closed, patience_s
        )
    finally:
        engine.blocked -= 1
    if has_room:
        check(engine, task)  # much may have happened meanwhile
    return has_room
