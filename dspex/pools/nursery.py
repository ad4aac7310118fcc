"""The nursery: how workers begin, how many, how fast, and what is done when they cannot."""

from __future__ import annotations

import logging
import os
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from dspex.errors import WorkerStartError
from dspex.events import PoolDegraded, WorkerStarted
from dspex.pools import devices, limits
from dspex.pools.crashes import FROM_OUTSIDE
from dspex.pools.slot import Slot

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from dspex.pools.crashes import Death
    from dspex.pools.local import LocalEngine
    from dspex.pools.zygote import Zygote

_log = logging.getLogger("dspex.pools")
_FEW = 3
"""So many workers may die in a row without having done anything before starting them is slowed down."""
_HOPELESS = 5
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 5.0
_FORKED_AT_ONCE = 16


class Nursery:
    """Starts the workers of one engine.

    Parameters
    ----------
    wake
        Called when there is a worker to look at.
    """

    def __init__(self, engine: LocalEngine, wake: Callable[[], None]) -> None:
        self._engine = engine
        self._spec = engine.spec
        self._wake = wake
        self._number = 0
        self._fruitless = 0
        self._not_before = self._died_at = 0.0
        self._threads: set[threading.Thread] = set()
        self._zygote: Zygote | None = None
        self._is_forking: bool | None = None

    @property
    def how(self) -> str:
        """How workers begin, and whether all is well."""
        begin = {None: "not started", True: "zygote", False: "spawn"}[self._is_forking]
        return (
            begin
            if self._fruitless < _FEW
            else f"{begin}, degraded: {self._fruitless} died without doing anything"
        )

    def missing(self) -> int:
        """How many workers there should be more; under the engine's lock."""
        engine = self._engine
        live = sum(slot.state in {"starting", "ready"} and slot.due is None for slot in engine.slots)
        busy = sum(bool(slot.inflight) for slot in engine.slots)
        return engine.scaling.grow(needed=busy + len(engine.queue), now=time.monotonic()) - live

    def next_start(self) -> float | None:
        """When workers that are missing may be started, if they must wait; under the engine's lock."""
        return self._not_before if self._fruitless >= _FEW and self.missing() > 0 else None

    def fill(self) -> None:
        """Start workers until there are enough."""
        if self._fruitless and self._has_worked():
            self._fruitless, self._not_before = 0, 0.0
        if time.monotonic() < self._not_before:
            return
        with self._engine.lock:
            missing = self.missing()
        for _ in range(missing):
            if not self.spawn():
                break

    def spawn(self, replaces: Slot | None = None) -> bool:
        """Start one worker; False if there is no place for it."""
        engine = self._engine
        at_once = _FORKED_AT_ONCE if self._forks() else os.cpu_count() or 1
        with engine.lock:
            starting = sum(slot.state == "starting" for slot in engine.slots)
            taken = {slot.record for slot in engine.slots}
            free = [record for record in range(2 * self._spec.workers) if record not in taken]
            if not free or starting >= at_once:
                return False
            engine.board.clear(free[0])
            slot = Slot(engine.name, f"{engine.name}-{self._number}", free[0], self._spec, engine.board)
            slot.replaces = replaces
            slot.device = devices.least_used(engine.placements, [each.device for each in engine.slots])
            self._number += 1
            engine.slots.append(slot)
        # A start waits for the zygote, or for a new interpreter; deadlines must not wait with it.
        thread = threading.Thread(
            target=self._start, args=(slot,), name=f"dspex-start-{slot.name}", daemon=True
        )
        self._threads.add(thread)
        thread.start()
        return True

    def _forks(self) -> bool:
        if self._is_forking is None:
            from dspex.pools.zygote import Zygote, is_safe

            self._is_forking = self._spec.start == "zygote" or (self._spec.start == "auto" and is_safe())
            if self._is_forking:
                environment = {**limits.environment(self._spec), **devices.HIDDEN}
                self._zygote = Zygote(self._spec.preload, environment)
        return self._is_forking

    def _start(self, slot: Slot) -> None:
        try:
            greeting = slot.start(self._zygote, self._engine.environment())
        except Exception as error:  # noqa: BLE001  # whatever keeps a process from starting
            slot.error = error
            with self._engine.lock:
                slot.state = "dying"
        else:
            greeting.add_done_callback(partial(self._greeted, slot))
        self._threads.discard(threading.current_thread())
        self._wake()

    def _greeted(self, slot: Slot, greeting: Future[Any]) -> None:
        if greeting.exception() is None:
            with self._engine.lock:
                if slot.state == "starting":
                    self._is_there(slot)
                self._engine.dispatch()
            self._engine.listen()
            self._engine.publish(WorkerStarted(self._engine.name, slot.name, slot.pid or 0))
        self._wake()

    def _is_there(self, slot: Slot) -> None:
        slot.state, slot.was_ready = "ready", True
        slot.idle_since = time.monotonic()
        self._engine.counters.started += 1
        if slot.replaces is not None and slot.replaces.state == "ready":
            slot.replaces.state = "draining"
        slot.replaces = None

    def _has_worked(self) -> bool:
        """Whether a worker has done anything that began after the last one died young."""
        with self._engine.lock:
            return any(slot.tasks and slot.began_at > self._died_at for slot in self._engine.slots)

    # ── when they die young ─────────────────────────────────────────────────────────────────────

    def note_death(self, slot: Slot, death: Death) -> None:
        """Slow down when workers die without having done anything; give up the zygote, or everything."""
        # One that somebody killed says nothing about how the next will do.
        is_harmless = slot.tasks or slot.killed_for or (slot.was_ready and death.kind in FROM_OUTSIDE)
        self._fruitless = 0 if is_harmless else self._fruitless + 1
        self._died_at = time.monotonic()
        if self._fruitless < _FEW:
            return
        pause = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** (self._fruitless - _FEW))
        self._not_before = time.monotonic() + pause
        reason = self._consequence(slot, death)
        if reason is None:
            return
        _log.warning("pool %r: %s", self._engine.name, reason)
        self._engine.publish(PoolDegraded(self._engine.name, reason))
        if not slot.was_ready and self._fruitless >= _HOPELESS:
            self._engine.fail_waiting(
                WorkerStartError(
                    f"pool {self._engine.name!r} cannot work: {reason}", hint="dspex doctor looks into it"
                )
            )

    def _consequence(self, slot: Slot, death: Death) -> str | None:
        if slot.was_ready:
            return f"{self._fruitless} workers in a row died without doing anything, the last by {death.text}"
        if self._is_forking and self._spec.start == "auto":
            self._fall_back()
            return f"workers cannot be forked here ({death.text}); they are started from nothing instead"
        if self._fruitless < _HOPELESS:
            return None
        return f"its workers cannot start: {death.text}"

    def _fall_back(self) -> None:
        self._is_forking, self._fruitless, self._not_before = False, 0, 0.0
        zygote, self._zygote = self._zygote, None
        if zygote is not None:
            zygote.close()

    def close(self, patience_s: float) -> None:
        """Let starts that are under way end; returns when there are none."""
        for thread in list(self._threads):
            thread.join(patience_s)

    def close_zygote(self) -> None:
        """End the zygote."""
        if self._zygote is not None:
            self._zygote.close()
