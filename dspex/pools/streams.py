"""Streams: what a task yields, as it comes, and no faster than it is read."""

from __future__ import annotations

import asyncio
import queue
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from concurrent.futures import Future

    from dspex.pools.task import TaskFuture

_STEP = 10


class Stream:
    """Chunks of a running task: an iterator, an async iterator, and a context manager that stops the task.

    It ends in `StopIteration`, or in what the task raised, always.
    """

    def __init__(self, future: TaskFuture, read: Callable[[Any], Any], credit: Callable[[int], None]) -> None:
        self.future = future
        self._read = read
        self._credit = credit
        self._chunks: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._taken = 0
        self._is_over = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        if self._is_over:
            raise StopIteration
        try:
            chunk = self._chunks.get()
        except KeyboardInterrupt:
            self.close()
            raise
        if chunk is _END:
            self._is_over = True
            self.future.result()
            raise StopIteration
        self._taken += 1
        if self._taken % _STEP == 0:
            self._credit(self._taken)
        return self._read(chunk)

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._later()

    async def _later(self) -> AsyncIterator[Any]:
        try:
            while (item := await asyncio.to_thread(next, self, _END)) is not _END:
                yield item
        finally:
            self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Stop the task, if it has not ended."""
        if not self._is_over:
            self._is_over = True
            self.future.stop()

    # ── used by the engine ──────────────────────────────────────────────────────────────────────

    def put(self, chunk: Any) -> None:
        """Take a chunk in."""
        self._chunks.put(chunk)

    def end(self, _: Future[Any]) -> None:
        """Note that there are no more."""
        self._chunks.put(_END)


_END = object()
