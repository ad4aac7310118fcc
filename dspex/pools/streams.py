"""Streams: what a task yields, as it comes, and no faster than it is read."""

from __future__ import annotations

import asyncio
import functools
import logging
import queue
import threading
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from dspex.pools.task import TaskFuture

_log = logging.getLogger("dspex.pools")
_STEP = 10


class Stream:
    """Chunks of a running task: an iterator, an async iterator, and a context manager that stops the task.

    It ends in `StopIteration`, or in what the task raised, always. Nothing but its reader holds it: a stream that
    is dropped before its end stops its task.

    Parameters
    ----------
    future
        The task's.
    chunks
        Where they arrive, and `END` after the last.
    read
        Makes of a chunk what the task yielded.
    credit
        Is told how many chunks were taken.
    """

    def __init__(
        self,
        future: TaskFuture,
        chunks: queue.SimpleQueue[Any],
        read: Callable[[Any], Any],
        credit: Callable[[int], None],
    ) -> None:
        self.future = future
        self._chunks = chunks
        self._read = read
        self._credit = credit
        self._taken = 0
        self._is_over = False
        _stop_dropped()

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
        if chunk is END:
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
            while (item := await asyncio.to_thread(next, self, END)) is not END:
                yield item
        finally:
            self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        # The garbage collector comes in any thread and amid anything, a pool's lock in hand: stopping is for others.
        if not self._is_over:
            _dropped.put(self.future)

    def close(self) -> None:
        """Stop the task, if it has not ended."""
        if not self._is_over:
            self._is_over = True
            self.future.stop()


END = object()
_dropped: queue.SimpleQueue[TaskFuture] = queue.SimpleQueue()


@functools.cache
def _stop_dropped() -> None:
    """Have a thread, one for the process, stop the tasks whose streams nobody reads any more."""

    def stop() -> None:
        while True:
            try:
                _dropped.get().stop()
            except Exception:  # noqa: BLE001  # one pool's trouble; other streams are dropped after it
                _log.exception("a stream was dropped, and its task could not be stopped")

    threading.Thread(target=stop, name="dspex-streams", daemon=True).start()
