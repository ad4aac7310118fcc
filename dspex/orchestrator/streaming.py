"""Answers that arrive piece by piece: made on one thread, read on another or on an event loop."""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dspex.orchestrator.result import Result
    from dspex.records import Outcome


class Stream:
    """The pieces of an answer as they arrive, for ``for`` and for ``async for``.

    What has been shown is never taken back: a model that fails before its first piece is replaced by
    another, one that fails later ends the stream with its error.

    Parameters
    ----------
    work
        Makes the answer, given where to put the pieces; begun at once, on a thread of its own.
    """

    def __init__(self, work: Callable[[Callable[[str], None]], Result]) -> None:
        self._pieces: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._result: Result | None = None
        self._failure: BaseException | None = None
        self._is_done = False
        context = contextvars.copy_context()
        self._thread = threading.Thread(
            target=context.run, args=(self._run, work), name="dspex-stream", daemon=True
        )
        self._thread.start()

    def __repr__(self) -> str:
        return f"<Stream: {'complete' if self._is_done else 'arriving'}>"

    def __iter__(self) -> Iterator[str]:
        while not self._is_done:
            piece = self._pieces.get()
            if piece is None:
                self._end()
                return
            yield piece

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        if self._is_done:
            raise StopAsyncIteration
        piece = await asyncio.to_thread(self._pieces.get)
        if piece is None:
            self._end()
            raise StopAsyncIteration
        return piece

    @property
    def result(self) -> Result:
        """The whole answer, with its decision and trace; waits for what has not arrived."""
        for _ in self:
            pass
        if self._failure is not None:
            raise self._failure
        assert self._result is not None
        return self._result

    def _run(self, work: Callable[[Callable[[str], None]], Result]) -> None:
        try:
            self._result = work(self._pieces.put)
        except BaseException as error:  # noqa: BLE001  # it is raised again where the pieces are read
            self._failure = error
        finally:
            self._pieces.put(None)

    def _end(self) -> None:
        self._is_done = True
        if self._failure is not None:
            raise self._failure


class Shown:
    """Hands pieces on, and knows what was shown, so that nothing is said twice."""

    def __init__(self, put: Callable[[str], Any]) -> None:
        self._put = put
        self.chars = 0

    def __call__(self, piece: str) -> None:
        """Show a piece."""
        if piece:
            self.chars += len(piece)
            self._put(piece)

    def ended(self, outcome: Outcome) -> Outcome:
        """Say how an attempt ended: what failed after something was shown is final."""
        if outcome.ok or not self.chars:
            return outcome
        if outcome.failure is not None:
            outcome.failure.retryable = False
        error = f"the answer broke off after {self.chars} characters were shown, so nothing else was tried: {outcome.error}"
        return replace(outcome, error=error, is_final=True)
