"""Demos that were written before: how to tell, without writing them again, that nothing in them has changed."""

from __future__ import annotations

import datetime as dt
import decimal
import uuid
from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import dspy
import pydantic

from dspex.bridge.compiled.values import UnprovenError, serializer_for
from dspex.bridge.compiled.watching import holds_the_same, objects_in, stores_of_examples

if TYPE_CHECKING:
    from collections.abc import Callable

IMMUTABLE = frozenset(
    {
        bool, bytes, complex, dt.date, dt.datetime, dt.time, dt.timedelta,
        decimal.Decimal, float, int, str, type(None), uuid.UUID,
    }
)  # fmt: skip
_EXAMPLES = frozenset({dspy.Example, dspy.Prediction})
_dict_of_model = attrgetter("__dict__")
_values_of = dict.values


def store_of(demo: Any) -> dict[str, Any]:
    """Return the dict in which a demo keeps its fields."""
    kind = type(demo)
    if kind is dict:
        return demo  # type: ignore[no-any-return]  # narrowed by its exact type
    if kind in _EXAMPLES:
        return demo._store  # type: ignore[no-any-return]  # noqa: SLF001  # its mapping protocol is this dict's
    raise UnprovenError


def stores_of(demos: Any) -> list[dict[str, Any]]:
    """Return the dicts in which demos keep their fields."""
    found = stores_of_examples(demos, _EXAMPLES) if type(demos) is list else None
    return list(map(store_of, demos)) if found is None else found


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

    __slots__ = ("_dict_copies", "_dumps", "_list_copies", "_lists", "_models", "_objects", "messages")

    def __init__(self, stores: list[dict[str, Any]], messages: list[dict[str, Any]]) -> None:
        self.messages = messages
        values = list(chain.from_iterable(map(_values_of, stores)))
        changing = [value for value in values if type(value) not in IMMUTABLE]
        self._lists = list(filter(_is_flat_list, changing))
        self._models = list(filter(_is_flat_model, changing))
        dicts = stores + list(map(_dict_of_model, self._models))
        self._objects = list(objects_in(dicts, self._lists))
        self._dict_copies, self._list_copies = list(map(dict, dicts)), list(map(list, self._lists))
        rest = [value for value in changing if not (_is_flat_list(value) or _is_flat_model(value))]
        self._dumps = [(value, *_dumper(value)) for value in rest]

    def still_holds(self, demos: Any) -> bool:
        """Whether these demos would be written the same."""
        dicts = stores_of(demos)
        if self._models:
            dicts += map(_dict_of_model, self._models)
        return holds_the_same(dicts, self._dict_copies, self._lists, self._list_copies, self._objects) and (
            not self._dumps or all(dump(value) == before for value, dump, before in self._dumps)
        )


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
