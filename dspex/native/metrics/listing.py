"""Metrics of lists: as sets, in order, and by the edits between them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dspex.native.metrics.numeric import is_number
from dspex.native.metrics.protocol import FieldMetric, shown
from dspex.native.metrics.text import normalize

_COMMA = re.compile(r"[,;\n]")
_DIGITS = re.compile(r"-?\d{1,15}(\.\d{1,15})?")


def items_of(value: Any) -> list[Any]:
    """Read a list: as it is, from JSON, or a text's parts between commas, semicolons and line ends.

    Examples
    --------
    >>> items_of("red, green"), items_of('["red", "green"]'), items_of(("red",)), items_of(3)
    (['red', 'green'], ['red', 'green'], ['red'], [3])
    """
    if isinstance(value, str):
        return _items_of_text(value)
    if isinstance(value, Iterable) and not isinstance(value, (bytes, Mapping)):
        return list(value)
    return [] if value is None else [value]


def _items_of_text(text: str) -> list[Any]:
    if text.lstrip().startswith("["):
        try:
            return list(json.loads(text))
        except json.JSONDecodeError:
            pass  # a text that merely begins like a list
    return [part.strip() for part in _COMMA.split(text) if part.strip()]


def _keys(value: Any) -> list[str]:
    return [_key(item) for item in items_of(value)]


def _key(item: Any) -> str:
    """Name an item so that equal ones have equal names: numbers by value, texts after `normalize`."""
    if is_number(item) or (isinstance(item, str) and _DIGITS.fullmatch(item.strip())):
        return repr(float(item))
    if isinstance(item, str):
        return normalize(item)
    return json.dumps(item, sort_keys=True, default=str)


# ── as sets ─────────────────────────────────────────────────────────────────────────────────────


def _set_f1(label: Any, predicted: Any) -> float:
    wanted, got = set(_keys(label)), set(_keys(predicted))
    if not wanted or not got:
        return float(wanted == got)
    return 2 * len(wanted & got) / (len(wanted) + len(got))


def _sets_differ(label: Any, predicted: Any) -> str:
    wanted, got = _by_key(label), _by_key(predicted)
    missing = [item for key, item in wanted.items() if key not in got]
    surplus = [item for key, item in got.items() if key not in wanted]
    said = [f"missing items: {_listed(missing)}"] if missing else []
    return "; ".join([*said, f"items too many: {_listed(surplus)}"] if surplus else said)


def _by_key(value: Any) -> dict[str, Any]:
    return {_key(item): item for item in items_of(value)}


def _listed(items: Iterable[Any]) -> str:
    return ", ".join(shown(item) for item in items)


# ── in order ────────────────────────────────────────────────────────────────────────────────────


def _list_f1(label: Any, predicted: Any) -> float:
    wanted, got = _keys(label), _keys(predicted)
    if not wanted or not got:
        return float(wanted == got)
    return 2 * common_length(wanted, got) / (len(wanted) + len(got))


def common_length(first: Sequence[Any], second: Sequence[Any]) -> int:
    """Return the length of the longest common subsequence.

    Examples
    --------
    >>> common_length("police killed the gunman".split(), "police kill the gunman".split())
    3
    """
    row = [0] * (len(second) + 1)
    for item in first:
        diagonal = 0
        for column, other in enumerate(second, start=1):
            above = row[column]
            row[column] = diagonal + 1 if item == other else max(above, row[column - 1])
            diagonal = above
    return row[-1]


def _edit_similarity(label: Any, predicted: Any) -> float:
    wanted, got = _parts(label), _parts(predicted)
    longest = max(len(wanted), len(got))
    return 1.0 if longest == 0 else 1 - edits(wanted, got) / longest


def _parts(value: Any) -> Sequence[str]:
    """Return what is edited: a text's characters, a list's items."""
    return normalize(value) if isinstance(value, str) or is_number(value) else _keys(value)


def edits(first: Sequence[Any], second: Sequence[Any]) -> int:
    """Count the insertions, deletions and replacements that turn one sequence into the other.

    References
    ----------
    Levenshtein (1966), "Binary codes capable of correcting deletions, insertions, and reversals"; the row-wise
    computation is Wagner and Fischer's (1974).

    Examples
    --------
    >>> edits("kitten", "sitting")
    3
    """
    row = list(range(len(second) + 1))
    for count, item in enumerate(first, start=1):
        diagonal, row[0] = row[0], count
        for column, other in enumerate(second, start=1):
            replaced = diagonal + (item != other)
            diagonal = row[column]
            row[column] = min(replaced, diagonal + 1, row[column - 1] + 1)
    return row[-1]


def _order_differs(label: Any, predicted: Any) -> str:
    items = _sets_differ(label, predicted)
    said = f"expected {shown(items_of(label))}, got {shown(items_of(predicted))}"
    return f"{said}; {items}" if items else f"{said}; the items are right, their order or number is not"


def _edited(label: Any, predicted: Any) -> str:
    parts = "characters" if isinstance(_parts(label), str) and isinstance(_parts(predicted), str) else "items"
    count = edits(_parts(label), _parts(predicted))
    return f"expected {shown(label)}, got {shown(predicted)}; {count} {parts} differ"


# ── ready-made ──────────────────────────────────────────────────────────────────────────────────

set_f1 = FieldMetric(
    "set_f1",
    _set_f1,
    _sets_differ,
    exact=False,
    doc="Overlap of two lists as sets; order and repetition do not count.",
)

list_f1 = FieldMetric(
    "list_f1",
    _list_f1,
    _order_differs,
    exact=False,
    doc="Overlap of two lists in order: F1 of their longest common subsequence, as in ROUGE-L (Lin 2004).",
)

edit_similarity = FieldMetric(
    "edit_similarity",
    _edit_similarity,
    _edited,
    exact=False,
    doc="1 minus the share of items (of a text, characters) that must be edited to turn one into the other.",
)
