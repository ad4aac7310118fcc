"""Watching for changes: whether a signature, and the demos, are still what they were.

It is done at every call, so there is a twin in C, `_watching`, which takes over where it was built. Setting
``DSPEX_PURE=1`` before the first import leaves it aside.
"""

from __future__ import annotations

import importlib
import os
from itertools import chain
from operator import attrgetter, is_
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

_said = attrgetter("annotation", "json_schema_extra")
_store_of = attrgetter("_store")
_values_of = dict.values


def says_the_same(signature: Any, doc: str | None, snapshot: list[tuple[Any, Any]]) -> bool:
    """Whether a signature has these instructions, and fields of these annotations and descriptions."""
    return signature.__doc__ is doc and list(map(_said, signature.__pydantic_fields__.values())) == snapshot


def stores_of_examples(demos: list[Any], kinds: frozenset[type]) -> list[dict[str, Any]] | None:
    """Return the dicts in which examples keep their fields, or None if one is of another type."""
    return list(map(_store_of, demos)) if kinds.issuperset(map(type, demos)) else None


def objects_in(dicts: Iterable[dict[str, Any]], lists: Iterable[list[Any]]) -> Iterable[Any]:
    """Return all values of dicts, then all items of lists."""
    return chain(chain.from_iterable(map(_values_of, dicts)), chain.from_iterable(lists))


def holds_the_same(
    dicts: list[dict[str, Any]],
    dict_copies: list[dict[str, Any]],
    lists: list[list[Any]],
    list_copies: list[list[Any]],
    objects: list[Any],
) -> bool:
    """Whether containers hold the very objects that their copies hold; `objects` are those, in order.

    Equal values are not enough: 1 and True are equal, and written differently.

    Examples
    --------
    >>> holds_the_same([{"a": 1}], [{"a": 1}], [], [], [1])
    True
    >>> holds_the_same([{"a": True}], [{"a": 1}], [], [], [1])
    False
    """
    # Equal containers of identical objects have the same keys and lengths.
    return all(map(is_, objects_in(dicts, lists), objects)) and dicts == dict_copies and lists == list_copies


def _in_c() -> Any:
    if os.environ.get("DSPEX_PURE", "") not in ("", "0"):
        return None
    try:
        return importlib.import_module("dspex.bridge.compiled._watching")
    except ImportError:
        return None


_built = _in_c()
if _built is not None:
    holds_the_same = _built.holds_the_same
    says_the_same = _built.says_the_same
    stores_of_examples = _built.stores_of_examples


def path() -> Literal["compiled", "pure"]:
    """Say which of the two runs: ``"compiled"`` or ``"pure"``."""
    return "pure" if _built is None else "compiled"
