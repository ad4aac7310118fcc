"""The books of an engine: what it was given, and what each task has come to, once."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from dspex.errors import CancelledError
from dspex.events import TaskFinished
from dspex.pools.counters import Counters
from dspex.pools.crashes import Quarantine
from dspex.pools.queue import TaskQueue
from dspex.pools.refusals import failure, poisonous, unreadable
from dspex.pools.sessions import Sessions
from dspex.pools.shipping import unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from dspex.events import Event
    from dspex.pools.spec import PoolSpec
    from dspex.pools.task import Task
    from dspex.pools.worker import Reply


class Books(ABC):
    """What every engine keeps.

    The lock guards the queue, the counters, and who runs what. Nothing slow is done under it, and no future is
    resolved under it, as a future's callbacks are its owner's.
    """

    def __init__(self, name: str, spec: PoolSpec, publish: Callable[[Event], None]) -> None:
        self.name = name
        self.spec = spec
        self.publish = publish
        self.queue = TaskQueue()
        self.sessions = Sessions(spec.max_sessions)
        self.counters = Counters()
        self.quarantine = Quarantine(spec.poison_after)
        self.lock = threading.Lock()
        self.changed = threading.Condition(self.lock)
        self.is_closed = False
        self.blocked = 0
        """How many callers wait for the queue, or for the end."""

    # ── what an engine adds ─────────────────────────────────────────────────────────────────────

    @abstractmethod
    def seated(self) -> list[Task]:
        """Return the tasks that were given to workers. Called under the lock."""

    def refuse(self, task: Task) -> None:
        """Raise if this very task is not to be run. Called under the lock."""
        if self.quarantine and (condemned := self.quarantine.why(task)) is not None:
            raise poisonous(*condemned)

    def rouse(self) -> None:
        """Wake who waits for a change, if somebody does. Called under the lock."""
        if self.blocked:
            self.changed.notify_all()

    # ── ends ────────────────────────────────────────────────────────────────────────────────────

    def finish(self, task: Task, reply: Reply, buffers: Iterable[Any] = ()) -> None:
        """Turn a worker's answer into the future's result."""
        if reply.status != "done":
            self.fail(task, failure(task, reply, self.name, self.spec), reply.seconds)
            return
        try:
            result = unpack(reply.content, buffers)
        except Exception as error:  # noqa: BLE001  # whatever the value's own code raises
            self.fail(task, unreadable(error), reply.seconds)
            return
        if task.crashes:
            with self.lock:
                self.quarantine.clear(task)
        if self.settle(task, "done", reply.seconds):
            task.future.set_result(result)

    def fail(self, task: Task, error: BaseException, seconds: float | None = None) -> None:
        """Count a task as over, and raise this where its result is asked for."""
        if self.settle(task, Counters.how(error, task.stop_reason), seconds):
            task.future.set_exception(error)

    def settle(self, task: Task, how: str, seconds: float | None = None) -> bool:
        """Count a task as over; False if it was already."""
        with self.lock:
            if task.settled:
                return False
            task.settled = True
            self.queue.discard(task)
            self.counters.settle(how)
            if task.session is not None:
                task.session.pending -= 1
                task.session.ended(seconds, failed=how not in {"done", "cancelled"})
            self.rouse()
        self.publish(TaskFinished(self.name, task.number, how, seconds, task.correlation))
        return True

    def on_done(self, future: Any) -> None:
        """Hear that a future is done; if it was cancelled, nobody else has counted its task."""
        if future.cancelled():
            future.begin()
            self.settle(future.task, "cancelled")

    def stop_owned(self, owner: str) -> int:
        """Stop every task that one owner submitted; returns how many there were."""
        with self.lock:
            theirs = [task for task in (*self.queue, *self.seated()) if task.owner == owner]
        return sum(task.future.stop() for task in theirs)

    def close(self, *, wait: bool = False, cancel: bool = True) -> None:
        """Take no more tasks; with `wait`, return once what was taken on is done."""
        with self.lock:
            self.is_closed = True
            self.changed.notify_all()
            waiting = list(self.queue) if cancel else []
        for task in waiting:
            if not task.future.cancel():
                self.fail(task, CancelledError("the pool was closed"))
        if wait:
            with self.lock:
                self.blocked += 1
                self.changed.wait_for(self.counters.is_settled)
                self.blocked -= 1
