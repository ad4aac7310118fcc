"""The supervisor: one thread a pool that starts workers, hears them, ends tasks that take too long, and buries the dead."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import sys
import threading
import time
from collections import deque
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

from dspex.events import SessionEnded, TaskStopped
from dspex.pools import burial, output, parcels
from dspex.pools.health import Health
from dspex.pools.nursery import Nursery

if TYPE_CHECKING:
    from dspex.pools.local import LocalEngine
    from dspex.pools.sessions import Session
    from dspex.pools.slot import Slot
    from dspex.pools.task import Task

_log = logging.getLogger("dspex.pools")
_PATIENCE_S = 5.0
_AT_ONCE = 100


class Supervisor:
    """Keeps the workers of one engine as they should be.

    Others only leave it notes: `wake`, `mind`, `request_stop`, `forget`. All it does, it does on its own thread.
    """

    def __init__(self, engine: LocalEngine) -> None:
        self._engine = engine
        self._spec = engine.spec
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._bell: tuple[int, int] | None = None
        self._rung = False
        self._sleeps_until = 0.0
        self._ended = False
        self._nursery = Nursery(engine, self.wake)
        self._health = Health(engine, self._nursery)
        self._stops: deque[Task] = deque()
        self._forgotten: deque[tuple[Session, str]] = deque()
        self._credits: deque[tuple[Task, int]] = deque()

    @property
    def is_running(self) -> bool:
        """Whether there is a thread."""
        return self._thread is not None

    @property
    def how(self) -> str:
        """How workers begin, and whether all is well."""
        return self._nursery.how

    # ── notes to it ─────────────────────────────────────────────────────────────────────────────

    def wake(self) -> None:
        """Have it look around."""
        if self._thread is None:
            self._begin()
        with self._lock:  # so that nobody writes to a descriptor that was closed, and is another's by now
            if not self._rung and self._bell is not None:
                self._rung = True
                with contextlib.suppress(BlockingIOError):
                    os.write(self._bell[1], b"!")

    def mind(self, when: float | None) -> None:
        """Have it look around at that time at the latest."""
        if when is not None and when < self._sleeps_until:
            self.wake()

    def request_stop(self, task: Task, reason: str) -> None:
        """Have a running task told to stop."""
        if task.stop_reason is None:
            task.stop_reason = reason
            self._stops.append(task)
            self.wake()

    def forget(self, session: Session, reason: str) -> None:
        """Have a session's worker forget its state."""
        self._forgotten.append((session, reason))
        self.wake()

    def credit(self, task: Task, taken: int) -> None:
        """Have a streaming task told how many of its chunks were read."""
        self._credits.append((task, taken))
        self.wake()

    def is_due(self, slot: Slot) -> bool:
        """Whether a worker should be replaced."""
        return self._health.is_due(slot)

    def finish(self) -> None:
        """End the workers and the thread."""
        self._ended = True
        thread = self._thread
        if thread is None:
            self._engine.board.remove()
            return
        self._rung = False
        self.wake()
        if thread is not threading.current_thread():
            thread.join(_PATIENCE_S)

    # ── the thread ──────────────────────────────────────────────────────────────────────────────

    def _begin(self) -> None:
        with self._lock:
            if self._thread is None and not self._ended:
                self._bell = os.pipe()
                for end in self._bell:
                    os.set_blocking(end, False)
                self._thread = threading.Thread(
                    target=self._run, name=f"dspex-{self._engine.name}", daemon=True
                )
                self._thread.start()

    def _run(self) -> None:
        try:
            while not self._ended:
                try:
                    self._turn()
                except Exception:  # noqa: BLE001  # nobody else looks after the workers
                    _log.exception("the supervisor of pool %r stumbled, and goes on", self._engine.name)
        finally:
            self._shut()

    def _turn(self) -> None:
        self._release_replaced()
        self._obey()
        self._bury()
        self._expire()
        now = time.monotonic()
        if now >= self._health.next_at:
            self._health.inspect(now)
        self._nursery.fill()
        self._listen()

    def _listen(self) -> None:
        """Sleep until something happens, and hear what workers have to say."""
        assert self._bell is not None
        slots = [slot for slot in self._slots() if slot.process is not None and slot.state != "dead"]
        sentinels: dict[Any, Slot] = {
            slot.process.sentinel: slot for slot in slots if slot.process is not None and not slot.is_gone
        }
        lines: dict[Any, Slot] = {
            slot.line: slot for slot in slots if slot.line is not None and not slot.is_silent
        }
        self._sleeps_until = self._wakes_at()
        timeout = 0.0 if self._rung else max(0.0, self._sleeps_until - time.monotonic())
        ready = wait([self._bell[0], *sentinels, *lines], timeout)
        self._sleeps_until = 0.0
        for each in ready:
            if each == self._bell[0]:
                self._rung = False
                with contextlib.suppress(BlockingIOError):
                    os.read(self._bell[0], 4096)
            elif each in sentinels:
                sentinels[each].is_gone = True
                self._mark(sentinels[each], "dying")
            else:
                self._hear(lines[each], _AT_ONCE)

    def _wakes_at(self) -> float:
        engine = self._engine
        with engine.lock:
            times = [
                _limit(slot.inflight[0][0], self._spec.grace_s) for slot in engine.slots if slot.inflight
            ]
            times += [engine.queue.next_deadline(), self._nursery.next_start()]
        return min([self._health.next_at, *(when for when in times if when is not None)])

    def _slots(self) -> list[Slot]:
        with self._engine.lock:
            return list(self._engine.slots)

    def _mark(self, slot: Slot, state: str) -> None:
        with self._engine.lock:
            if slot.state != "dead":
                slot.state = state

    # ── hearing workers ─────────────────────────────────────────────────────────────────────────

    def _hear(self, slot: Slot, most: int) -> None:
        """Take what has come over a worker's line; so many messages at most, as others speak too."""
        assert slot.line is not None
        try:
            while most > 0 and slot.line.poll():
                self._take(slot, *pickle.loads(slot.line.recv_bytes()))  # noqa: S301  # from our own worker
                most -= 1
        except (EOFError, OSError):
            slot.is_silent = True

    def _take(self, slot: Slot, kind: str, number: int, *content: Any) -> None:
        if kind == "dying":
            slot.last_words = content[0]
        with self._engine.lock:
            task = slot.task(number)
        if task is not None:
            output.deliver(task, kind, *content)
        with self._engine.lock:
            slot.received += 1
            due = [each for each in slot.parked if each[0] <= slot.received]
            slot.parked = [each for each in slot.parked if each[0] > slot.received]
        for _, _, finish in due:
            finish()

    # ── stopping tasks ──────────────────────────────────────────────────────────────────────────

    def _obey(self) -> None:
        while self._stops:
            self._tell_to_stop(self._stops.popleft())
        while self._credits:
            task, taken = self._credits.popleft()
            slot = self._slot_of(task)
            if slot is not None:
                slot.tell("credit", (task.number, taken))
        while self._forgotten:
            session, reason = self._forgotten.popleft()
            for slot in self._slots():
                if session.key in slot.sessions:
                    slot.sessions.discard(session.key)
                    slot.tell("forget", session.key)
            self._engine.publish(SessionEnded(self._engine.name, session.name, reason))

    def _tell_to_stop(self, task: Task) -> None:
        slot = self._slot_of(task)
        if slot is None:
            return
        task.stop_at = time.monotonic() + self._spec.grace_s
        slot.tell("stop", task.number)
        self._engine.publish(
            TaskStopped(self._engine.name, task.number, task.stop_reason or "", task.correlation)
        )

    def _slot_of(self, task: Task) -> Slot | None:
        with self._engine.lock:
            return next(
                (slot for slot in self._engine.slots if any(each is task for each, _ in slot.inflight)), None
            )

    def _expire(self) -> None:
        """Fail what waited too long, stop what ran too long, kill what does not stop."""
        now, engine = time.monotonic(), self._engine
        with engine.lock:
            late = [task for task in engine.queue if task.deadline is not None and task.deadline <= now]
            for task in late:
                engine.queue.discard(task)
            heads = [(slot, slot.inflight[0][0]) for slot in engine.slots if slot.inflight]
        for task in late:
            engine.fail_late(task)
        for slot, task in heads:
            limit = _limit(task, self._spec.grace_s)
            if limit is None or limit > now:
                continue
            if task.stop_reason is not None:
                slot.kill("stop")
                continue
            task.stop_reason = "timeout" if task.deadline is None or task.deadline > now else "deadline"
            self._tell_to_stop(task)

    # ── ending ──────────────────────────────────────────────────────────────────────────────────

    def _release_replaced(self) -> None:
        """End workers whose successors are there, and which are done."""
        for slot in self._slots():
            if slot.state == "draining" and not slot.inflight and not slot.parked:
                slot.kill("recycled")

    def _bury(self) -> None:
        engine = self._engine
        for slot in self._slots():
            if slot.state == "dying" and burial.is_over(engine, slot):
                if slot.line is not None and not slot.is_silent:
                    self._hear(slot, sys.maxsize)
                self._nursery.note_death(slot, burial.bury(engine, slot))

    def _shut(self) -> None:
        self._nursery.close(_PATIENCE_S)
        slots = self._slots()
        for slot in slots:
            slot.kill("closed")
        for slot in slots:
            if slot.process is not None:
                wait([slot.process.sentinel], 1.0)
        executors = [slot.let_go() for slot in slots]
        for executor in executors:
            if executor is not None:
                executor.shutdown(wait=True, kill_workers=True)
        self._nursery.close_zygote()
        for slot in slots:
            parcels.sweep_after(parcels.results_of(self._engine.board.path, slot.pid or 0))
        self._engine.board.remove()
        assert self._bell is not None
        with self._lock:
            bell, self._bell = self._bell, None
            for end in bell:
                os.close(end)


def _limit(task: Task, grace_s: float) -> float | None:
    """When a running task must be told to stop, or, if it was told, when its worker is killed."""
    if task.stop_reason is None:
        return task.expires_at()
    began = task.started_at or 0.0
    return None if task.stop_at is None else max(task.stop_at, began + grace_s)
