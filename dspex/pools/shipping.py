"""How functions, values and exceptions travel between processes."""

from __future__ import annotations

import io
import pickle
import sys
import traceback
import types
import weakref
from collections import OrderedDict
from collections.abc import Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from dspex.errors import RemoteError, ShippingError
from dspex.pools import secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    BufferCallback = Callable[[pickle.PickleBuffer], bool]
    Parts = Callable[[Any], Iterator[tuple[str, Any]]]

_Value = TypeVar("_Value")


class Packed(NamedTuple):
    """Something that is ready to travel, and the name it has everywhere."""

    digest: bytes
    data: bytes


def digest_of(data: bytes) -> bytes:
    """Name some bytes by what they are."""
    return blake2b(data, digest_size=12).digest()


SMALL = 1 << 14
"""Bytes. Two such messages fit into a pipe, so that writing them never waits."""


def is_small(message: Iterable[Any]) -> bool:
    """Whether a message of packed parts may be written at once."""
    return sum(len(each) for each in message if isinstance(each, (bytes, str))) < SMALL


def pack(
    what: str, value: Any, buffer_callback: BufferCallback | None = None, parts: Parts | None = None
) -> bytes:
    """Write a value down for another process; `buffer_callback` as in `pickle`, `parts` as for `blame`.

    Raises
    ------
    ShippingError
        If it cannot be; the message says which part, and where it is.
    """
    plain = pack_plain(value)
    if plain is not None:
        return plain
    file = io.BytesIO()
    try:
        secrets.dump(value, file, buffer_callback)
    except Exception as error:
        raise ShippingError(
            f"{what} cannot travel to another process: {blame(value, error, parts)}", hint=_HINT
        ) from error
    return file.getvalue()


_HINT = "build it in the worker: inside the function, or as a session's state"


def pack_call(
    args: tuple[Any, ...], kwargs: dict[str, Any], buffer_callback: BufferCallback | None = None
) -> bytes:
    """Write the arguments of a call down, as `pack` does."""
    return pack("an argument", (args, kwargs), buffer_callback, _parts_of_call)


class _NotPlainError(Exception):
    pass


class _Plain(pickle.Pickler):
    """Writes numbers, text and containers of them, and gives up at everything else."""

    def reducer_override(self, _: Any, /) -> Any:
        raise _NotPlainError


def pack_plain(value: Any) -> bytes | None:
    """Write plain data down ten times as fast as cloudpickle; None if there is anything else in it."""
    file = io.BytesIO()
    try:
        _Plain(file, 5).dump(value)
    except (_NotPlainError, RecursionError):
        return None
    data = file.getvalue()
    return None if secrets.are_in(data) else data


def pack_function(function: Any) -> Packed:
    """Write a function down; one from a notebook goes whole, with the globals it uses as they are now."""
    try:
        known = _importable.get(function)
    except TypeError:  # no function, and without a hash
        known = None
    if known is not None and _is_importable(function):
        return known
    data = pack(f"the function {_name_of(function)}", function)
    packed = Packed(digest_of(data), data)
    if isinstance(function, _FUNCTIONS) and _is_importable(function):
        _importable[function] = packed
    return packed


_FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType, type)
_importable: weakref.WeakKeyDictionary[Any, Packed] = weakref.WeakKeyDictionary()
"""Functions that travel as a name alone, which does not change."""


def _is_importable(function: Any) -> bool:
    import cloudpickle

    module, name = function.__module__, function.__qualname__
    home = sys.modules.get(module)
    if module == "__main__" or home is None or getattr(home, name, None) is not function:
        return False
    by_value = cloudpickle.list_registry_pickle_by_value()
    return not any(module == each or module.startswith(f"{each}.") for each in by_value)


def pack_within(value: Any, limit: int, buffer_callback: BufferCallback | None = None) -> bytes:
    """Write a result down, and give up as soon as it is longer than `limit` bytes; `buffer_callback` as in `pickle`."""
    plain = pack_plain(value)
    if plain is not None:
        if len(plain) > limit:
            raise too_large(limit)
        return plain
    file = _Bounded(limit)
    try:
        secrets.dump(value, file, buffer_callback)
    except (ShippingError, MemoryError):
        raise
    except Exception as error:
        raise ShippingError(
            f"the result cannot travel back: {blame(value, error)}",
            hint="return plain data: numbers, text, lists, dicts, arrays",
        ) from error
    return file.getvalue()


class _Bounded(io.BytesIO):
    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def write(self, data: Any, /) -> int:
        if self.tell() + memoryview(data).nbytes > self._limit:
            raise too_large(self._limit)
        return super().write(data)


def too_large(limit: int) -> ShippingError:
    """Say that a result is longer than it may be."""
    return ShippingError(
        f"the result is larger than the {limit >> 20} MiB that this pool takes back",
        hint="return less, write it to a file, keep it in a session, or raise max_result_mib",
    )


def unpack(data: bytes, buffers: Iterable[Any] = ()) -> Any:
    """Read what `pack` wrote."""
    return secrets.load(data, buffers)


class Known(OrderedDict[bytes, _Value]):
    """What a worker has got, by digest, the least recently used forgotten first.

    Both ends keep one, and as a worker takes its tasks in order, both always hold the same.
    """

    def use(self, digest: bytes, value: _Value | None) -> bool:
        """Note that something is needed; returns whether it was there. `value` is kept if it was not."""
        if digest in self:
            self.move_to_end(digest)
            return True
        if value is not None:
            self[digest] = value
        if len(self) > _KEPT:
            self.popitem(last=False)
        return False


_KEPT = 128


# ── what is to blame ────────────────────────────────────────────────────────────────────────────


def blame(value: Any, error: Exception, parts: Parts | None = None) -> str:
    """Find the innermost part of a value that cannot be written down, and say where it is.

    Parameters
    ----------
    parts
        Names the outermost parts; by default as Python would.

    Examples
    --------
    >>> import threading
    >>> blame(((1, {"lock": threading.Lock()}), {}), TypeError("cannot pickle"))
    "[0][1]['lock'] is a lock: cannot pickle '_thread.lock' object"
    """
    path, parts = "", parts or _parts
    for _ in range(_DEEPEST):
        found = next(
            ((where, part, why) for where, part in parts(value) if (why := _refusal(part)) is not None), None
        )
        if found is None:
            break
        where, value, error = found
        path, parts = path + where, _parts
    return f"{path or 'it'} is a {type(value).__name__}: {error}"


_DEEPEST = 8
_WIDEST = 1000


def _parts_of_call(call: tuple[tuple[Any, ...], dict[str, Any]]) -> Iterator[tuple[str, Any]]:
    args, kwargs = call
    yield from ((f"args[{k}]", part) for k, part in enumerate(args))
    yield from kwargs.items()


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from ((f"[{key!r}]", part) for key, part in list(value.items())[:_WIDEST])
    elif isinstance(value, (list, tuple)):
        yield from ((f"[{k}]", part) for k, part in enumerate(value[:_WIDEST]))
    elif isinstance(value, (set, frozenset)):
        yield from (("{…}", part) for part in list(value)[:_WIDEST])
    elif callable(value) and getattr(value, "__closure__", None):
        names = value.__code__.co_freevars
        yield from (
            (f".{name}", cell.cell_contents) for name, cell in zip(names, value.__closure__, strict=True)
        )
    elif isinstance(getattr(value, "__dict__", None), dict):
        yield from ((f".{name}", part) for name, part in vars(value).items())


def _refusal(value: Any) -> Exception | None:
    import cloudpickle

    try:
        cloudpickle.dumps(value, protocol=5)
    except Exception as error:  # noqa: BLE001  # whatever the value's own code raises is the answer
        return error
    return None


def _name_of(function: Any) -> str:
    return str(getattr(function, "__qualname__", None) or type(function).__name__)


# ── exceptions ──────────────────────────────────────────────────────────────────────────────────


def pack_error(error: BaseException) -> bytes:
    """Write an exception down, as itself if that can be read again, else as a record of it."""
    text = "".join(traceback.format_exception(error))
    for data in _ways(error, text):
        if data is not None:
            return data
    record = RemoteError.of(error, text)
    return pickle.dumps((record, text))


def _ways(error: BaseException, text: str) -> Iterator[bytes | None]:
    yield _tried((error, text), type(error))
    # An __init__ that does not take what it gave to Exception: rebuilt without calling it.
    state = {name: value for name, value in vars(error).items() if _refusal(value) is None}
    args = tuple(each if _refusal(each) is None else repr(each) for each in error.args)
    yield _tried((_Parts(type(error), args, state), text), type(error))


def _tried(content: Any, kind: type) -> bytes | None:
    import cloudpickle

    try:
        data: bytes = cloudpickle.dumps(content, protocol=5)
        if type(_rebuilt(pickle.loads(data)[0])) is kind:  # noqa: S301  # our own bytes
            return data
    except Exception:  # noqa: BLE001  # this way does not work for this exception; the next one may
        return None
    return None


class _Parts(NamedTuple):
    kind: type[BaseException]
    args: tuple[Any, ...]
    state: dict[str, Any]


def _rebuilt(content: Any) -> BaseException:
    if not isinstance(content, _Parts):
        return content  # type: ignore[no-any-return]  # an exception that pickles by itself
    error = content.kind.__new__(content.kind, *content.args)
    error.args = content.args
    vars(error).update(content.state)
    return error


def unpack_error(data: bytes) -> BaseException:
    """Read what `pack_error` wrote; the worker's traceback becomes the exception's cause."""
    try:
        content, text = unpack(data)
        error = _rebuilt(content)
    except Exception as failure:  # noqa: BLE001  # its class may exist in the worker alone
        return RemoteError(f"an exception came back that cannot be read here: {failure!r}")
    error.__cause__ = RemoteTraceback(text)
    return error


class RemoteTraceback(Exception):  # noqa: N818  # as the standard library calls its own
    """Where an exception was raised in the worker."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'
