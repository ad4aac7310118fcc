"""What is done when a worker has died: who was to blame, what is tried again, what its callers are told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from dspex.errors import WorkerCrashedError
from dspex.events import SessionEnded, TaskRetried, WorkerDied, WorkerRecycled
from dspex.pools import parcels
from dspex.pools.crashes import Death, classify
from dspex.pools.refusals import out_of_memory, poisonous, stopped

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from dspex.errors import PoolError
    from dspex.pools.counters import Counters
    from dspex.pools.crashes import Quarantine
    from dspex.pools.local import LocalEngine
    from dspex.pools.slot import Slot
    from dspex.pools.task import Task


class Undertaking(Protocol):
    """What an engine has to have for its tasks to be settled when a worker has died."""

    name: str
    lock: threading.Lock
    counters: Counters
    quarantine: Quarantine
    publish: Callable[[Any], None]

    def fail(self, task: Task, error: BaseException, seconds: float | None = None) -> None:
        """Count a task as over, and raise this where its result is asked for."""
        ...

    def wait_again(self, task: Task) -> None:
        """Put a task that was given out back where it stood."""
        ...


_WORDS = {
    "hung": "hung (no sign of life, and no use of the processor)",
    "memory": "holding more memory than it may",
    "recycled": "being replaced in time",
}


def is_over(engine: LocalEngine, slot: Slot) -> bool:
    """Whether a worker is dead, and loky has said so for each of its tasks.

    What it had answered before comes first; until then its tasks are not settled.
    """
    if slot.error is not None and slot.process is None:
        return True
    if not slot.is_gone:
        slot.kill()  # loky calls it broken, but it lives
        return False
    with engine.lock:
        return all(future.done() and future.exception() is not None for _, future in slot.inflight)


def bury(engine: LocalEngine, slot: Slot) -> Death:
    """Settle all that a dead worker has left; returns what it died of."""
    for _, _, finish in slot.parked:
        finish()
    begun = engine.board.read(slot.record).task
    death = _death(slot, slot.close())
    parcels.sweep_after(parcels.results_of(engine.board.path, slot.pid or 0))
    with engine.lock:
        engine.slots.remove(slot)
        tasks = [task for task, _ in slot.inflight]
        slot.inflight.clear()
        waiting = engine.queue.release(slot)
        lost = engine.sessions.of(slot)
        for session in lost:
            session.lose()
        _count(engine, slot)
    _tell(engine, slot, death)
    for session in lost:
        engine.publish(SessionEnded(engine.name, session.name, "lost"))
    for position, task in enumerate(tasks):
        # A worker takes its tasks in order, so only the first can have been running, if it had begun.
        if position == 0 and begun == task.number:
            _settle(engine, task, slot, death)
        else:
            give_back(engine, task)
    for task in waiting:
        give_back(engine, task)
    return death


def _count(engine: LocalEngine, slot: Slot) -> None:
    if slot.killed_for == "recycled":
        engine.counters.recycled += 1
    elif slot.killed_for is not None:
        engine.counters.stopped += 1
    else:
        engine.counters.crashed += 1


def _tell(engine: LocalEngine, slot: Slot, death: Death) -> None:
    is_expected = slot.killed_for == "recycled"
    engine.publish(
        WorkerDied(engine.name, slot.name, slot.pid or 0, death.kind, death.exit_code, is_expected)
    )
    if is_expected:
        engine.publish(WorkerRecycled(engine.name, slot.name, slot.due or ""))


def _death(slot: Slot, exit_code: int | None) -> Death:
    if slot.error is not None:
        return Death("start failed", exit_code, f"could not start: {slot.error}")
    if slot.killed_for in _WORDS:
        return Death(slot.killed_for, exit_code, _WORDS[slot.killed_for])
    if slot.last_words is not None:
        return Death(
            "cuda", exit_code, f"an error of CUDA that only a new process gets over: {slot.last_words}"
        )
    import psutil

    return classify(exit_code, free_mib=psutil.virtual_memory().available >> 20)


def _settle(engine: LocalEngine, task: Task, slot: Slot, death: Death) -> None:
    """Decide about the task that a worker died with."""
    if task.stop_reason is not None:
        engine.fail(task, stopped(task, was_killed=True))
    elif slot.killed_for == "memory":
        engine.fail(task, out_of_memory(engine.name, engine.spec.memory_mib, "", round(slot.peak_mib)))
    else:
        retry(engine, task, death)


def retry(engine: Undertaking, task: Task, death: Death) -> None:
    """Have a task that a worker died with done by another, or say why not."""
    task.crashes += 1
    with engine.lock:
        cost, is_too_much = engine.quarantine.add(task, death)
    if not task.idempotent or task.chunks:
        error: PoolError = WorkerCrashedError(
            f"the worker died with task {task.number}: {death.text}",
            kind=death.kind,
            exit_code=death.exit_code,
            hint="what may be repeated is tried again by itself: idempotent=True",
        )
    elif is_too_much:
        error = poisonous(cost, death)
    else:
        engine.counters.retried += 1
        engine.publish(TaskRetried(engine.name, task.number, death.kind, task.correlation))
        give_back(engine, task)
        return
    engine.fail(task, error)


def give_back(engine: Undertaking, task: Task) -> None:
    """Let a task wait again; it stands where it stood."""
    if task.session is not None and task.session.is_lost:
        engine.fail(task, task.session.lost_error())
    elif task.stop_reason is not None:
        engine.fail(task, stopped(task))
    else:
        engine.wait_again(task)
