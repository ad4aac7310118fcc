"""What a pool says when it does not do what it was asked to, and what to do then."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from dspex.errors import (
    CancelledError,
    PoisonTaskError,
    PoolClosedError,
    PoolError,
    PoolSaturatedError,
    TaskTimeoutError,
    WorkerBusyError,
    WorkerMemoryError,
)
from dspex.pools.shipping import unpack_error

if TYPE_CHECKING:
    from dspex.pools.crashes import Death
    from dspex.pools.sessions import Session
    from dspex.pools.spec import PoolSpec
    from dspex.pools.task import Task
    from dspex.pools.worker import Reply

_MORE_ROOM = 'raise queue_limit, or let callers wait: overflow="block"'


def closed(pool: str) -> PoolClosedError:
    """Refuse a task after the end."""
    return PoolClosedError(f"the pool {pool!r} is closed", hint=f"dx.pools.get({pool!r}) begins anew")


def saturated(pool: str, spec: PoolSpec, *, queued: int, run_s: float) -> PoolSaturatedError:
    """Refuse a task as too many wait; says how many, and when there should be room."""
    after_s = max(0.1, queued * run_s / spec.workers)
    return PoolSaturatedError(
        f"the pool {pool!r} is full: {queued} tasks wait for {spec.workers} workers",
        retry_after_s=after_s,
        hint=f"come back in about {math.ceil(after_s)} s; or {_MORE_ROOM}",
    )


def displaced(pool: str, spec: PoolSpec) -> PoolSaturatedError:
    """Fail a task that waited, for the sake of a newer one."""
    return PoolSaturatedError(
        f"a newer task took its place in the queue of pool {pool!r}, which holds {spec.queue_limit}",
        hint=_MORE_ROOM,
    )


def busy(session: Session) -> WorkerBusyError:
    """Refuse a call of a session that does not wait."""
    return WorkerBusyError(
        f"the worker of session {session.name!r} is busy",
        hint='try again later, or let its calls wait: affinity="strict_queue"',
    )


def stopped(task: Task, *, was_killed: bool = False) -> PoolError | CancelledError:
    """Say why a running task was stopped."""
    how = "; it did not heed that, so its worker was replaced" if was_killed else ""
    if task.stop_reason == "timeout":
        return TaskTimeoutError(
            f"task {task.number} ran for longer than timeout_s={task.timeout_s:g} and was stopped{how}",
            hint="give it a larger timeout_s, or less to do",
        )
    if task.stop_reason == "deadline":
        return TaskTimeoutError(
            f"task {task.number} was stopped at its deadline{how}", hint="give it a later one"
        )
    return CancelledError(f"task {task.number} was stopped{how}")


def late(task: Task, pool: str, *, queued: int, workers: int) -> TaskTimeoutError:
    """Say that a task waited until its deadline."""
    waited_s = time.monotonic() - task.submitted_at
    return TaskTimeoutError(
        f"task {task.number} waited {waited_s:.2f} s in the queue of pool {pool!r}, until its deadline, and never "
        f"began; {queued} more wait for {workers} workers",
        hint="give it a later deadline or a higher priority, or the pool more workers",
    )


def out_of_memory(pool: str, limit_mib: int | None, text: str, peak_mib: int) -> WorkerMemoryError:
    """Say that a task wanted more than its worker may hold."""
    return WorkerMemoryError(
        f"a worker of pool {pool!r} may hold {limit_mib} MiB, and the task wanted more; "
        f"it had held {peak_mib} MiB" + (f": {text}" if text else ""),
        limit_mib=limit_mib,
        peak_mib=peak_mib,
        hint="give it less at a time, or use a pool with a larger memory_mib",
    )


def device_full(pool: str, spec: PoolSpec, text: str, peak_mib: int) -> WorkerMemoryError:
    """Say that a task wanted more of its GPU than there is for it; the worker and its sessions stay."""
    limit_mib = spec.gpu_memory_mib or spec.memory_mib
    share = "what is free of its GPU" if limit_mib is None else f"{limit_mib} MiB of its GPU"
    return WorkerMemoryError(
        f"a worker of pool {pool!r} may hold {share}, and the task wanted more; it had held {peak_mib} MiB: {text}",
        limit_mib=limit_mib,
        peak_mib=peak_mib,
        hint="give it less at a time, or use a pool with fewer workers and a larger gpu_memory_mib",
    )


def poisonous(cost: int, death: Death) -> PoisonTaskError:
    """Say that a call is not tried again."""
    return PoisonTaskError(
        f"this call has cost {cost} workers, the last by {death.text}, and is not tried again",
        kind=death.kind,
        exit_code=death.exit_code,
        hint="its function and arguments crash the process they run in; run them alone to see why",
    )


def failure(task: Task, reply: Reply, pool: str, spec: PoolSpec) -> BaseException:
    """Say what a reply says that brings no result."""
    if reply.status == "stopped":
        return stopped(task)
    if reply.status == "memory":
        return out_of_memory(pool, spec.memory_mib, reply.content.decode(), reply.peak_mib)
    if reply.status == "device memory":
        return device_full(pool, spec, reply.content.decode(), reply.peak_mib)
    return unpack_error(reply.content)


def unreadable(error: Exception) -> PoolError:
    """Say that a result came, and cannot be read."""
    return PoolError(f"the result cannot be read here: {error!r}")
