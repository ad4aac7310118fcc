"""Micro-batching: single calls that meet while a worker is busy go to it together."""

from __future__ import annotations

import threading
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from dspex.errors import CancelledError, DefinitionError, PoolSaturatedError
from dspex.pools.task import TaskFuture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Future

_Calls = list["_Call"]


class _Call(TaskFuture):
    """One item's future."""

    def __init__(self, item: Any, stop: Callable[[TaskFuture], bool]) -> None:
        super().__init__(stop)
        self.item = item
        self.is_unwanted = False
        self.has_failed = False
        """Whether a list failed that it was in."""


class Batched:
    """Joins concurrent calls into lists, for a function that takes a list and returns as many results.

    A call goes out at once when nothing is under way, and what comes meanwhile goes out together when that is
    back: an idle worker is never kept waiting, so there is no timer to tune. Made by `Pool.batched`.

    Parameters
    ----------
    send
        Gives a list of items to a worker; its future holds the list of results.
    resend
        Does the same with a part of a list that failed; by default `send`.
    max_batch
        How many items go together at most.
    at_once
        How many lists may be under way; more than one worker pays if each has the model.
    queue_limit
        How many items may wait.

    Examples
    --------
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> with ThreadPoolExecutor() as threads:
    ...     doubled = Batched(lambda items: threads.submit(lambda: [2 * item for item in items]))
    ...     doubled(4), doubled.map([1, 2, 3])
    (8, [2, 4, 6])

    References
    ----------
    Crankshaw et al. (2017), "Clipper: a low-latency online prediction serving system", whose batches grow with
    the load in the same way.
    """

    def __init__(
        self,
        send: Callable[[list[Any]], Future[Any]],
        *,
        resend: Callable[[list[Any]], Future[Any]] | None = None,
        max_batch: int = 32,
        at_once: int = 1,
        queue_limit: int = 4096,
    ) -> None:
        for name, value in (("max_batch", max_batch), ("at_once", at_once), ("queue_limit", queue_limit)):
            if value < 1:
                raise DefinitionError(f"{name} must be > 0, got {value}")
        self._send = send
        self._resend = send if resend is None else resend
        self._max_batch = max_batch
        self._at_once = at_once
        self._queue_limit = queue_limit
        self._lock = threading.Lock()
        self._waiting: deque[_Call] = deque()
        self._halves: deque[_Calls] = deque()
        """Parts of lists that failed; they are tried by themselves."""
        self._under_way: dict[int, tuple[_Calls, Future[Any]]] = {}
        self._running = 0

    def __repr__(self) -> str:
        return f"<Batched: {len(self._waiting)} calls wait, {self._running} lists of at most {self._max_batch} run>"

    def __call__(self, item: Any) -> Any:
        """Call the function with one item, and wait."""
        return self.submit(item).result()

    def submit(self, item: Any) -> TaskFuture:
        """Call the function with one item.

        Raises
        ------
        PoolSaturatedError
            If too many items wait already.
        """
        return self._take_on([item])[0]

    def map(self, items: Iterable[Any]) -> list[Any]:
        """Call the function with each of the items, and wait for all, in their order."""
        calls = self._take_on(list(items))
        try:
            return [call.result() for call in calls]
        finally:
            for call in calls:
                call.stop()

    # ── sending ─────────────────────────────────────────────────────────────────────────────────

    def _take_on(self, items: list[Any]) -> _Calls:
        calls = [_Call(item, self._stop) for item in items]
        with self._lock:
            if len(self._waiting) + len(calls) > self._queue_limit:
                raise PoolSaturatedError(
                    f"{len(self._waiting)} calls wait to be batched, and {self._queue_limit} may",
                    hint="come back later, or raise queue_limit",
                )
            self._waiting.extend(calls)
        self._go_on()
        return calls

    def _go_on(self) -> None:
        """Send lists as long as there are items, and room for one more list."""
        while (calls := self._next()) is not None:
            try:
                send = self._resend if calls[0].has_failed else self._send
                future = send([call.item for call in calls])
            except Exception as error:  # noqa: BLE001  # whatever keeps it from going out is each caller's answer
                self._fail(calls, error)
                self._release()
                continue
            with self._lock:
                self._under_way[id(calls)] = (calls, future)
            future.add_done_callback(partial(self._back, calls))

    def _next(self) -> _Calls | None:
        with self._lock:
            if self._running >= self._at_once:
                return None
            calls = self._wanted()
            self._running += bool(calls)
            return calls or None

    def _wanted(self) -> _Calls:
        """Take the next list, without the calls that nobody waits for any more."""
        if self._halves:
            return self._halves.popleft()
        calls: _Calls = []
        while self._waiting and len(calls) < self._max_batch:
            call = self._waiting.popleft()
            if call.begin():
                calls.append(call)
        return calls

    # ── answers ─────────────────────────────────────────────────────────────────────────────────

    def _back(self, calls: _Calls, future: Future[Any]) -> None:
        with self._lock:
            self._under_way.pop(id(calls), None)
        error = CancelledError("the list of calls was stopped") if future.cancelled() else future.exception()
        if error is None:
            self._give(calls, future.result())
        elif len(calls) == 1 or isinstance(error, CancelledError):
            self._fail(calls, error)
        else:
            self._halve(calls)
        self._release()
        self._go_on()

    def _give(self, calls: _Calls, results: Any) -> None:
        if not isinstance(results, (list, tuple)) or len(results) != len(calls):
            count = len(results) if isinstance(results, (list, tuple)) else type(results).__name__
            wrong = DefinitionError(
                f"a batched function returns a list with a result for each item, got {count} for {len(calls)} items",
                hint="return [f(item) for item in items], in their order",
            )
            self._fail(calls, wrong)
            return
        for call, result in zip(calls, results, strict=True):
            if isinstance(result, Exception):
                call.set_exception(result)
            else:
                call.set_result(result)

    def _halve(self, calls: _Calls) -> None:
        """Try a list that failed in two parts: one bad item is found like that, and costs none of its neighbours."""
        unwanted = [call for call in calls if call.is_unwanted]
        self._fail(unwanted, CancelledError("the call was stopped"))
        wanted = [call for call in calls if not call.is_unwanted]
        middle = -(-len(wanted) // 2)
        for call in wanted:
            call.has_failed = True
        with self._lock:
            self._halves.extend(half for half in (wanted[:middle], wanted[middle:]) if half)

    @staticmethod
    def _fail(calls: _Calls, error: BaseException) -> None:
        for call in calls:
            call.set_exception(error)

    def _release(self) -> None:
        with self._lock:
            self._running -= 1

    # ── stopping ────────────────────────────────────────────────────────────────────────────────

    def _stop(self, future: TaskFuture) -> bool:
        """Note that nobody wants a result any more; a list that nobody wants any of is stopped."""
        assert isinstance(future, _Call)
        future.is_unwanted = True
        with self._lock:
            running = next(
                ((calls, task) for calls, task in self._under_way.values() if future in calls), None
            )
        if running is None or not all(call.is_unwanted for call in running[0]):
            return False
        task = running[1]
        return task.stop() if isinstance(task, TaskFuture) else task.cancel()
