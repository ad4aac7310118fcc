"""Metrics: how right a prediction is, in [0, 1]. Each takes ``(example, prediction, trace=None)``, as DSPy's do."""

from __future__ import annotations

import re
import string
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_ARTICLES = re.compile(r"\b(a|an|the)\b")
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
    labels = example.labels()
    return all(_equal(labels[name], getattr(prediction, name, None)) for name in labels.keys())  # noqa: SIM118  # an Example is no mapping


def token_f1(example: Any, prediction: Any, trace: object = None) -> float:  # noqa: ARG001  # DSPy's protocol
    """Overlap of the words, counted as a multiset, averaged over the labels.

    References
    ----------
    Rajpurkar et al. (2016), the SQuAD evaluation script's F1.
    """
    labels = example.labels()
    scores = [_f1(labels[name], getattr(prediction, name, "")) for name in labels.keys()]  # noqa: SIM118  # an Example is no mapping
    return sum(scores) / len(scores)


def within(tolerance: float, *, field: str) -> Callable[..., bool]:
    """Make a metric that asks whether a number is within `tolerance`, in the field's own units, of the label."""

    def numeric(example: Any, prediction: Any, trace: object = None) -> bool:  # noqa: ARG001  # DSPy's protocol
        try:
            return abs(float(example[field]) - float(getattr(prediction, field))) <= tolerance
        except (TypeError, ValueError):
            return False

    numeric.__name__ = f"{field}_within_{tolerance:g}"
    return numeric


def _equal(label: object, predicted: object) -> bool:
    if isinstance(label, (int, float)) and isinstance(predicted, (int, float)):
        return float(label) == float(predicted)
    return normalize(label) == normalize(predicted)


def _f1(label: object, predicted: object) -> float:
    wanted, got = normalize(label).split(), normalize(predicted).split()
    if not wanted or not got:
        return float(wanted == got)
    common = sum((Counter(wanted) & Counter(got)).values())
    if common == 0:
        return 0.0
    precision, recall = common / len(got), common / len(wanted)
    return 2 * precision * recall / (precision + recall)
