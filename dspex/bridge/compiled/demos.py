"""Demos that were written before: how to tell, without writing them again, that nothing in them has changed."""

from __future__ import annotations

import datetime as dt
import decimal
import uuid
from itertools import chain
from operator import attrgetter, is_
from typing import TYPE_CHECKING, Any

import dspy
import pydantic

from dspex.bridge.compiled.values import UnprovenError, serializer_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

IMMUTABLE = frozenset(
    {
        bool, bytes, complex, dt.date, dt.datetime, dt.time, dt.timedelta,
        decimal.Decimal, float, int, str, type(None), uuid.UUID,
    }
)  # fmt: skip
_EXAMPLES = frozenset({dspy.Example, dspy.Prediction})
_stores_of_examples = attrgetter("_store")
_values_of = dict.values


def store_of(demo: Any) -> dict[str, Any]:
    """Return the dict in which a demo keeps its fields."""
    kind = type(demo)
    if kind is dict:
        return demo  # type: ignore[no-any-return]  # narrowed by its exact type
    if kind in _EXAMPLES:
        return demo._store  # type: ignore[no-any-return]  # noqa: SLF001  # its mapping protocol is this dict's
    raise UnprovenError


def stores_of(demos: Iterable[Any]) -> list[dict[str, Any]]:
    """Return the dicts in which demos keep their fields."""
    if _EXAMPLES.issuperset(map(type, demos)):
        return list(map(_stores_of_examples, demos))
    return list(map(store_of, demos))


class FrozenDemos:
    """Written demos, and the very objects they were written from.

    An immutable object that is still in its place says what it said. Lists and pydantic models of such objects
    are looked at one level down; of anything else the JSON is compared.

    Parameters
    ----------
    stores
        The demos' dicts.
    messages
        The messages.
    """

    __slots__ = ("_dumps", "_inner", "_keys", "_lists", "_models", "_sizes", "_values", "messages")

    def __init__(self, stores: list[dict[str, Any]], messages: list[dict[str, Any]]) -> None:
        self.messages = messages
        self._keys = list(chain.from_iterable(stores))
        self._values = list(chain.from_iterable(map(dict.values, stores)))
        changing = [k for k, value in enumerate(self._values) if type(value) not in IMMUTABLE]
        self._lists = [k for k in changing if _is_flat_list(self._values[k])]
        self._models = [k for k in changing if _is_flat_model(self._values[k])]
        known = {*self._lists, *self._models}
        self._dumps = [(k, *_dumper(self._values[k])) for k in changing if k not in known]
        self._sizes, self._inner = self._inside(self._values)

    def _inside(self, values: list[Any]) -> tuple[list[int], list[Any]]:
        groups = [values[k] for k in self._lists]
        groups += [values[k].__dict__.values() for k in self._models]
        return list(map(len, groups)), list(chain.from_iterable(groups))

    def still_holds(self, demos: Iterable[Any]) -> bool:
        """Whether these demos would be written the same."""
        try:
            stores = list(map(_stores_of_examples, demos))
        except AttributeError:
            stores = list(map(store_of, demos))
        values = list(chain.from_iterable(map(_values_of, stores)))
        if not (
            len(values) == len(self._values)
            and all(map(is_, values, self._values))
            and list(chain.from_iterable(stores)) == self._keys
        ):
            return False
        if self._sizes:
            sizes, inner = self._inside(values)
            if sizes != self._sizes or not all(map(is_, inner, self._inner)):
                return False
        return all(dump(values[place]) == before for place, dump, before in self._dumps)


def _is_flat_list(value: Any) -> bool:
    return type(value) is list and IMMUTABLE.issuperset(map(type, value))


def _is_flat_model(value: Any) -> bool:
    kind = type(value)
    if not issubclass(kind, pydantic.BaseModel) or not IMMUTABLE.issuperset(map(type, vars(value).values())):
        return False
    schema = kind.__pydantic_core_schema__  # not a dict before it is complete
    return not value.__pydantic_extra__ and type(schema) is dict and not _computes(schema)


def _computes(schema: Any) -> bool:
    """Whether a core schema serializes with more than the fields: then what it writes may change by itself."""
    if isinstance(schema, dict):
        if schema.get("serialization") or schema.get("computed_fields"):
            return True
        return any(map(_computes, schema.values()))
    return isinstance(schema, (list, tuple)) and any(map(_computes, schema))


def _dumper(value: Any) -> tuple[Callable[[Any], bytes], bytes]:
    """Return what dumps a value, and what it gives now.

    Raises
    ------
    UnprovenError
        If a change of the value could leave its JSON the same.
    """
    serializer = serializer_for(type(value))
    if serializer is None:
        raise UnprovenError
    to_json = serializer.to_json

    def dump(value: Any) -> bytes:
        found: bytes = to_json(value, fallback=str)
        return found

    dumped = dump(value)
    # nan and infinities are null in JSON too, but not everywhere in a prompt.
    if b"null" in dumped:
        raise UnprovenError
    return dump, dumped
