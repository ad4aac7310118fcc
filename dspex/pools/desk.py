"""The desk: takes tasks on, keeps time for them, and settles them, for engines that others' workers run for."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from dspex.errors import CancelledError
from dspex.events import PoolOverloaded
from dspex.pools.counters import Counters
from dspex.pools.queue import TaskQueue
from dspex.pools.refusals import busy, closed, displaced, late, saturated
from dspex.pools.sessions import Sessions

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


class Desk:
    """What the thread engine and the dask engine have in common.

    The lock guards the queue, the seats and the counters. No future is resolved under it, as a future's
    callbacks are its owner's.
    """

    def __init__(self, name: str, spec: PoolSpec, publish: Callable[[Event], None]) -> None:
        self.name = name
        self.spec = spec
        self.publish = publish
        self.sessions = Sessions(spec.max_sessions)
        self.queue = TaskQueue()
        self.counters = Counters()
        self.lock = threading.Lock()
        self.changed = threading.Condition(self.lock)
        self.is_closed = False
        self._clock: threading.Thread | None = None

    # ── what an engine adds ─────────────────────────────────────────────────────────────────────

    def seated(self) -> list[Task]:
        """Return the tasks that run. Called under the lock."""
        raise NotImplementedError

    def seat(self) -> None:
        """Give waiting tasks to who is free. Called under the lock."""
        raise NotImplementedError

    def end_late(self, task: Task) -> None:
        """End a running task that takes too long."""
        raise NotImplementedError

    def forget(self, name: str, reason: str) -> None:
        """Forget a session and its state."""
        raise NotImplementedError

    def refuse(self, task: Task) -> None:
        """Raise if this very task is not to be run. Called under the lock."""

    # ── taking tasks on ─────────────────────────────────────────────────────────────────────────

    def accept(self, task: Task) -> None:
        """Take a task on, or raise why not."""
        with self.lock:
            self._admit(task)
            is_full = len(self.queue) >= self.spec.queue_limit and not task.is_exempt
        if is_full:
            self.publish(PoolOverloaded(self.name, self.spec.queue_limit, self.spec.overflow))
        with self.lock:
            dropped = self._make_room(task) if is_full else None
            self.counters.submitted += 1
            self.queue.put(task)
            task.future.task = task
            if task.session is not None:
                task.session.pending += 1
            self.seat()
            if task.deadline is not None or task.timeout_s is not None or task.session is not None:
                self.keep_time()
            self.changed.notify_all()
        task.future.add_done_callback(self._on_done)
        if dropped is not None:
            self.fail(dropped, displaced(self.name, self.spec))

    def _admit(self, task: Task) -> None:
        if self.is_closed:
            raise closed(self.name)
        self.refuse(task)
        session = task.session
        if session is None:
            return
        if session.is_lost:
            raise session.lost_error()
        if session.affinity == "strict_fail_fast" and session.pending:
            raise busy(session)

    def _make_room(self, task: Task) -> Task | None:
        """Make room for one more, the way the pool was asked to; returns the task that gives way."""
        if len(self.queue) < self.spec.queue_limit:
            return None
        if self.spec.overflow == "drop_oldest" and (oldest := self.queue.oldest()) is not None:
            self.queue.discard(oldest)
            self.counters.dropped += 1
            return oldest
        if self.spec.overflow == "block" and self._wait_for_room(task):
            return None
        self.counters.rejected += 1
        run_s = self.counters.mean_run_s()
        raise saturated(self.name, self.spec, queued=len(self.queue), run_s=run_s)

    def _wait_for_room(self, task: Task) -> bool:
        patience_s = self.spec.queue_timeout_s
        if task.deadline is not None:
            patience_s = min(patience_s, task.deadline - time.monotonic())
        has_room = self.changed.wait_for(
            lambda: len(self.queue) < self.spec.queue_limit or self.is_closed, patience_s
        )
        if has_room:
            self._admit(task)  # much may have happened meanwhile
        return has_room

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

    # ── ends ────────────────────────────────────────────────────────────────────────────────────

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
            self.changed.notify_all()
            return True

    def fail(self, task: Task, error: BaseException, seconds: float | None = None) -> None:
        """Count a task as over, and raise this where its result is asked for."""
        if self.settle(task, Counters.how(error, task.stop_reason), seconds):
            task.future.set_exception(error)

    def _on_done(self, future: Any) -> None:
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
                self.changed.wait_for(self.counters.is_settled)


_BLINK_S = 0.001


def limit(task: Task) -> float | None:
    """When a task must be told to stop, or, if it was told, when it is stopped by force."""
    return task.expires_at() if task.stop_reason is None else task.stop_at
