"""What a task prints and logs: taken up in its worker, shown where the task came from."""

from __future__ import annotations

import io
import logging
import sys
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspex.pools.task import Task

_log = logging.getLogger("dspex.pools")
Stream = Literal["stdout", "stderr"]

sink: ContextVar[Callable[[Stream, str], None] | None] = ContextVar("dspex_task_output", default=None)
"""Takes what tasks print that are submitted while it is set; otherwise it is printed, in their caller's context."""

_LONGEST = 8192


def show(stream: Stream, text: str) -> None:
    """Show what a task printed. Called within the context that the task was submitted in."""
    taker = sink.get()
    if taker is not None:
        taker(stream, text)
        return
    target = sys.stdout if stream == "stdout" else sys.stderr
    target.write(text)
    target.flush()


def log(record: logging.LogRecord) -> None:
    """Hand a worker's log record to this process's loggers, as if it had been logged here."""
    logger = logging.getLogger(record.name)
    if logger.isEnabledFor(record.levelno):
        logger.handle(record)


def deliver(task: Task, kind: str, *content: Any) -> None:
    """Take what a running task says: ``output``, a ``log`` record, or a ``chunk`` of its stream."""
    try:
        if kind == "output":
            task.context.run(show, *content)
        elif kind == "log":
            said = {**content[0], "task": task.number, "correlation_id": task.correlation}
            task.context.run(log, logging.makeLogRecord(said))
        elif kind == "chunk" and task.stream is not None and not task.settled:
            task.chunks += 1
            task.stream(content[0])
    except Exception:  # noqa: BLE001  # where it is shown is the user's
        _log.exception("what task %d said could not be shown", task.number)


class Routed(io.TextIOBase):
    """Stands for `sys.stdout` or `sys.stderr` in a worker, and sends what is printed, a line at a time.

    Parameters
    ----------
    stream
        Which of the two.
    send
        Takes text; returns False if no task runs, so that it goes where it went before.
    original
        Where that is.
    """

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, stream: Stream, send: Callable[[Stream, str], bool], original: Any) -> None:
        super().__init__()
        self._stream = stream
        self._send = send
        self._original = original
        self._held: list[str] = []
        self._length = 0
        self.buffer = _Bytes(self)

    def writable(self) -> bool:
        """Say that one can write to it."""
        return True

    def write(self, text: str, /) -> int:
        """Keep text until its line is complete."""
        self._held.append(text)
        self._length += len(text)
        if "\n" in text or self._length >= _LONGEST:
            self.flush()
        return len(text)

    def flush(self) -> None:
        """Send what is kept."""
        if not self._held:
            return
        text, self._held, self._length = "".join(self._held), [], 0
        if not self._send(self._stream, text) and self._original is not None:
            self._original.write(text)
            self._original.flush()

    def fileno(self) -> int:
        """Return the descriptor of the original, which a subprocess writes to."""
        return int(self._original.fileno())


class _Bytes(io.RawIOBase):
    """Bytes that are no text are shown as escapes."""

    def __init__(self, routed: Routed) -> None:
        super().__init__()
        self._routed = routed

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        raw = bytes(data)
        self._routed.write(raw.decode("utf-8", "backslashreplace"))
        return len(raw)

    def flush(self) -> None:
        if not self.closed:
            self._routed.flush()


class Forwarding(logging.Handler):
    """Sends log records to the process that the task came from."""

    def __init__(self, send: Callable[[dict[str, Any]], bool]) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record: its text is made here, as its arguments may not travel."""
        fields = dict(record.__dict__)
        text = record.getMessage()
        if record.exc_info:
            text = f"{text}\n{logging.Formatter().formatException(record.exc_info)}"
        fields.update(msg=text, args=None, exc_info=None, exc_text=None)
        kept = {
            key: value for key, value in fields.items() if isinstance(value, (str, int, float, type(None)))
        }
        self._send(kept)
