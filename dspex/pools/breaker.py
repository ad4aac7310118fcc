"""A pool's breaker: which ends of its tasks are its own failures, and what is said while it takes no more."""

from __future__ import annotations

import logging
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from dspex.errors import (
    CancelledError,
    CircuitOpenError,
    ClusterError,
    PoisonTaskError,
    PoolError,
    WorkerCrashedError,
    WorkerStartError,
)
from dspex.events import PoolBreakerTurned
from dspex.pools.shipping import RemoteTraceback

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspex.events import Event
    from dspex.pools.task import Task
    from dspex.reliability.breaker import Breaker, Outcome, Transition

_log = logging.getLogger("dspex.pools")


class PoolBreaker:
    """Has a pool refuse tasks at once while it cannot do them, until one task has shown that it can again.

    What was taken on before is done all the same.
    """

    def __init__(self, pool: str, breaker: Breaker, publish: Callable[[Event], None]) -> None:
        self._pool = pool
        self._breaker = breaker
        self._publish = publish
        self._lock = threading.Lock()
        self._last = ""
        self.refused = 0
        breaker.listen = self._turned

    def __str__(self) -> str:
        state = self._breaker.state
        if state == "closed":
            return state
        when = f" for {self._breaker.retry_after_s:.1f} s" if state == "open" else ""
        return f"{state}{when}: {self._breaker.reason}; the last: {self._last}"

    def admit(self, task: Task) -> None:
        """Admit a task, and hear how it ends.

        Raises
        ------
        CircuitOpenError
            If the pool's last tasks failed by its own fault, or if another task is finding out whether it is well.
        """
        try:
            ticket = self._breaker.admit()
        except CircuitOpenError as error:
            with self._lock:
                self.refused += 1
            raise CircuitOpenError(
                f"{error.message}; the last: {self._last}",
                provider=error.provider,
                retry_after_s=error.retry_after_s,
                hint="the pool is tried again by itself, with one task; `dspex doctor` looks into it, and "
                f"dx.pools.close({self._pool!r}) has it begin anew",
            ) from None
        task.future.hear = partial(self._record, ticket, task)

    def _record(self, ticket: int, task: Task, error: BaseException | None) -> None:
        outcome = outcome_of(error)
        if outcome == "failure":
            self._last = str(getattr(error, "message", error))
        ran_s = 0.0 if task.started_at is None else time.monotonic() - task.started_at
        self._breaker.record(ticket, outcome, ran_s)

    def _turned(self, turn: Transition) -> None:
        reason = turn.reason
        if turn.after == "open":
            reason += f"; the last: {self._last}"
            _log.warning("pool %r takes no tasks for %.1f s: %s", self._pool, turn.open_s, reason)
        self._publish(PoolBreakerTurned(self._pool, turn.before, turn.after, reason, turn.open_s))


def outcome_of(error: BaseException | None) -> Outcome:
    """Say what a task's end means for its pool.

    What a function raises has come from a worker that is well. A call that costs every worker it is given, or
    wants more memory than one may hold, is at fault itself, and what waited, ran or was stopped as its caller
    asked says nothing.

    Examples
    --------
    >>> from dspex.errors import TaskTimeoutError
    >>> [outcome_of(each) for each in (None, ValueError("mine"), WorkerCrashedError("died"))]
    ['success', 'success', 'failure']
    >>> [outcome_of(each) for each in (PoisonTaskError("again"), TaskTimeoutError("late"))]
    ['ignored', 'ignored']
    """
    if error is None or isinstance(error.__cause__, RemoteTraceback):
        return "success"
    if isinstance(error, _OWN) and not isinstance(error, PoisonTaskError):
        return "failure"
    return "ignored" if isinstance(error, PoolError | CancelledError) else "success"


_OWN: tuple[type[Any], ...] = (WorkerCrashedError, WorkerStartError, ClusterError)
