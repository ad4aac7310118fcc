"""Parcels: what travels in two parts, a message for what is small and shared memory for arrays.

A large buffer is written to a file in memory once, and mapped where it is read, without another copy. The file is
removed once its task is over, or its result was taken; what a worker that died has left goes at its burial.
"""

from __future__ import annotations

import contextlib
import itertools
import mmap
import os
import weakref
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from dspex.pools.shipping import digest_of, pack_call, pack_within, too_large

if TYPE_CHECKING:
    import pickle
    from collections.abc import Iterator, Sequence

LARGE = 1 << 18
"""Bytes. Below, a copy costs less than a file."""
_SAMPLE = 1 << 16
_numbers = itertools.count()


class Segment:
    """A buffer in shared memory; it is removed when nobody holds this object any more, at the latest at exit."""

    def __init__(self, path: str, raw: memoryview) -> None:
        self.path = path
        self.size = raw.nbytes
        _write(path, raw)
        self._end = weakref.finalize(self, _remove, path, os.getpid())

    def hand_over(self) -> str:
        """Leave its removal to whoever gets the path."""
        self._end.detach()
        return self.path

    def sample(self) -> bytes:
        """Read its beginning and its end."""
        with open(self.path, "rb") as file:  # noqa: PTH123  # one small read
            head = file.read(_SAMPLE)
            file.seek(max(0, self.size - _SAMPLE))
            return head + file.read()


def _write(path: str, raw: memoryview) -> None:
    """Write rather than map: where shared memory is full, writing fails, and a map kills the process."""
    file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        written = 0
        while written < raw.nbytes:
            written += os.write(file, raw[written:])
    except BaseException:
        os.unlink(path)  # noqa: PTH108  # a path that is text
        raise
    finally:
        os.close(file)


def _remove(path: str, pid: int) -> None:
    if os.getpid() == pid:  # a forked copy owns nothing
        with contextlib.suppress(OSError):
            os.unlink(path)  # noqa: PTH108  # as above


class Parcel(NamedTuple):
    """Something that is ready to travel."""

    data: bytes
    segments: tuple[Segment, ...] = ()

    @property
    def paths(self) -> tuple[str, ...]:
        """Where its buffers lie."""
        return tuple(each.path for each in self.segments)

    @property
    def digest(self) -> bytes:
        """A name for what is in it; of large buffers the size, the beginning and the end count."""
        parts = [each for one in self.segments for each in (one.size.to_bytes(8), one.sample())]
        return digest_of(b"".join([self.data, *parts]))


EMPTY = Parcel(b"")


def wrap(args: tuple[Any, ...], kwargs: dict[str, Any], prefix: str) -> Parcel:
    """Make a parcel of a call's arguments; `prefix` begins the names of its files.

    Raises
    ------
    ShippingError
        If one of them cannot travel.
    """
    apart = _Apart(prefix)
    data = pack_call(args, kwargs, buffer_callback=apart.take)
    return Parcel(data, tuple(apart.segments))


def wrap_within(value: Any, limit: int, prefix: str) -> Parcel:
    """Make a parcel of a result, and give up as soon as it is longer than `limit` bytes."""
    apart = _Apart(prefix, limit)
    data = pack_within(value, limit, buffer_callback=apart.take)
    if len(data) + apart.bytes > limit:
        raise too_large(limit)
    return Parcel(data, tuple(apart.segments))


class _Apart:
    """Takes large buffers out of a message as it is written."""

    def __init__(self, prefix: str, limit: int | None = None) -> None:
        self.segments: list[Segment] = []
        self.bytes = 0
        self._prefix = prefix
        self._limit = limit

    def take(self, buffer: pickle.PickleBuffer) -> bool:
        """Put a buffer in shared memory, or, by returning true, leave it in the message."""
        raw = buffer.raw()
        if raw.nbytes < LARGE or os.name != "posix":  # Windows removes no file that is mapped
            return True
        self.bytes += raw.nbytes
        if self._limit is not None and self.bytes > self._limit:
            raise too_large(self._limit)
        try:
            self.segments.append(self._place(raw))
        except OSError:  # there is no room for it, as in a container with little shared memory
            self.bytes -= raw.nbytes
            return True
        return False

    def _place(self, raw: memoryview) -> Segment:
        shelf = _shelf.get()
        found = None if shelf is None else shelf.find(raw)
        if found is not None:
            return found
        made = Segment(f"{self._prefix}-{next(_numbers)}", raw)
        if shelf is not None:
            shelf.keep(raw, made)
        return made


# ── reading ─────────────────────────────────────────────────────────────────────────────────────


def view(paths: Sequence[str]) -> list[memoryview]:
    """Map an argument's buffers; nobody can write to them."""
    return [_mapped(path, mmap.ACCESS_READ) for path in paths]


def adopt(paths: Sequence[str]) -> list[memoryview]:
    """Map a result's buffers and remove the files; the memory is the reader's own from then on."""
    views = []
    for path in paths:
        with contextlib.suppress(OSError):  # what is missing is found out when the result is read
            views.append(_mapped(path, mmap.ACCESS_COPY))
            os.unlink(path)  # noqa: PTH108  # a path that is text
    return views


def _mapped(path: str, access: int) -> memoryview:
    with open(path, "rb") as file:  # noqa: PTH123  # a descriptor
        return memoryview(mmap.mmap(file.fileno(), 0, access=access))


def sweep_after(prefix: str) -> None:
    """Remove the results that a dead worker has written and could not hand over."""
    for path in Path(prefix).parent.glob(f"{Path(prefix).name}-*"):
        path.unlink(missing_ok=True)


def results_of(board: str, pid: int) -> str:
    """Begin the names of one worker's results."""
    return f"{board}-w{pid}"


# ── sharing ─────────────────────────────────────────────────────────────────────────────────────


class Shelf:
    """Remembers which arrays are in shared memory already, for as long as both live."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], tuple[Any, Segment]] = {}

    @contextmanager
    def open(self) -> Iterator[None]:
        """Have arrays that are written down within looked for here."""
        token = _shelf.set(self)
        try:
            yield
        finally:
            _shelf.reset(token)

    def find(self, raw: memoryview) -> Segment | None:
        """Return where a buffer was put before."""
        owner, segment = self._known.get(_key(raw), (None, None))
        return segment if owner is not None and owner() is not None else None

    def keep(self, raw: memoryview, segment: Segment) -> None:
        """Remember where a buffer is, until the array that owns it goes."""
        key = _key(raw)
        with contextlib.suppress(
            TypeError
        ):  # some owners cannot be watched: their buffers are written each time
            self._known[key] = weakref.ref(_owner(raw), lambda _: self._known.pop(key, None)), segment

    def clear(self) -> None:
        """Forget them: from now on they may be changed."""
        self._known.clear()


def _key(raw: memoryview) -> tuple[int, int]:
    import numpy as np

    return np.frombuffer(raw, np.uint8).__array_interface__["data"][0], raw.nbytes


def _owner(raw: memoryview) -> Any:
    owner: Any = raw.obj
    while getattr(owner, "base", None) is not None:
        owner = owner.base
    return owner


_shelf: ContextVar[Shelf | None] = ContextVar("dspex_shelf", default=None)


@contextmanager
def sharing() -> Iterator[None]:
    """Write arrays that are submitted again and again within once only; they must not be changed meanwhile.

    Examples
    --------
    >>> import numpy as np
    >>> from dspex import pools
    >>> table = np.ones((1000, 1000))
    >>> with pools.sharing():
    ...     sums = [pools.general.submit(np.sum, table) for _ in range(3)]
    >>> [float(each.result()) for each in sums]
    [1000000.0, 1000000.0, 1000000.0]
    >>> pools.close("general")
    """
    shelf = Shelf()
    try:
        with shelf.open():
            yield
    finally:
        shelf.clear()
