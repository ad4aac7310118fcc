"""Health: which workers hold too much, show no life, or have served long enough."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dspex.pools.local import LocalEngine
    from dspex.pools.nursery import Nursery
    from dspex.pools.slot import Slot

_TICK_S = 0.25
_IDLE_TICK_S = 1.0
_BUSY = 0.05
"""A silent worker that used this share of a processor is working."""


class Health:
    """Looks at the workers of one engine from time to time."""

    def __init__(self, engine: LocalEngine, nursery: Nursery) -> None:
        self._engine = engine
        self._spec = engine.spec
        self._nursery = nursery
        self.next_at = 0.0
        spec = engine.spec
        self._may_come_due = any(
            limit is not None for limit in (spec.max_tasks, spec.max_age_s, spec.recycle_mib)
        )

    def inspect(self, now: float) -> None:
        """Look at every worker, and forget sessions that nobody uses."""
        busy = False
        with self._engine.lock:
            slots = [slot for slot in self._engine.slots if slot.state in {"ready", "draining"}]
        for slot in slots:
            busy = busy or bool(slot.inflight)
            self._check_memory(slot)
            self._check_pulse(slot, now)
            reason = self.due(slot)
            if reason is not None and slot.state == "ready":
                self._replace(slot, reason)
        for session in self._engine.sessions.expired(now):
            self._engine.forget(session.name, "expired")
        self.next_at = now + min(_TICK_S if busy else _IDLE_TICK_S, self._spec.beat_s)

    def _check_memory(self, slot: Slot) -> None:
        held = slot.measure()
        if self._spec.memory_mib is not None and held > self._spec.memory_mib:
            slot.kill("memory")

    def _check_pulse(self, slot: Slot, now: float) -> None:
        """Kill a worker that is silent and does not work either; busy in C, it is silent too."""
        beat = self._engine.board.read(slot.record).beat
        if not beat or now - beat < 2 * self._spec.beat_s:
            slot.suspect_since = None
        elif slot.suspect_since is None:
            slot.suspect_since, slot.suspect_cpu_s = now, slot.cpu_s()
        elif now - beat > self._spec.beat_s * self._spec.beats_missed:
            used = slot.cpu_s() - slot.suspect_cpu_s
            if used > _BUSY * (now - slot.suspect_since):
                slot.suspect_since, slot.suspect_cpu_s = now, slot.cpu_s()
            else:
                slot.kill("hung")

    def is_due(self, slot: Slot) -> bool:
        """Whether a worker that has just done a task should be replaced; if so, it soon will be."""
        if not self._may_come_due or slot.due is not None or self.due(slot) is None:
            return False
        self.next_at = 0.0
        return True

    def due(self, slot: Slot) -> str | None:
        """Why a worker should be replaced, if it should."""
        spec, now = self._spec, time.monotonic()
        if spec.max_tasks is not None and slot.tasks >= spec.max_tasks:
            reason = "tasks"
        elif spec.max_age_s is not None and now - slot.began_at > spec.max_age_s:
            reason = "age"
        elif spec.recycle_mib is not None and slot.held_mib > spec.recycle_mib:
            reason = "memory"
        elif self._is_spare(slot, now):
            reason = "idle"
        else:
            return None
        return None if self._keeps_irreplaceable(slot) else reason

    def _is_spare(self, slot: Slot, now: float) -> bool:
        is_idle = not slot.inflight and not slot.sessions
        return is_idle and self._engine.scaling.is_spare(idle_since=slot.idle_since, now=now)

    def _keeps_irreplaceable(self, slot: Slot) -> bool:
        return any(each.on_loss == "fail" for each in self._engine.sessions.of(slot))

    def _replace(self, slot: Slot, reason: str) -> None:
        """Have a worker go once its successor is there and its own work is done."""
        engine = self._engine
        with engine.lock:
            if slot.due is not None:
                return
            if reason == "idle":
                if slot.inflight or not engine.scaling.shrink(
                    idle_since=slot.idle_since, now=time.monotonic()
                ):
                    return
                slot.state = "draining"
            slot.due = reason
        if reason != "idle" and not self._nursery.spawn(replaces=slot):
            slot.due = None
