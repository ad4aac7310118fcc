"""Metrics of texts: exact match, the overlap of words, and what a text contains."""

from __future__ import annotations

import re
import string
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

from dspex.errors import DataError, NotSupportedError
from dspex.native.metrics.numeric import is_number, number
from dspex.native.metrics.protocol import MISSING, FieldMetric, FunctionMetric, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_BORDER = "\x00"


def normalize(text: object) -> str:
    """Fold case, drop punctuation and articles, and squeeze spaces, as SQuAD's evaluation does.

    References
    ----------
    Rajpurkar et al. (2016), "SQuAD: 100,000+ questions for machine comprehension of text", evaluation script.

    Examples
    --------
    >>> normalize("The  Eiffel Tower!")
    'eiffel tower'
    """
    return " ".join(_ARTICLES.sub(" ", str(text).lower().translate(_PUNCTUATION)).split())


def same(label: object, predicted: object) -> bool:
    """Whether two values are equal: numbers by value, the rest after `normalize`.

    Examples
    --------
    >>> same(5, "5.0"), same("Paris", "paris."), same("5", "5.0")
    (True, True, False)
    """
    if is_number(label) or is_number(predicted):
        return number(label) == number(predicted) is not None
    return normalize(label) == normalize(predicted)


def f1_of(label: object, predicted: object) -> float:
    """Overlap of the words of two values, counted as a multiset after `normalize`.

    Examples
    --------
    >>> f1_of("Santa Clara, California", "Levi's Stadium in Santa Clara")
    0.5
    """
    return _f1(normalize(label), normalize(predicted))


def matches(pattern: str | re.Pattern[str], *, field: str) -> FunctionMetric:
    r"""Make a metric that asks whether a regular expression is found in a predicted field; no label is needed.

    Anchor it with ``^`` and ``$`` if the whole text must match.

    Raises
    ------
    DataError
        If `pattern` is no regular expression.

    Examples
    --------
    >>> dated = matches(r"^\d{4}-\d{2}-\d{2}$", field="date")
    >>> dated({}, {"date": "2024-02-29"}), dated({}, {"date": "29 February"})
    (True, False)
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise DataError(f"{pattern!r} is no regular expression: {error}") from error
    name = f"{field}_matches_{compiled.pattern}"
    return FunctionMetric(partial(_found, pattern=compiled, field=field), name)


def _found(
    _example: Any, prediction: Any, *, pattern: re.Pattern[str] = re.compile(""), field: str = ""
) -> tuple[bool, str]:
    value = prediction.get(field, MISSING)
    if value is MISSING:
        return False, f"Wrong.\n{field}: the prediction has no such field"
    if pattern.search(str(value)):
        return True, f"Right.\n{field}: right"
    return False, f"Wrong.\n{field}: nothing in {shown(value)} matches the pattern {pattern.pattern}"


def _differs(label: object, predicted: object) -> str:
    return f"expected {shown(label)}, got {shown(predicted)}"


def _words_differ(label: object, predicted: object) -> str:
    wanted, got = Counter(normalize(label).split()), Counter(normalize(predicted).split())
    said = [_differs(label, predicted)]
    if missing := list((wanted - got).elements()):
        said.append(f"missing words: {', '.join(missing)}")
    if surplus := list((got - wanted).elements()):
        said.append(f"words too many: {', '.join(surplus)}")
    return "; ".join(said)


def _contained(label: object, predicted: object) -> bool:
    words = normalize(label)
    return not words or f" {words} " in f" {normalize(predicted)} "


def _not_contained(label: object, predicted: object) -> str:
    return f"expected a text that contains {shown(label)}, got {shown(predicted)}"


def _f1(wanted_text: str, got_text: str) -> float:
    wanted, got = wanted_text.split(), got_text.split()
    if not wanted or not got:
        return float(wanted == got)
    common = sum((Counter(wanted) & Counter(got)).values())
    if common == 0:
        return 0.0
    precision, recall = common / len(got), common / len(wanted)
    return 2 * precision * recall / (precision + recall)


# ── many at once ────────────────────────────────────────────────────────────────────────────────


def _normalized(texts: Sequence[str]) -> list[str]:
    """Normalise many texts in one pass, joined by a character that no step removes or joins words across."""
    whole = _BORDER.join(texts)
    if whole.count(_BORDER) != len(texts) - 1:
        raise NotSupportedError("a text holds the character that separates texts in a batch")
    # Beside a border every letter is at a word's end, so `lower` and the articles' `\b` decide as in a text alone.
    cut = _ARTICLES.sub(" ", whole.lower().translate(_PUNCTUATION)).split(_BORDER)
    return [" ".join(text.split()) for text in cut]


def _same_each(labels: Sequence[str], predicted: Sequence[str]) -> list[float]:
    return [label == got for label, got in zip(_normalized(labels), _normalized(predicted), strict=True)]


def _f1_each(labels: Sequence[str], predicted: Sequence[str]) -> list[float]:
    # Most answers to a short question are right or share nothing, and equal texts need no counting.
    return [
        1.0 if label == got else _f1(label, got)
        for label, got in zip(_normalized(labels), _normalized(predicted), strict=True)
    ]


# ── ready-made ──────────────────────────────────────────────────────────────────────────────────

exact_match = FieldMetric(
    "exact_match",
    same,
    _differs,
    exact=True,
    batch=_same_each,
    doc="Whether every label equals the prediction's field: numbers by value, the rest after `normalize`.",
)

token_f1 = FieldMetric(
    "token_f1",
    f1_of,
    _words_differ,
    exact=False,
    batch=_f1_each,
    doc="Overlap of the words, as a multiset, averaged over the labels: the F1 of SQuAD's evaluation script.",
)

contains = FieldMetric(
    "contains",
    _contained,
    _not_contained,
    exact=True,
    doc="Whether every label's words stand, in a row, in the prediction's field; both after `normalize`.",
)
