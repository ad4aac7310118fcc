"""The desk: takes tasks on, and keeps time for them, for engines that others' workers run for."""

from __future__ import annotations

import threading
import time
from abc import abstractmethod
from typing import TYPE_CHECKING

from dspex.events import PoolOverloaded
from dspex.pools import admission
from dspex.pools.books import Books
from dspex.pools.refusals import displaced, late

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspex.events import Event
    from dspex.pools.spec import PoolSpec
    from dspex.pools.task import Task


class Seat:
    """Where one task runs at a time; it stands where a worker process stands in the local engine."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.task: Task | None = None
        self.tasks = 0
        self.began_at = time.monotonic()

    @property
    def inflight(self) -> bool:
        """Whether it runs a task."""
        return self.task is not None


class Desk(Books):
    """What the thread engine and the dask engine have in common, beside the books."""

    def __init__(self, name: str, spec: PoolSpec, publish: Callable[[Event], None]) -> None:
        super().__init__(name, spec, publish)
        self._clock: threading.Thread | None = None

    # ── what an engine adds ─────────────────────────────────────────────────────────────────────

    @abstractmethod
    def seat(self) -> None:
        """Give waiting tasks to who is free. Called under the lock."""

    @abstractmethod
    def end_late(self, task: Task) -> None:
        """End a running task that takes too long."""

    @abstractmethod
    def forget(self, name: str, reason: str) -> None:
        """Forget a session and its state."""

    def rouse(self) -> None:
        """Wake who waits for a change: callers, the clock, and idle threads. Called under the lock."""
        self.changed.notify_all()

    # ── taking tasks on ─────────────────────────────────────────────────────────────────────────

    def accept(self, task: Task) -> None:
        """Take a task on, or raise why not."""
        with self.lock:
            admission.check(self, task)
            is_full = len(self.queue) >= self.spec.queue_limit and not task.is_exempt
        if is_full:
            self.publish(PoolOverloaded(self.name, self.spec.queue_limit, self.spec.overflow))
        with self.lock:
            dropped = admission.make_room(self, task) if is_full else None
            self.counters.submitted += 1
            self.queue.put(task)
            task.future.task = task
            if task.session is not None:
                task.session.pending += 1
            self.seat()
            if task.deadline is not None or task.timeout_s is not None or task.session is not None:
                self.keep_time()
            self.changed.notify_all()
        task.future.add_done_callback(self.on_done)
        if dropped is not None:
            self.fail(dropped, displaced(self.name, self.spec))

    # ── keeping time ────────────────────────────────────────────────────────────────────────────

    def keep_time(self) -> None:
        """See to it that there is a clock. Called under the lock."""
        if self._clock is None:
            self._clock = threading.Thread(target=self._watch, name=f"dspex-{self.name}-clock", daemon=True)
            self._clock.start()

    def _watch(self) -> None:
        """End tasks that are too late, and forget sessions that nobody uses."""
        while not self.is_closed:
            with self.lock:
                limits = {
                    task: when
                    for task in (*self.queue, *self.seated())
                    if not task.settled and (when := limit(task)) is not None
                }
                now = time.monotonic()
                over = [task for task, when in limits.items() if when <= now]
                expired = self.sessions.expired(now)
                if not over and not expired:
                    ends = [*limits.values()]
                    ends += [each.used_at + each.ttl_s for each in self.sessions if not each.pending]
                    self.changed.wait(max(_BLINK_S, min(ends) - now) if ends else None)
            for task in over:
                self._end(task)
            for session in expired:
                self.forget(session.name, "expired")

    def _end(self, task: Task) -> None:
        if not task.queued:
            self.end_late(task)
            return
        self.fail(task, late(task, self.name, queued=len(self.queue), workers=self.spec.workers))


_BLINK_S = 0.001


def limit(task: Task) -> float | None:
    """When a task must be told to stop, or, if it was told, when it is stopped by force."""
    return task.expires_at() if task.stop_reason is None else task.stop_at
