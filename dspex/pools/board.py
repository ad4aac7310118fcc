"""The board: where workers show, without a word, that they live and what they are doing.

It is one small memory-mapped file a pool. Writing to it costs a microsecond and cannot block, and what a worker
wrote last can still be read when it is dead.
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
from pathlib import Path
from typing import NamedTuple

_RECORD = struct.Struct("=dQdQ")
_BEAT, _TASK, _SINCE = 0, 8, 16
_SIZE = 64  # a cache line each, so that workers do not slow one another


class Entry(NamedTuple):
    """What a worker shows."""

    beat: float
    """When it last showed that it lives, on the machine's monotonic clock; 0 before the first time."""
    task: int
    """The task it began last, or 0."""
    since: float
    """When it began that; 0 once it is done."""
    done: int
    """How many tasks it has run."""


def folder() -> Path:
    """Where boards lie: in memory if the system has such a place."""
    shared = Path("/dev/shm")  # noqa: S108  # the system's place for shared memory
    return shared if shared.is_dir() and os.access(shared, os.W_OK) else Path(tempfile.gettempdir())


class Board:
    """Records of fixed size, one a worker.

    Examples
    --------
    >>> board = Board.create("doctest", 2)
    >>> board.begin(1, task=7, now=3.0)
    >>> Board.open(board.path).read(1)
    Entry(beat=0.0, task=7, since=3.0, done=0)
    >>> board.remove()
    """

    def __init__(self, path: str, size: int) -> None:
        self.path = path
        with open(path, "r+b") as file:  # noqa: PTH123  # a descriptor for mmap
            self._map = mmap.mmap(file.fileno(), size)

    @classmethod
    def create(cls, pool: str, records: int) -> Board:
        """Make an empty board; its name says which process it belongs to."""
        path = folder() / f"dspex-{os.getpid()}-{pool}-{os.urandom(4).hex()}.board"
        path.write_bytes(bytes(records * _SIZE))
        return cls(str(path), records * _SIZE)

    @classmethod
    def open(cls, path: str) -> Board:
        """Open the board of another process."""
        return cls(path, Path(path).stat().st_size)

    def remove(self) -> None:
        """Take it away; who has it open keeps it."""
        Path(self.path).unlink(missing_ok=True)

    def clear(self, record: int) -> None:
        """Forget the worker that had this record."""
        self._map[record * _SIZE : (record + 1) * _SIZE] = bytes(_SIZE)

    def beat(self, record: int, now: float) -> None:
        """Show that the worker lives."""
        struct.pack_into("=d", self._map, record * _SIZE + _BEAT, now)

    def begin(self, record: int, *, task: int, now: float) -> None:
        """Show which task the worker is about to run."""
        struct.pack_into("=Qd", self._map, record * _SIZE + _TASK, task, now)

    def end(self, record: int, done: int) -> None:
        """Show that the worker is idle."""
        struct.pack_into("=dQ", self._map, record * _SIZE + _SINCE, 0.0, done)

    def read(self, record: int) -> Entry:
        """Read what a worker shows."""
        return Entry(*_RECORD.unpack_from(self._map, record * _SIZE))
