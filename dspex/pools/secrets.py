"""Secrets stay out of messages: in their place a pickle names a variable of the environment that workers are given."""

from __future__ import annotations

import io
import os
import pickle
from functools import cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from dspex import redact
from dspex.errors import ShippingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_PREFIX, _SUFFIX = "DSPEX_SHIPPED_", "_KEY"


def dump(value: Any, file: io.BytesIO, buffer_callback: Callable[[pickle.PickleBuffer], Any] | None) -> None:
    """Write a value as cloudpickle does, without the secrets that are known to `dspex.redact`."""
    _writer()(file, protocol=5, buffer_callback=buffer_callback).dump(value)


def load(data: bytes, buffers: Iterable[Any] = ()) -> Any:
    """Read what `dump` wrote.

    Raises
    ------
    ShippingError
        If a secret did not come along.
    """
    if _PREFIX.encode() not in data:
        return pickle.loads(data, buffers=buffers)  # noqa: S301  # written by a process of our own
    return _Reader(io.BytesIO(data), buffers=buffers).load()


def are_in(data: bytes) -> bool:
    """Whether a message holds a secret as it is."""
    return any(each.encode() in data for each in redact.declared())


def environment() -> dict[str, str]:
    """Return the variables that hold what was left out."""
    return {name: value for name, value in os.environ.items() if name.startswith(_PREFIX)}


@cache
def _writer() -> type[Any]:
    import cloudpickle

    class Writer(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
        def __init__(self, file: io.BytesIO, **options: Any) -> None:
            super().__init__(file, **options)
            self._secrets = redact.declared()

        def persistent_id(self, value: Any) -> str | None:
            if type(value) is not str or value not in self._secrets:
                return None
            name = f"{_PREFIX}{blake2b(value.encode(), digest_size=8).hexdigest().upper()}{_SUFFIX}"
            os.environ[name] = value
            return name

    return Writer


class _Reader(pickle.Unpickler):
    def persistent_load(self, name: str) -> str:
        secret = os.environ.get(name)
        if secret is None:
            raise ShippingError(
                "a key that something was given did not reach this process",
                hint="set it in the environment of the worker, or make what needs it there",
            )
        redact.declare(secret)  # it must not be shown here either, nor travel back
        return secret
