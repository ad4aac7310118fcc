"""The thread engine: the same pool on threads of this process.

Right for work that waits. It isolates nothing and cannot interrupt: a task that is too late is given up, and its
thread is free again when it ends.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from dspex.errors import CancelledError
from dspex.events import PoolOverloaded, SessionEnded
from dspex.pools.counters import Counters, PoolStats, WorkerStats
from dspex.pools.queue import TaskQueue
from dspex.pools.refusals import busy, closed, displaced, late, saturated, stopped
from dspex.pools.sessions import Sessions
from dspex.pools.shipping import Packed, unpack

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspex.events import Event
    from dspex.pools.spec import PoolSpec
    from dspex.pools.task import Task

_CREDIT = 100


class Seat:
    """One thread's place; it stands where a worker process stands in the local engine."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.task: Task | None = None
        self.tasks = 0
        self.began_at = time.monotonic()

    @property
    def inflight(self) -> bool:
        """Whether it runs a task."""
        return self.task is not None


class ThreadEngine:
    """Runs tasks on daemon threads, each within its caller's context variables."""

    def __init__(self, name: str, spec: PoolSpec, publish: Callable[[Event], None]) -> None:
        self.name = name
        self.spec = spec
        self.publish = publish
        self.sessions = Sessions(spec.max_sessions)
        self._queue = TaskQueue()
        self._counters = Counters()
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._seats: list[Seat] = []
        self._states: dict[str, Any] = {}
        self._taken: dict[Task, int] = {}
        self._clock: threading.Thread | None = None
        self._is_closed = False

    # ── taking tasks on ─────────────────────────────────────────────────────────────────────────

    def write(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, Any]:
        """Leave a call as it is: it does not travel."""
        return Packed(b"", b""), (function, args, kwargs)

    def read(self, chunk: Any) -> Any:
        """Leave a chunk as it is."""
        return chunk

    def accept(self, task: Task) -> None:
        """Take a task on, or raise why not."""
        dropped, is_full = None, False
        with self._lock:
            self._admit(task)
            is_full = len(self._queue) >= self.spec.queue_limit and not task.is_exempt
        if is_full:
            self.publish(PoolOverloaded(self.name, self.spec.queue_limit, self.spec.overflow))
        with self._lock:
            if is_full:
                dropped = self._make_room()
            self._counters.submitted += 1
            self._queue.put(task)
            task.future.task = task
            if task.session is not None:
                task.session.pending += 1
            self._take_seats(task)
            self._changed.notify_all()
        task.future.add_done_callback(self._on_done)
        if dropped is not None:
            self._fail(dropped, displaced(self.name, self.spec))

    def _admit(self, task: Task) -> None:
        if self._is_closed:
            raise closed(self.name)
        session = task.session
        if session is None:
            return
        if session.is_lost:
            raise session.lost_error()
        if session.affinity == "strict_fail_fast" and session.pending:
            raise busy(session)

    def _make_room(self) -> Task | None:
        if self.spec.overflow == "drop_oldest" and (oldest := self._queue.oldest()) is not None:
            self._queue.discard(oldest)
            self._counters.dropped += 1
            return oldest
        if self.spec.overflow == "block" and self._changed.wait_for(
            lambda: len(self._queue) < self.spec.queue_limit, self.spec.queue_timeout_s
        ):
            return None
        self._counters.rejected += 1
        run_s = self._counters.mean_run_s()
        raise saturated(self.name, self.spec, queued=len(self._queue), run_s=run_s)

    def _take_seats(self, task: Task) -> None:
        idle = sum(seat.task is None for seat in self._seats)
        if idle < len(self._queue) and len(self._seats) < self.spec.workers:
            seat = Seat(f"{self.name}-{len(self._seats)}")
            self._seats.append(seat)
            threading.Thread(target=self._work, args=(seat,), name=f"dspex-{seat.name}", daemon=True).start()
        if self._clock is None and (task.deadline is not None or task.timeout_s is not None):
            self._clock = threading.Thread(target=self._watch, name=f"dspex-{self.name}-clock", daemon=True)
            self._clock.start()

    # ── the threads ─────────────────────────────────────────────────────────────────────────────

    def _work(self, seat: Seat) -> None:
        while (task := self._next(seat)) is not None:
            began = time.monotonic()
            try:
                result, error = task.context.run(self._call, task), None
            except BaseException as raised:  # noqa: BLE001  # a future carries whatever ended its task
                result, error = None, raised
            with self._lock:
                seat.task = None
                seat.tasks += 1
                self._taken.pop(task, None)
                self._counters.runs_s.append(time.monotonic() - began)
            if error is not None:
                self._fail(task, error, time.monotonic() - began)
            elif self._settle(task, "done", time.monotonic() - began):
                task.future.set_result(result)
            del task, result, error  # an idle thread must not keep them alive

    def _next(self, seat: Seat) -> Task | None:
        with self._lock:
            while True:
                task: Task | None = self._queue.take(seat)  # type: ignore[arg-type]  # a seat stands for a slot
                if task is not None and task.future.begin():
                    break
                if task is None and self._is_closed:
                    return None
                if task is None:
                    self._changed.wait()
            seat.task = task
            task.started_at = time.monotonic()
            self._counters.waits_s.append(task.started_at - task.submitted_at)
            if task.session is not None:
                task.session.began(seat)  # type: ignore[arg-type]  # as above
            self._changed.notify_all()
            return task

    def _call(self, task: Task) -> Any:
        function, args, kwargs = task.arguments
        if task.session is not None and task.session.has_factory:
            args = (self._state(task), *args)
        if task.stream is None:
            return function(*args, **kwargs)
        for number, chunk in enumerate(function(*args, **kwargs)):
            if not self._may_go_on(task, number):
                break
            task.stream(chunk)
        return None

    def _may_go_on(self, task: Task, number: int) -> bool:
        """Wait until the reader of a stream is close enough; False if there is none any more."""
        with self._lock:
            self._changed.wait_for(lambda: number - self._taken.get(task, 0) < _CREDIT or task.settled)
            return not task.settled

    def _state(self, task: Task) -> Any:
        session = task.session
        assert session is not None
        if session.key not in self._states:
            self._states[session.key] = unpack(session.shipped_factory(again=False) or b"")()
        return self._states[session.key]

    def _watch(self) -> None:
        """Give up tasks that are too late."""
        while not self._is_closed:
            with self._lock:
                tasks = [*self._queue, *(seat.task for seat in self._seats if seat.task is not None)]
                limits = {
                    task: when
                    for task in tasks
                    if not task.settled and (when := task.expires_at()) is not None
                }
                now = time.monotonic()
                over = [task for task, when in limits.items() if when <= now]
                if not over:
                    self._changed.wait(min(limits.values()) - now if limits else None)
            for task in over:
                self._give_up(task)

    def _give_up(self, task: Task) -> None:
        if task.queued:
            error: Exception = late(task, self.name, queued=len(self._queue), workers=self.spec.workers)
        else:
            is_deadline = task.deadline is not None and task.deadline <= time.monotonic()
            task.stop_reason = "deadline" if is_deadline else "timeout"
            error = stopped(task)
        self._fail(task, error)

    # ── ends ────────────────────────────────────────────────────────────────────────────────────

    def _settle(self, task: Task, how: str, seconds: float | None = None) -> bool:
        with self._lock:
            if task.settled:
                return False
            task.settled = True
            self._queue.discard(task)
            self._counters.settle(how)
            if task.session is not None:
                task.session.pending -= 1
                task.session.ended(seconds, failed=how not in {"done", "cancelled"})
            self._changed.notify_all()
            return True

    def _fail(self, task: Task, error: BaseException, seconds: float | None = None) -> None:
        if self._settle(task, Counters.how(error, task.stop_reason), seconds):
            task.future.set_exception(error)

    def _on_done(self, future: Any) -> None:
        if future.cancelled():
            future.begin()
            self._settle(future.task, "cancelled")

    def stop(self, future: Any) -> bool:
        """Give a running task up."""
        task: Task = future.task
        if task.settled:
            return False
        task.stop_reason = "cancelled"
        self._fail(task, CancelledError(f"task {task.number} was given up; its thread ends when it does"))
        return True

    def stop_owned(self, owner: str) -> int:
        """Give up what one owner submitted."""
        with self._lock:
            running = [seat.task for seat in self._seats if seat.task is not None]
            theirs = [task for task in (*self._queue, *running) if task.owner == owner]
        return sum(task.future.stop() for task in theirs)

    def credit(self, task: Task, taken: int) -> None:
        """Let a streaming task go on."""
        with self._lock:
            self._taken[task] = taken
            self._changed.notify_all()

    def forget(self, name: str, reason: str) -> None:
        """Forget a session and its state."""
        session = self.sessions.drop(name)
        if session is not None:
            self._states.pop(session.key, None)
            self.publish(SessionEnded(self.name, name, reason))

    def warm(self, workers: int | None = None) -> None:
        """Do nothing: threads are there when they are needed."""

    def stats(self) -> PoolStats:
        """Return what has been done so far."""
        now = time.monotonic()
        with self._lock:
            workers = tuple(
                WorkerStats(seat.name, None, "ready", seat.tasks, 0, now - seat.began_at, 0.0)
                for seat in self._seats
            )
            return self._counters.snapshot(
                self.name,
                queued=len(self._queue),
                sessions=len(self.sessions),
                how="threads",
                workers=workers,
            )

    def close(self, *, wait: bool = False, cancel: bool = True) -> None:
        """Take no more tasks; with `wait`, return once what was taken on is done."""
        with self._lock:
            self._is_closed = True
            self._changed.notify_all()
            waiting = list(self._queue) if cancel else []
        for task in waiting:
            task.future.cancel()
        if wait:
            with self._lock:
                self._changed.wait_for(self._counters.is_settled)
