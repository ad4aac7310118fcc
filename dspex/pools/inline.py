"""The inline pool: threads of this process.

Right for work that waits, as calls to models do. It isolates nothing: a crash is this process's crash.
"""

from __future__ import annotations

import queue
import threading
from concurrent.futures import Future
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from dspex.errors import DefinitionError, ExecutionError

if TYPE_CHECKING:
    from collections.abc import Callable


class InlinePool:
    """Runs work on daemon threads, each task within the caller's context variables.

    The standard `ThreadPoolExecutor` joins its threads when the interpreter exits, so that one call to a
    model that hangs would keep a kernel from restarting; these threads let go.
    """

    name = "inline"

    def __init__(self, workers: int) -> None:
        if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
            raise DefinitionError(f"a pool's workers must be a whole number > 0, got {workers!r}")
        self.workers = workers
        self._queue: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._unfinished = 0
        self._closed = False

    def __repr__(self) -> str:
        return f"<InlinePool: {self.workers} threads of this process>"

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run a function as soon as a thread is free."""
        future: Future[Any] = Future()
        context = copy_context()
        with self._lock:
            if self._closed:
                raise ExecutionError("this pool is closed", hint="dspex.configure(...) makes a new one")
            self._unfinished += 1
            self._queue.put((future, lambda: context.run(function, *args, **kwargs)))
            # Counting idle threads instead would let two quick tasks both count on the same one.
            if len(self._threads) < min(self._unfinished, self.workers):
                thread = threading.Thread(
                    target=self._work, name=f"dspex-inline-{len(self._threads)}", daemon=True
                )
                self._threads.append(thread)
                thread.start()
        return future

    def close(self) -> None:
        """Take no more work. What is running is left to end by itself."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for _ in self._threads:
                self._queue.put(None)

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            self._run(*item)
            del item  # an idle thread must not keep a task's arguments alive

    def _run(self, future: Future[Any], task: Callable[[], Any]) -> None:
        if not future.set_running_or_notify_cancel():
            self._finished()
            return
        try:
            result = task()
        except BaseException as error:  # noqa: BLE001  # a future carries whatever ended its task
            self._finished()
            future.set_exception(error)
        else:
            self._finished()
            future.set_result(result)

    def _finished(self) -> None:
        with self._lock:
            self._unfinished -= 1
