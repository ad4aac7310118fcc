"""The local engine: worker processes of this machine behind one queue."""

from __future__ import annotations

import json
import logging
import os
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from dspex.errors import CancelledError, PoolError
from dspex.events import PoolOverloaded
from dspex.pools import admission, limits, parcels, secrets
from dspex.pools.board import Board
from dspex.pools.books import Books
from dspex.pools.counters import PoolStats, WorkerStats
from dspex.pools.refusals import closed, displaced, late
from dspex.pools.scaling import Scaling
from dspex.pools.shipping import is_small, pack_function, unpack
from dspex.pools.supervise import Supervisor
from dspex.pools.worker import Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    from dspex.events import Event
    from dspex.pools.devices import Placement
    from dspex.pools.slot import Slot
    from dspex.pools.spec import PoolSpec
    from dspex.pools.task import Task

_log = logging.getLogger("dspex.pools")
_SHORT_S = 0.005
"""A worker gets its next task in advance if the one it has is over in so little."""
_REMEMBERED = 1000


class LocalEngine(Books):
    """Runs tasks in worker processes of this machine, each of which may die without harming the others."""

    def __init__(
        self,
        name: str,
        spec: PoolSpec,
        publish: Callable[[Event], None],
        placements: Sequence[Placement] = (),
    ) -> None:
        super().__init__(name, spec, publish)
        self.placements = placements
        self.slots: list[Slot] = []
        self.scaling = Scaling(spec)
        self.board = Board.create(name, 2 * spec.workers)
        self.supervisor = Supervisor(self)
        self._given: deque[tuple[Slot, Task, Future[Any]]] = deque()
        self._seconds: dict[bytes, float] = {}
        self._environment: tuple[Any, str] = (None, "")
        self.pid = os.getpid()

    def write(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, Any]:
        """Write a call down for another process."""
        return pack_function(function), parcels.wrap(args, kwargs, self.board.path)

    def read(self, chunk: Any) -> Any:
        """Read a chunk of a stream."""
        return unpack(chunk)

    def seated(self) -> list[Task]:
        """Return the tasks that were given to workers. Called under the lock."""
        return [task for slot in self.slots for task, _ in slot.inflight]

    # ── taking tasks on ─────────────────────────────────────────────────────────────────────────

    def accept(self, task: Task) -> None:
        """Take a task on, or raise why not: see `admission`."""
        with self.lock:
            admission.check(self, task)
            is_full = len(self.queue) >= self.spec.queue_limit and not task.is_exempt
            if not is_full:
                self._take_on(task)
        if is_full:
            self._squeeze_in(task)
        self.listen()
        # Without a worker to spare, the supervisor may start one.
        if task.queued and (len(self.slots) < self.spec.workers or not self.supervisor.is_running):
            self.supervisor.wake()
        self.supervisor.mind(task.expires_at())

    def _take_on(self, task: Task) -> None:
        self.counters.submitted += 1
        self.queue.put(task)
        if task.session is not None:
            task.session.pending += 1
        task.future.task = task
        task.future.add_done_callback(self.on_done)
        self.dispatch()

    def _squeeze_in(self, task: Task) -> None:
        """Take a task on although the queue is full, the way the pool was asked to, or refuse it."""
        self.publish(PoolOverloaded(self.name, self.spec.queue_limit, self.spec.overflow))
        with self.lock:
            dropped = admission.make_room(self, task)
            self._take_on(task)
        if dropped is not None:
            self.fail(dropped, displaced(self.name, self.spec))

    def _any_open(self) -> bool:
        return any(slot.is_open for slot in self.slots)

    def refuse(self, task: Task) -> None:
        """Refuse a call that has cost too many workers, and any in a process that was forked from the pool's."""
        if os.getpid() != self.pid:
            raise closed(self.name)
        super().refuse(task)

    # ── giving tasks to workers ─────────────────────────────────────────────────────────────────

    def dispatch(self) -> None:
        """Give waiting tasks to workers as long as there are both."""
        moved = True
        while moved and len(self.queue):
            moved = False
            for slot in self.slots:
                if slot.is_open or self._may_prefetch(slot):
                    task = self.queue.take(slot)
                    if task is not None:
                        self._give(self._preferred(task, slot), task)
                        moved = True
        self.rouse()

    def _preferred(self, task: Task, slot: Slot) -> Slot:
        wished = task.session.slot if task.session is not None else None
        return wished if wished is not None and wished.is_open else slot

    def _may_prefetch(self, slot: Slot) -> bool:
        """Whether a worker should get its next task before it is done: only if that will be in a moment."""
        if slot.state != "ready" or len(slot.inflight) != 1 or self._any_open():
            return False
        running = slot.inflight[0][0]
        is_short = self._seconds.get(running.function.digest, 1.0) < _SHORT_S
        # Behind a large message, which goes by another thread, a small one might arrive first.
        return (
            is_short
            and running.stop_reason is None
            and is_small((running.function.data, running.arguments.data))
        )

    def _give(self, slot: Slot, task: Task) -> None:
        if not task.future.running() and not task.future.begin():
            return
        now = time.monotonic()
        task.started_at = None if slot.inflight else now
        if not task.crashes:
            self.counters.waits_s.append(now - task.submitted_at)
        if task.session is not None:
            task.session.began(slot)
        try:
            future = slot.send(task, self.environment(), self.spec.max_result_mib << 20)
        except Exception:  # noqa: BLE001  # loky: the worker is dead, and the supervisor is about to notice
            slot.state = "dying"
            self.queue.put(task)
            self.supervisor.wake()
            return
        self._given.append((slot, task, future))
        self.supervisor.mind(task.expires_at())

    def listen(self) -> None:
        """Have answers to what `dispatch` gave out taken; outside the lock, as one may be there already."""
        while True:
            try:
                slot, task, future = self._given.popleft()
            except IndexError:
                return
            future.add_done_callback(partial(self._answered, slot, task))

    def environment(self) -> str:
        """Return what workers should see as their environment, as JSON."""
        hook = self.spec.environment
        now: Any = (
            {**hook(), **secrets.environment()}
            if hook is not None
            else getattr(os.environ, "_data", None) or dict(os.environ)
        )
        if now != self._environment[0]:
            wanted = {**(now if hook is not None else os.environ), **limits.environment(self.spec)}
            self._environment = (dict(now), json.dumps(wanted))
        return self._environment[1]

    # ── taking answers ──────────────────────────────────────────────────────────────────────────

    def _answered(self, slot: Slot, task: Task, future: Future[Any]) -> None:
        """Take an answer. Called by loky's thread of that slot."""
        if future.cancelled() or future.exception() is not None:
            self.supervisor.wake()  # the worker is gone, and its tasks are the supervisor's to settle
            return
        reply = Reply(*future.result())
        # Before the task leaves the worker's list: a burial removes what nobody has taken.
        buffers = parcels.adopt(reply.paths)
        with self.lock:
            slot.inflight.remove((task, future))
            slot.tasks += 1
            slot.idle_since = now = time.monotonic()
            self._note_time(task, reply.seconds)
            if slot.inflight:
                slot.inflight[0][0].started_at = now
                self.supervisor.mind(slot.inflight[0][0].expires_at())
            if len(self.queue):
                self.dispatch()
            is_early = reply.sent > slot.received
            if is_early:  # what it printed belongs before its result
                slot.parked.append((reply.sent, task, partial(self.finish, task, reply, buffers)))
            needs_care = slot.state != "ready" or self.supervisor.is_due(slot)
        self.listen()
        if not is_early:
            self.finish(task, reply, buffers)
        if needs_care:
            self.supervisor.wake()

    def _note_time(self, task: Task, seconds: float) -> None:
        if len(self._seconds) > _REMEMBERED:
            self._seconds.clear()
        self._seconds[task.function.digest] = seconds
        self.counters.runs_s.append(seconds)

    def on_done(self, future: Any) -> None:
        """Hear that a future is done; whoever keeps it does not keep what its function was called with."""
        super().on_done(future)
        future.task.arguments = parcels.EMPTY

    # ── looking and ending ──────────────────────────────────────────────────────────────────────

    def fail_late(self, task: Task) -> None:
        """Fail a task that waited until its deadline."""
        self.fail(task, late(task, self.name, queued=len(self.queue), workers=self.spec.workers))

    def fail_waiting(self, error: PoolError) -> None:
        """Fail every task that waits."""
        with self.lock:
            waiting = list(self.queue)
        for task in waiting:
            self.fail(task, error)

    def wait_again(self, task: Task) -> None:
        """Put a task that was given out back where it stood."""
        with self.lock:
            if not task.settled:
                task.started_at = None
                self.queue.put(task)
                self.dispatch()
        self.listen()

    def stop(self, future: Any) -> bool:
        """Have a running task interrupted."""
        task: Task = future.task
        with self.lock:
            if task.settled:
                return False
            if not task.queued:
                self.supervisor.request_stop(task, "cancelled")
                return True
            task.stop_reason = "cancelled"
        self.fail(task, CancelledError(f"task {task.number} was stopped while it waited for another worker"))
        return True

    def credit(self, task: Task, taken: int) -> None:
        """Let a streaming task go on."""
        self.supervisor.credit(task, taken)

    def forget(self, name: str, reason: str) -> None:
        """Forget a session, and have its worker forget its state."""
        with self.lock:
            session = self.sessions.drop(name)
        if session is not None:
            self.supervisor.forget(session, reason)

    def warm(self, workers: int | None = None) -> None:
        """Have workers started without work."""
        with self.lock:
            self.scaling.grow(needed=workers or self.spec.workers, now=time.monotonic())
        self.supervisor.wake()

    def stats(self) -> PoolStats:
        """Return what has been done so far."""
        now = time.monotonic()
        with self.lock:
            workers = tuple(
                WorkerStats(
                    slot.name,
                    slot.pid,
                    slot.state,
                    slot.tasks,
                    len(slot.sessions),
                    now - slot.began_at,
                    slot.measure(),
                )
                for slot in self.slots
            )
            return self.counters.snapshot(
                self.name,
                queued=len(self.queue),
                sessions=len(self.sessions),
                how=self.supervisor.how,
                workers=workers,
            )

    def close(self, *, wait: bool = False, cancel: bool = True) -> None:
        """Take no more tasks, and end the workers; with `wait`, once what was taken on is done."""
        super().close(wait=wait, cancel=cancel)
        self.supervisor.finish()
        with self.lock:
            left = [*self.seated(), *self.queue]
        for task in left:
            task.stop_reason = "cancelled"
            self.fail(task, CancelledError("the pool was closed while it ran"))
