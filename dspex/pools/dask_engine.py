"""The dask engine: the same pool on the workers of a cluster.

Dask carries tasks to the workers that were chosen here, and tells which of them it has lost. What is done then is
decided here as well, as it is for the workers of this machine: dask by itself would repeat any task, wait for ever
for a worker that came back under another address, and never stop a task that runs.
"""

from __future__ import annotations

import logging
import pickle
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from dspex.errors import CancelledError, ClusterError
from dspex.events import PoolDegraded, SessionEnded, TaskStopped, WorkerDied
from dspex.pools import burial, dask_worker, output
from dspex.pools.counters import PoolStats, WorkerStats
from dspex.pools.dask_post import Post
from dspex.pools.dask_seats import Room, arranged
from dspex.pools.desk import Desk
from dspex.pools.parcels import Parcel
from dspex.pools.refusals import out_of_memory, stopped
from dspex.pools.shipping import pack_call, pack_function, unpack
from dspex.pools.worker import Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dspex.events import Event
    from dspex.pools.cluster import Change, Cluster
    from dspex.pools.dask_seats import DaskSeat
    from dspex.pools.spec import PoolSpec
    from dspex.pools.task import Task

_log = logging.getLogger("dspex.pools")
_PATIENCE_S = 5.0
_TICK_S = 0.01


class DaskEngine(Desk):
    """Runs tasks on a dask cluster, each at the worker it was given to.

    Of `PoolSpec`, ``workers``, the queue, timeouts, results and sessions mean the same as on this machine.
    ``memory_mib`` says how much a worker must have for each task that runs there at once; ``device="gpu"`` asks for
    workers with a ``GPU`` resource. How workers begin, age and are replaced is the cluster's business.
    """

    def __init__(self, name: str, spec: PoolSpec, publish: Callable[[Event], None], cluster: Cluster) -> None:
        super().__init__(name, spec, publish)
        self.cluster = cluster
        self.rooms: dict[str, Room] = {}
        self._post = Post(self)
        self._tasks: dict[int, DaskSeat] = {}
        self._notice: str | None = None
        self._is_left = False
        cluster.client.subscribe_topic(self._post.topic, self._on_event)
        self._unwatch = cluster.watch(self._on_change)
        self._arrange()

    def write(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, Any]:
        """Write a call down for another process."""
        return pack_function(function), Parcel(pack_call(args, kwargs))

    def read(self, chunk: Any) -> Any:
        """Read a chunk of a stream."""
        return unpack(chunk)

    # ── the workers ─────────────────────────────────────────────────────────────────────────────

    def _arrange(self) -> None:
        """Make room at the cluster's workers, as they are now."""
        wanted, notice = arranged(self.cluster.homes(), self.spec)
        with self.lock:
            if self.is_closed:
                return
            for home, seats in wanted:
                n_taken = sum(len(room.seats) for room in self.rooms.values())
                n_free = min(seats, self.spec.workers - n_taken)
                if home.address not in self.rooms and n_free > 0:
                    room = self.rooms[home.address] = Room(self.name, home, n_free)
                    self.cluster.soon(self._post.greet, room)
            self.seat()
        if notice is not None and notice != self._notice:
            _log.warning("pool %r: %s", self.name, notice)
            self.publish(PoolDegraded(self.name, notice))
        self._notice = notice

    def _on_change(self, what: Change, address: str) -> None:
        """Hear what happens to a worker. Called by the client's thread, which must not wait."""
        room = self.rooms.get(address)
        if what == "came":
            threading.Thread(target=self._arrange, name=f"dspex-{self.name}-arranging", daemon=True).start()
        elif room is not None and what == "full":
            room.killed_for = "memory"
        elif room is not None:
            room.do(partial(self._lose, room, what))

    def _lose(self, room: Room, what: Change) -> None:
        """Settle all that a lost worker has left."""
        if what == "retired" and room.killed_for is None:
            room.killed_for = "recycled"
        with self.lock:
            if self.rooms.get(room.home.address) is not room:
                return
            del self.rooms[room.home.address]
            tasks = [task for seat in room.seats if (task := self._vacate(seat)) is not None]
            waiting = [task for seat in room.seats for task in self.queue.release(seat)]
            lost = [session for seat in room.seats for session in self.sessions.of(seat)]
            for session in lost:
                session.lose()
            self.counters.recycled += room.killed_for == "recycled"
            self.counters.stopped += room.killed_for in {"stop", "memory"}
            self.counters.crashed += room.killed_for is None
        is_expected = room.killed_for == "recycled"
        self.publish(WorkerDied(self.name, room.name, room.pid or 0, "lost", None, is_expected))
        for session in lost:
            self.publish(SessionEnded(self.name, session.name, "lost"))
        for task in tasks:
            self._settle_lost(task, room, is_alone=len(tasks) == 1)
        for task in waiting:
            burial.give_back(self, task)
        room.end()
        self._arrange()

    def _settle_lost(self, task: Task, room: Room, *, is_alone: bool = True) -> None:
        """Decide about a task that a worker was lost with."""
        if task.stop_reason is not None:
            self.fail(task, stopped(task, was_killed=True))
        elif room.killed_for == "memory" and is_alone:
            limit = room.home.memory_mib
            self.fail(task, out_of_memory(self.name, limit, "", round(room.held_mib)))
        elif room.killed_for in {"stop", "recycled"} and task.idempotent and not task.chunks:
            burial.give_back(self, task)
        else:
            burial.retry(self, task, room.death())

    # ── giving tasks to workers ─────────────────────────────────────────────────────────────────

    def refuse(self, task: Task) -> None:
        """Refuse a call that has cost too many workers, and any if there is no cluster."""
        if not self.cluster.is_up:
            raise self._gone()
        super().refuse(task)

    def seated(self) -> list[Task]:
        """Return the tasks that run. Called under the lock."""
        return [seat.task for seat in self._tasks.values() if seat.task is not None]

    def seat(self) -> None:
        """Give waiting tasks to free seats. Called under the lock."""
        moved = True
        while moved and len(self.queue):
            moved = False
            for seat in [seat for room in self.rooms.values() for seat in room.seats]:
                task = None if seat.task is not None else self.queue.take(seat)
                if task is not None:
                    moved = True
                    self._give(self._preferred(task, seat), task)

    def _preferred(self, task: Task, seat: DaskSeat) -> DaskSeat:
        wished: Any = task.session.slot if task.session is not None else None
        return wished if wished is not None and wished.task is None else seat

    def _give(self, seat: DaskSeat, task: Task) -> None:
        if not task.future.running() and not task.future.begin():
            return
        if not task.crashes:
            self.counters.waits_s.append(time.monotonic() - task.submitted_at)
        if task.session is not None:
            task.session.began(seat)
        seat.task = task
        self._tasks[task.number] = seat
        self.cluster.soon(self._post.send, seat, task)

    def unposted(self, seat: DaskSeat, task: Task, error: Exception | None) -> None:
        """Take back a task that never went out."""
        with self.lock:
            if self._vacate(seat, task) is None:
                return
        if task.stop_reason is not None:
            self.fail(task, stopped(task))
        elif not self.cluster.is_up:
            self._break()
        else:
            _log.debug("task %d did not get to %s: %r", task.number, seat.name, error)
            self._lose(seat.room, "lost")
            burial.give_back(self, task)

    # ── hearing workers ─────────────────────────────────────────────────────────────────────────

    def _on_event(self, event: tuple[float, Mapping[str, Any]]) -> None:
        """Hear a worker. Called by the client's thread, which must not wait."""
        said = event[1]
        room = next((room for room in list(self.rooms.values()) if room.guest == said["guest"]), None)
        if room is not None:
            room.do(partial(self._take, room, said["message"]))

    def _take(self, room: Room, message: bytes) -> None:
        kind, number, *content = pickle.loads(message)  # noqa: S301  # from our own worker
        with self.lock:
            seat = self._tasks.get(number)
        task = None if seat is None else seat.task
        if seat is None or task is None or seat.room is not room:
            return
        if kind == "parcel":
            try:
                fetched = self._post.fetch(room, *content)
            except Exception:  # noqa: BLE001  # the worker went before it could be asked
                self._fail_lost(seat, task)
                return
            self._take(room, fetched)
        elif kind == "reply":
            self._answered(seat, task, Reply(*content[0]), content[1])
        else:
            output.deliver(task, kind, *content)

    def _answered(self, seat: DaskSeat, task: Task, reply: Reply, held_mib: float) -> None:
        with self.lock:
            if self._vacate(seat, task) is None:
                return
            seat.tasks += 1
            seat.room.held_mib = held_mib
            if task.session is not None:
                seat.room.sessions.add(task.session.key)
            self.counters.runs_s.append(reply.seconds)
            self.seat()
        self.finish(task, reply)

    def on_end(self, seat: DaskSeat, task: Task, future: Any) -> None:
        """Hear that dask is done with a task; only if it failed there is anything to do."""
        if future.status != "finished":
            seat.room.do(partial(self._on_failure, seat, task, future))

    def _on_failure(self, seat: DaskSeat, task: Task, future: Any) -> None:
        from distributed.scheduler import KilledWorker

        if seat.task is not task:
            return
        error = future.exception() if future.status == "error" else None
        if not self.cluster.is_up:
            self._break()
        elif error is None or isinstance(error, KilledWorker):
            self._fail_lost(seat, task)
        else:
            with self.lock:
                self._vacate(seat, task)
            self.fail(
                task,
                ClusterError(
                    f"the cluster's worker {seat.room.home.name} cannot run tasks: {error!r}",
                    hint="the same dspex must be installed there",
                ),
            )

    def _fail_lost(self, seat: DaskSeat, task: Task) -> None:
        with self.lock:
            if self._vacate(seat, task) is None:
                return
        self._settle_lost(task, seat.room)

    def _vacate(self, seat: DaskSeat, task: Task | None = None) -> Task | None:
        """Free a seat; returns who sat there, or None if it is somebody else. Called under the lock."""
        sitting = seat.task
        if sitting is None or (task is not None and sitting is not task):
            return None
        seat.task = seat.future = None
        self._tasks.pop(sitting.number, None)
        return sitting

    def _gone(self) -> ClusterError:
        return ClusterError(
            f"the scheduler at {self.cluster.address} is gone",
            hint='start it again and dx.configure(cluster="...") anew, or cluster=None for this machine',
        )

    def _break(self) -> None:
        """Fail everything: there is no cluster any more."""
        with self.lock:
            left = [*self.queue, *self.seated()]
            for seat in list(self._tasks.values()):
                self._vacate(seat)
        for task in left:
            self.fail(task, self._gone())

    def wait_again(self, task: Task) -> None:
        """Put a task that was given out back where it stood."""
        with self.lock:
            if not task.settled:
                task.started_at = None
                self.queue.put(task)
                self.seat()
                self.changed.notify_all()

    # ── stopping ────────────────────────────────────────────────────────────────────────────────

    def stop(self, future: Any) -> bool:
        """Have a running task interrupted."""
        task: Task = future.task
        if task.settled:
            return False
        if task.queued:
            task.stop_reason = "cancelled"
            self.fail(task, CancelledError(f"task {task.number} was stopped while it waited for a worker"))
        elif task.stop_reason is None:
            self._tell_to_stop(task, "cancelled")
        return True

    def _tell_to_stop(self, task: Task, reason: str) -> None:
        with self.lock:
            task.stop_reason = reason
            task.stop_at = time.monotonic() + self.spec.grace_s
            seat = self._tasks.get(task.number)
        if seat is not None:
            self._post.tell(seat.room, "stop", task.number)
        with self.lock:
            self.keep_time()
            self.changed.notify_all()
        self.publish(TaskStopped(self.name, task.number, reason, task.correlation))

    def end_late(self, task: Task) -> None:
        """Have a task interrupted that takes too long; if it was, and does not heed it, end its worker."""
        if task.stop_reason is None:
            is_deadline = task.deadline is not None and task.deadline <= time.monotonic()
            self._tell_to_stop(task, "deadline" if is_deadline else "timeout")
            return
        task.stop_at = None
        with self.lock:
            seat = self._tasks.get(task.number)
        if seat is None:
            return
        if seat.room.home.has_nanny:
            seat.room.killed_for = "stop"
            self.cluster.restart(seat.room.home.address)
        else:  # nobody would start it again; its seat is free when it ends
            self.fail(task, stopped(task))

    def credit(self, task: Task, taken: int) -> None:
        """Let a streaming task go on."""
        with self.lock:
            seat = self._tasks.get(task.number)
        if seat is not None:
            self._post.tell(seat.room, "credit", task.number, taken)

    def forget(self, name: str, reason: str) -> None:
        """Forget a session, and have its workers forget its state."""
        with self.lock:
            session = self.sessions.drop(name)
            rooms = [room for room in self.rooms.values() if session and session.key in room.sessions]
        if session is None:
            return
        for room in rooms:
            room.sessions.discard(session.key)
            self._post.tell(room, "forget", session.key)
        self.publish(SessionEnded(self.name, name, reason))

    # ── looking and ending ──────────────────────────────────────────────────────────────────────

    def warm(self, workers: int | None = None) -> None:
        """Have workers import what tasks will need."""
        rooms = list(self.rooms.values())[: workers or self.spec.workers]
        for room in rooms:
            room.warming = self.cluster.client.submit(
                dask_worker.preload, self.spec.preload, workers=[room.home.address], pure=False
            )

    def stats(self) -> PoolStats:
        """Return what has been done so far."""
        now = time.monotonic()
        with self.lock:
            workers = tuple(
                WorkerStats(
                    seat.name,
                    room.pid,
                    "starting" if room.guest is None else "ready",
                    seat.tasks,
                    len(self.sessions.of(seat)),
                    now - seat.began_at,
                    room.held_mib,
                )
                for room in self.rooms.values()
                for seat in room.seats
            )
            return self.counters.snapshot(
                self.name,
                queued=len(self.queue),
                sessions=len(self.sessions),
                how=f"dask at {self.cluster.address}" if self.cluster.is_up else "the cluster is gone",
                workers=workers,
            )

    def close(self, *, wait: bool = False, cancel: bool = True) -> None:
        """Take no more tasks, and leave the workers; with `wait`, once what was taken on is done."""
        super().close(wait=wait, cancel=cancel)
        with self.lock:
            was_left, self._is_left = self._is_left, True
            rooms, self.rooms = list(self.rooms.values()), {}
            running = [(seat, seat.task, seat.future) for seat in self._tasks.values()]
        if was_left:
            return
        self._unwatch()
        for task in [task for _, task, _ in running if task is not None]:
            task.stop_reason = "cancelled"
            self.fail(task, CancelledError("the pool was closed while it ran"))
        if self.cluster.is_up:
            self.cluster.client.unsubscribe_topic(self._post.topic)
            for room in rooms:
                self._post.leave(room)
            self._see_out({future: seat for seat, _, future in running if future is not None})
        for room in rooms:
            room.end()

    def _see_out(self, running: Mapping[Any, DaskSeat]) -> None:
        """Give tasks that were told to stop some time, then end their workers: they are not ours to block."""
        _until(lambda: all(future.status != "pending" for future in running), self.spec.grace_s)
        ending = {
            seat.room.home.address
            for future, seat in running.items()
            if future.status == "pending" and seat.room.home.has_nanny
        }
        for address in ending:
            self.cluster.restart(address)
        if ending:
            _until(lambda: ending.isdisjoint(home.address for home in self.cluster.homes()), _PATIENCE_S)


def _until(condition: Callable[[], bool], patience_s: float) -> None:
    until = time.monotonic() + patience_s
    while time.monotonic() < until and not condition():
        time.sleep(_TICK_S)
