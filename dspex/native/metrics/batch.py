"""Many predictions at once: their scores, their accuracy, and pass@k."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from dspex.errors import DataError, NotSupportedError
from dspex.native.first import native_first
from dspex.native.metrics.protocol import FieldMetric
from dspex.native.metrics.text import exact_match
from dspex.redact import quiet_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import numpy as np
    import numpy.typing as npt

_log = quiet_logger("dspex")


def score_all(
    metric: Callable[..., Any], examples: Iterable[Any], predictions: Iterable[Any]
) -> npt.NDArray[np.float64]:
    """Score many predictions.

    `exact_match` and `token_f1` take all texts in one pass; any other metric, and labels that are not texts,
    are taken one by one, with the same result. A pair that the metric cannot score is 0, and is logged.

    Parameters
    ----------
    metric
        Any metric, also a plain function.
    examples, predictions
        In the same order, equally many; a prediction may be None where a program failed.

    Returns
    -------
    One score each, shape ``(n,)``.

    Raises
    ------
    DataError
        If their numbers differ.

    Examples
    --------
    >>> import dspy
    >>> examples = [dspy.Example(q="?", answer=answer).with_inputs("q") for answer in ("Paris", "Oslo")]
    >>> score_all(exact_match, examples, [dspy.Prediction(answer="paris"), dspy.Prediction(answer="Rome")])
    array([1., 0.])
    """
    import numpy as np

    pairs = list(examples), list(predictions)
    if len(pairs[0]) != len(pairs[1]):
        raise DataError(
            f"examples and predictions must be equally many, got {len(pairs[0])} and {len(pairs[1])}"
        )
    return np.asarray(scored(metric, *pairs), dtype=np.float64)


def accuracy(
    examples: Iterable[Any], predictions: Iterable[Any], metric: Callable[..., Any] = exact_match
) -> float:
    """Return the mean score of many predictions: with `exact_match`, the share that is right.

    Raises
    ------
    DataError
        If there is none, or their numbers differ.
    """
    scores = score_all(metric, examples, predictions)
    if not len(scores):
        raise DataError("accuracy needs at least one example, got none")
    return float(scores.mean())


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """Estimate the chance that at least one of `k` answers is right, without bias.

    Parameters
    ----------
    samples
        How many answers were drawn for one task.
    correct
        How many of them were right.
    k
        How many answers one is allowed. Average the result over tasks.

    Raises
    ------
    DataError
        Unless 1 <= k <= samples and 0 <= correct <= samples.

    References
    ----------
    Chen et al. (2021), "Evaluating large language models trained on code", equation 1.

    Examples
    --------
    >>> pass_at_k(samples=5, correct=2, k=1), pass_at_k(samples=5, correct=2, k=3)
    (0.4, 0.9)
    """
    if not (1 <= k <= samples and 0 <= correct <= samples):
        raise DataError(
            f"pass@k needs 1 <= k <= samples and 0 <= correct <= samples, got samples={samples}, correct={correct}, k={k}"
        )
    # Whole numbers of any size are exact here; the paper's product keeps floats from overflowing.
    all_k = math.comb(samples, k)
    return (all_k - math.comb(samples - correct, k)) / all_k


def _at_once(metric: Callable[..., Any], examples: Sequence[Any], predictions: Sequence[Any]) -> list[float]:
    """Score all texts in one pass.

    Raises
    ------
    NotSupportedError
        If the metric has no such form, or something is no text.
    """
    if not isinstance(metric, FieldMetric) or metric.batch is None:
        raise NotSupportedError("the metric has no form for many texts at once")
    from dspex.bridge import examples as examples_bridge

    names = metric.fields if metric.fields is not None else examples_bridge.common_labels(examples)
    if not names:
        raise NotSupportedError("the examples differ in their labels, or have none")
    columns = []
    for name in names:
        try:
            wanted = [example[name] for example in examples]
            got = [prediction[name] for prediction in predictions]
        except (KeyError, TypeError):
            raise NotSupportedError("an example or a prediction lacks a field") from None
        if not all(type(value) is str for column in (wanted, got) for value in column):
            raise NotSupportedError("a label or a prediction is no text")
        columns.append(metric.batch(wanted, got))
    return columns[0] if len(columns) == 1 else [metric.together(row) for row in zip(*columns, strict=True)]


def _one_by_one(
    metric: Callable[..., Any], examples: Sequence[Any], predictions: Sequence[Any]
) -> list[float]:
    from dspex.bridge import program

    scored = [program.score(metric, *pair) for pair in zip(examples, predictions, strict=True)]
    failures = [trace for _, trace in scored if trace is not None]
    if failures:
        last_line = failures[0].strip().splitlines()[-1]
        _log.warning("%d of %d could not be scored and count 0: %s", len(failures), len(scored), last_line)
    return [score for score, _ in scored]


scored = native_first(_at_once, _one_by_one)
"""How `score_all` scores; `scored.fallbacks` counts why it did not take all texts at once."""
