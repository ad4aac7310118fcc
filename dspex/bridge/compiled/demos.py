"""Demos that were written before: how to tell, without writing them again, that nothing in them has changed."""

from __future__ import annotations

import datetime
import decimal
import uuid
from itertools import chain
from operator import attrgetter, is_
from typing import TYPE_CHECKING, Any

import dspy

from dspex.bridge.compiled.values import UnprovenError, serializer_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

IMMUTABLE = frozenset(
    {
        bool, bytes, complex, datetime.date, datetime.datetime, datetime.time, datetime.timedelta,
        decimal.Decimal, float, int, str, type(None), uuid.UUID,
    }
)  # fmt: skip
_EXAMPLES = frozenset({dspy.Example, dspy.Prediction})
_stores_of_examples = attrgetter("_store")


def store_of(demo: Any) -> dict[str, Any]:
    """Return the dict in which a demo keeps its fields."""
    kind = type(demo)
    if kind is dict:
        return demo  # type: ignore[no-any-return]  # narrowed by its exact type
    if kind in _EXAMPLES:
        return demo._store  # type: ignore[no-any-return]  # noqa: SLF001  # its mapping protocol is this dict's
    raise UnprovenError


class FrozenDemos:
    """Written demos, and the very objects they were written from.

    An immutable object that is still in its place says what it said. Of the others the JSON is compared.

    Parameters
    ----------
    stores
        The demos' dicts.
    changing
        The places among their values that may change from within, each with what dumps it and what that gave.
    messages
        The messages.
    """

    __slots__ = ("_changing", "_keys", "_values", "messages")

    def __init__(
        self,
        stores: list[dict[str, Any]],
        changing: list[tuple[int, Callable[[Any], bytes], bytes]],
        messages: list[dict[str, Any]],
    ) -> None:
        self._keys = list(chain.from_iterable(stores))
        self._values = list(chain.from_iterable(map(dict.values, stores)))
        self._changing = changing
        self.messages = messages

    @classmethod
    def of(cls, stores: list[dict[str, Any]], messages: list[dict[str, Any]]) -> FrozenDemos | None:
        """Remember written demos, or return None if a later change could go unnoticed."""
        changing = []
        for place, value in enumerate(chain.from_iterable(map(dict.values, stores))):
            if type(value) in IMMUTABLE:
                continue
            dump = _dumper(value)
            if dump is None:
                return None
            changing.append((place, *dump))
        return cls(stores, changing, messages)

    def still_holds(self, demos: Iterable[Any]) -> bool:
        """Whether these demos would be written the same."""
        try:
            stores = list(map(_stores_of_examples, demos))
        except AttributeError:
            stores = list(map(store_of, demos))
        values = list(chain.from_iterable(map(dict.values, stores)))
        return (
            len(values) == len(self._values)
            and all(map(is_, values, self._values))
            and list(chain.from_iterable(stores)) == self._keys
            and all([dump(values[place]) == before for place, dump, before in self._changing])
        )


def _dumper(value: Any) -> tuple[Callable[[Any], bytes], bytes] | None:
    serializer = serializer_for(type(value))
    if serializer is None:
        return None
    to_json = serializer.to_json

    def dump(value: Any) -> bytes:
        found: bytes = to_json(value, fallback=str)
        return found

    try:
        dumped = dump(value)
    except Exception:  # noqa: BLE001  # then it is written as it prints, which only printing can tell
        return None
    # nan and infinities are null in JSON too, but not everywhere in a prompt.
    return None if b"null" in dumped else (dump, dumped)
