"""What tasks print and log in a dask worker: each thread's goes home with its own task, all else where it went."""

from __future__ import annotations

import io
import logging
import sys
from typing import TYPE_CHECKING, Any

from dspex.pools.output import Forwarding, Routed

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import ContextVar

    from dspex.pools.dask_worker import Running
    from dspex.pools.output import Stream

_routed: list[Switched | Switching] = []


def for_task(say: Callable[[Stream, str], bool]) -> dict[Stream, Routed]:
    """Make a task's own `sys.stdout` and `sys.stderr`."""
    return {"stdout": Routed("stdout", say, None), "stderr": Routed("stderr", say, None)}


def route(current: ContextVar[Running | None], log_level: int) -> None:
    """Have what tasks print and log go home, from now on."""
    root = logging.getLogger()
    root.setLevel(min(log_level, root.level))
    if _routed:
        return
    out, err = Switched("stdout", sys.stdout, current), Switched("stderr", sys.stderr, current)
    handler = Switching(current)
    _routed.extend([out, err, handler])
    sys.stdout, sys.stderr = out, err
    root.addHandler(handler)


def restore() -> None:
    """Put everything back."""
    for each in _routed:
        if isinstance(each, Switching):
            logging.getLogger().removeHandler(each)
        elif sys.stdout is each:
            sys.stdout = each.original
        elif sys.stderr is each:
            sys.stderr = each.original
    _routed.clear()


class Switched(io.TextIOBase):
    """Stands for `sys.stdout` or `sys.stderr`."""

    def __init__(self, stream: Stream, original: Any, current: ContextVar[Running | None]) -> None:
        super().__init__()
        self.original = original
        self._stream = stream
        self._current = current

    def _target(self) -> Any:
        running = self._current.get()
        return self.original if running is None else running.outputs[self._stream]

    @property
    def buffer(self) -> Any:
        """Where bytes are written."""
        return self._target().buffer

    @property
    def encoding(self) -> str:  # type: ignore[override]  # an attribute there
        """The original's."""
        return str(self.original.encoding)

    def writable(self) -> bool:
        """Say that one can write to it."""
        return True

    def write(self, text: str, /) -> int:
        """Write where the running task's text goes."""
        return int(self._target().write(text))

    def flush(self) -> None:
        """Flush there."""
        self._target().flush()

    def fileno(self) -> int:
        """Return the descriptor of the original, which a subprocess writes to."""
        return int(self.original.fileno())


class Switching(logging.Handler):
    """Sends the records of tasks home; with no other handler, all else goes where logging would have put it."""

    def __init__(self, current: ContextVar[Running | None]) -> None:
        super().__init__()
        self._current = current

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record."""
        running = self._current.get()
        if running is not None:
            Forwarding(lambda fields: running.send("log", fields)).emit(record)
            return
        last = logging.lastResort
        is_alone = logging.getLogger().handlers == [self]
        if is_alone and last is not None and record.levelno >= last.level:
            last.handle(record)
