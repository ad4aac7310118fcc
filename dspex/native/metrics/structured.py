"""Metrics of structured answers: JSON objects, pydantic models and dataclasses, field by field."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from dspex.native.metrics.protocol import FieldMetric, shown
from dspex.native.metrics.text import same

_FENCE = re.compile(r"```(?:json)?\s*\n(.*?)```", re.DOTALL)
_ABSENT = object()


class Difference(NamedTuple):
    """One place where two structures differ.

    Attributes
    ----------
    path
        Where: ``items[2].price``; empty for the whole.
    kind
        ``missing``, ``surplus`` (not asked for) or ``wrong``.
    """

    path: str
    kind: Literal["missing", "surplus", "wrong"]
    expected: Any = None
    got: Any = None

    def __str__(self) -> str:
        place = f"{self.path}: " if self.path else ""
        if self.kind == "missing":
            return f"{place}missing, expected {shown(self.expected)}"
        if self.kind == "surplus":
            return f"{place}not asked for, got {shown(self.got)}"
        return f"{place}expected {shown(self.expected)}, got {shown(self.got)}"


def differences(expected: Any, got: Any) -> tuple[Difference, ...]:
    """Compare two structures leaf by leaf: numbers by value, texts after `normalize`.

    Each is a JSON value, a text that holds one (also in a fenced block), a pydantic model or a dataclass.

    Examples
    --------
    >>> for each in differences({"name": "Tea", "price": 3}, '{"name": "tea", "size": "M"}'):
    ...     print(each)
    price: missing, expected 3
    size: not asked for, got 'M'
    """
    return _compared(expected, got)[0]


def _compared(expected: Any, got: Any) -> tuple[tuple[Difference, ...], int]:
    """Return the differences, and how many leaves there are on either side."""
    wanted, found = dict(_leaves(_plain(expected))), dict(_leaves(_plain(got)))
    paths = list(dict.fromkeys([*wanted, *found]))
    compared = (_difference(path, wanted.get(path, _ABSENT), found.get(path, _ABSENT)) for path in paths)
    return tuple(each for each in compared if each is not None), len(paths)


def _difference(path: str, expected: Any, got: Any) -> Difference | None:
    if got is _ABSENT:
        return Difference(path, "missing", expected=expected)
    if expected is _ABSENT:
        return Difference(path, "surplus", got=got)
    return None if _equal(expected, got) else Difference(path, "wrong", expected, got)


def _equal(expected: Any, got: Any) -> bool:
    # JSON knows truth values, null and empty containers; a text that looks like one is another thing.
    if any(value is None or isinstance(value, (bool, dict, list)) for value in (expected, got)):
        return type(expected) is type(got) and bool(expected == got)
    return same(expected, got)


def _plain(value: Any) -> Any:
    """Turn models, dataclasses and JSON texts into dicts, lists and scalars."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, str):
        fenced = _FENCE.search(value)
        try:
            return json.loads(fenced.group(1) if fenced else value)
        except json.JSONDecodeError:
            return value
    return value


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, Sequence) and not isinstance(value, (str, bytes)) and value:
        for index, inner in enumerate(value):
            yield from _leaves(inner, f"{path}[{index}]")
    else:
        yield path, value


def _json_score(label: Any, predicted: Any) -> float:
    different, n_leaves = _compared(label, predicted)
    return 1 - len(different) / n_leaves


def _json_differs(label: Any, predicted: Any) -> str:
    return "\n  - ".join(["differs in", *map(str, differences(label, predicted))])


json_match = FieldMetric(
    "json_match",
    _json_score,
    _json_differs,
    exact=False,
    doc="Share of the leaves that are equal, among those on either side: missing and surplus ones are wrong.",
)
