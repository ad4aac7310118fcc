"""The thread engine: the same pool on threads of this process.

Right for work that waits. It isolates nothing and cannot interrupt: a task that is too late is given up, and its
thread is free again when it ends.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from dspex.errors import CancelledError
from dspex.events import SessionEnded
from dspex.pools.counters import PoolStats, WorkerStats
from dspex.pools.desk import Desk, Seat
from dspex.pools.refusals import stopped
from dspex.pools.shipping import Packed, unpack
from dspex.pools.task import notes

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspex.events import Event
    from dspex.pools.spec import PoolSpec
    from dspex.pools.task import Task

_CREDIT = 100


class ThreadEngine(Desk):
    """Runs tasks on daemon threads, each within its caller's context variables."""

    def __init__(self, name: str, spec: PoolSpec, publish: Callable[[Event], None]) -> None:
        super().__init__(name, spec, publish)
        self._seats: list[Seat] = []
        self._states: dict[str, Any] = {}
        self._notes: dict[str, dict[Any, Any]] = {}
        self._taken: dict[Task, int] = {}

    # ── taking tasks on ─────────────────────────────────────────────────────────────────────────

    def write(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, Any]:
        """Leave a call as it is: it does not travel."""
        return Packed(b"", b""), (function, args, kwargs)

    def read(self, chunk: Any) -> Any:
        """Leave a chunk as it is."""
        return chunk

    def seat(self) -> None:
        """Have a thread for each task, as far as the pool goes. Called under the lock."""
        idle = sum(seat.task is None for seat in self._seats)
        if idle < len(self.queue) and len(self._seats) < self.spec.workers:
            seat = Seat(f"{self.name}-{len(self._seats)}")
            self._seats.append(seat)
            threading.Thread(target=self._work, args=(seat,), name=f"dspex-{seat.name}", daemon=True).start()

    def seated(self) -> list[Task]:
        """Return the tasks that run. Called under the lock."""
        return [seat.task for seat in self._seats if seat.task is not None]

    # ── the threads ─────────────────────────────────────────────────────────────────────────────

    def _work(self, seat: Seat) -> None:
        while (task := self._next(seat)) is not None:
            began = time.monotonic()
            try:
                result, error = task.context.run(self._call, task), None
            except BaseException as raised:  # noqa: BLE001  # a future carries whatever ended its task
                result, error = None, raised
            with self.lock:
                seat.task = None
                seat.tasks += 1
                self._taken.pop(task, None)
                self.counters.runs_s.append(time.monotonic() - began)
            if error is not None:
                self.fail(task, error, time.monotonic() - began)
            elif self.settle(task, "done", time.monotonic() - began):
                task.future.set_result(result)
            del task, result, error  # an idle thread must not keep them alive

    def _next(self, seat: Seat) -> Task | None:
        with self.lock:
            while True:
                task: Task | None = self.queue.take(seat)
                if task is not None and task.future.begin():
                    break
                if task is None and self.is_closed:
                    return None
                if task is None:
                    self.changed.wait()
            seat.task = task
            task.started_at = time.monotonic()
            self.counters.waits_s.append(task.started_at - task.submitted_at)
            if task.session is not None:
                task.session.began(seat)
            self.changed.notify_all()
            return task

    def _call(self, task: Task) -> Any:
        function, args, kwargs = task.arguments
        if task.session is not None:
            notes.set(self._notes.setdefault(task.session.key, {}))
            if task.session.has_factory:
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
        with self.lock:
            self.changed.wait_for(lambda: number - self._taken.get(task, 0) < _CREDIT or task.settled)
            return not task.settled

    def _state(self, task: Task) -> Any:
        session = task.session
        assert session is not None
        if session.key not in self._states:
            self._states[session.key] = unpack(session.shipped_factory(again=False) or b"")()
        return self._states[session.key]

    def end_late(self, task: Task) -> None:
        """Give up a task that takes too long."""
        is_deadline = task.deadline is not None and task.deadline <= time.monotonic()
        task.stop_reason = "deadline" if is_deadline else "timeout"
        self.fail(task, stopped(task))

    # ── ends ────────────────────────────────────────────────────────────────────────────────────

    def stop(self, future: Any) -> bool:
        """Give a running task up."""
        task: Task = future.task
        if task.settled:
            return False
        task.stop_reason = "cancelled"
        self.fail(task, CancelledError(f"task {task.number} was given up; its thread ends when it does"))
        return True

    def credit(self, task: Task, taken: int) -> None:
        """Let a streaming task go on."""
        with self.lock:
            self._taken[task] = taken
            self.changed.notify_all()

    def forget(self, name: str, reason: str) -> None:
        """Forget a session and its state."""
        session = self.sessions.drop(name)
        if session is not None:
            self._states.pop(session.key, None)
            self._notes.pop(session.key, None)
            self.publish(SessionEnded(self.name, name, reason))

    def warm(self, workers: int | None = None) -> None:
        """Do nothing: threads are there when they are needed."""

    def stats(self) -> PoolStats:
        """Return what has been done so far."""
        now = time.monotonic()
        with self.lock:
            workers = tuple(
                WorkerStats(seat.name, None, "ready", seat.tasks, 0, now - seat.began_at, 0.0)
                for seat in self._seats
            )
            return self.counters.snapshot(
                self.name,
                queued=len(self.queue),
                sessions=len(self.sessions),
                how="threads",
                workers=workers,
            )
