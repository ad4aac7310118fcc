"""What a task is, and the future that its caller holds."""

from __future__ import annotations

import itertools
import time
from concurrent.futures import Future
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dspex.errors import CancelledError, PoolError
from dspex.events import correlation_id

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context

    from dspex.pools.sessions import Session
    from dspex.pools.shipping import Packed

owner: ContextVar[str | None] = ContextVar("dspex_task_owner", default=None)
"""Who submits tasks just now, such as a notebook cell, so that its tasks can be stopped together."""

notes: ContextVar[dict[Any, Any] | None] = ContextVar("dspex_session_notes", default=None)
"""What `state` returns to the running task."""

is_inside: ContextVar[bool] = ContextVar("dspex_is_inside_worker", default=False)
"""Whether a task of a cluster's worker runs here, where there must be no pools."""

_numbers = itertools.count(1)


def state() -> dict[Any, Any]:
    """Return the notes of the session that the running task belongs to: a dict that lives in its worker.

    Raises
    ------
    PoolError
        If no task of a session runs here.
    """
    found = notes.get()
    if found is None:
        raise PoolError(
            "only a task that runs in a session has a state", hint="pool.submit(function, session='name')"
        )
    return found


class TaskFuture(Future[Any]):
    """A `concurrent.futures.Future` that can also stop a task which runs already."""

    def __init__(self, stop: Callable[[TaskFuture], bool] | None = None) -> None:
        super().__init__()
        self._stop = stop
        self.task: Task
        self.hear: Callable[[BaseException | None], None] | None = None
        """Is told how the task ends, before anybody who waits for it."""

    def stop(self) -> bool:
        """Cancel the task, or, if it runs, interrupt it; its worker goes on, sessions and all.

        Returns
        -------
        Whether there was anything to stop.
        """
        if self.cancel():
            return True
        return self._stop is not None and not self.done() and self._stop(self)

    def set_result(self, result: Any) -> None:
        """End well."""
        self.tell(None)
        super().set_result(result)

    def set_exception(self, exception: BaseException | None) -> None:
        """End in an error."""
        self.tell(exception)
        super().set_exception(exception)

    def cancel(self) -> bool:
        """Cancel the task, if it does not run yet."""
        is_cancelled = super().cancel()
        if is_cancelled:
            self.tell(CancelledError("the task was cancelled"))
        return is_cancelled

    def tell(self, error: BaseException | None) -> None:
        """Tell who is to hear it how the task ends; nobody is told twice."""
        hear, self.hear = self.hear, None
        if hear is not None:
            hear(error)

    def begin(self) -> bool:
        """Note that the task begins, or, if it was cancelled, tell those who wait; may be called again then."""
        with self._condition:
            is_told = self.cancelled() and self._state == "CANCELLED_AND_NOTIFIED"
            return not is_told and self.set_running_or_notify_cancel()

    def result(self, timeout: float | None = None) -> Any:
        """Return the result. An interrupt of the waiting caller stops the task too."""
        try:
            return super().result(timeout)
        except KeyboardInterrupt:
            self.stop()
            raise


@dataclass(slots=True, eq=False)
class Task:
    """One call that a pool has taken on.

    Arguments are written down when the task is made: what is done to them afterwards is not seen.
    """

    function: Packed
    arguments: Any
    future: TaskFuture
    session: Session | None = None
    timeout_s: float | None = None
    deadline: float | None = None
    """On `time.monotonic`, waiting included."""
    idempotent: bool = True
    priority: int = 0
    stream: Callable[[Any], None] | None = None
    """Takes the chunks of a streaming task."""
    number: int = field(default_factory=lambda: next(_numbers))
    context: Context = field(default_factory=copy_context)
    submitted_at: float = field(default_factory=time.monotonic)
    started_at: float | None = None
    crashes: int = 0
    """How many workers it has cost."""
    stop_reason: str | None = None
    """Why it was told to stop: ``timeout``, ``deadline`` or ``cancelled``."""
    stop_at: float | None = None
    """When its worker is killed if it has not stopped by then."""
    settled: bool = False
    queued: bool = False
    chunks: int = 0
    is_exempt: bool = False
    """Whether it is taken on however many wait, as who submits it counts by himself."""

    def __repr__(self) -> str:
        return f"<Task {self.number}>"

    @property
    def correlation(self) -> str | None:
        """The name of the work it belongs to."""
        return self.context.get(correlation_id)

    @property
    def owner(self) -> str | None:
        """Who submitted it."""
        return self.context.get(owner)

    def expires_at(self) -> float | None:
        """When it must be told to stop, given that it runs; None for never."""
        limits = [] if self.deadline is None else [self.deadline]
        if self.timeout_s is not None and self.started_at is not None:
            limits.append(self.started_at + self.timeout_s)
        return min(limits, default=None)
