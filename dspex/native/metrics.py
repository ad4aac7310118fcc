"""Metrics: how right a prediction is, in [0, 1]. Each takes ``(example, prediction, trace=None)``, as DSPy's do."""

from __future__ import annotations

import re
import string
from collections import Counter
from typing import TYPE_CHECKING, Any

from dspex.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_MISSING = object()
_PUNCTUATION = str.maketrans("", "", string.punctuation)


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


def exact_match(example: Any, prediction: Any, trace: object = None) -> bool:  # noqa: ARG001  # DSPy's protocol
    """Whether every label equals the prediction's field: numbers by value, the rest after `normalize`."""
    return all(_equal(label, _field(prediction, name)) for name, label in _labels(example))


def token_f1(example: Any, prediction: Any, trace: object = None) -> float:  # noqa: ARG001  # DSPy's protocol
    """Overlap of the words, counted as a multiset, averaged over the labels.

    References
    ----------
    Rajpurkar et al. (2016), the SQuAD evaluation script's F1.
    """
    scores = [_f1(label, _field(prediction, name)) for name, label in _labels(example)]
    return sum(scores) / len(scores)


def within(tolerance: float, *, field: str) -> Callable[..., bool]:
    """Make a metric that asks whether a number is within `tolerance`, in the field's own units, of the label."""

    def numeric(example: Any, prediction: Any, trace: object = None) -> bool:  # noqa: ARG001  # DSPy's protocol
        label, predicted = _number(example[field]), _number(_field(prediction, field))
        return label is not None and predicted is not None and abs(label - predicted) <= tolerance

    numeric.__name__ = f"{field}_within_{tolerance:g}"
    return numeric


def _labels(example: Any) -> list[tuple[str, Any]]:
    labels = example.labels()
    found = [(name, labels[name]) for name in labels.keys()]  # noqa: SIM118  # an Example is no mapping
    if not found:
        raise DataError(
            "a metric compares labels, and this example has only inputs",
            hint="leave labels out of with_inputs",
        )
    return found


def _field(prediction: Any, name: str) -> Any:
    """Return a field, or `_MISSING`; never a method that is called like it."""
    return prediction.get(name, _MISSING)


def _equal(label: object, predicted: object) -> bool:
    if predicted is _MISSING:
        return False
    if _is_number(label) or _is_number(predicted):
        return _number(label) == _number(predicted) is not None
    return normalize(label) == normalize(predicted)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _number(value: object) -> float | None:
    try:
        return float(value)  # type: ignore[arg-type]  # what is no number says so itself
    except (TypeError, ValueError):
        return None


def _f1(label: object, predicted: object) -> float:
    if predicted is _MISSING:
        return 0.0
    wanted, got = normalize(label).split(), normalize(predicted).split()
    if not wanted or not got:
        return float(wanted == got)
    common = sum((Counter(wanted) & Counter(got)).values())
    if common == 0:
        return 0.0
    precision, recall = common / len(got), common / len(wanted)
    return 2 * precision * recall / (precision + recall)
