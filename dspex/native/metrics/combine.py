"""Metrics made of metrics: weighted, all, any, not, at least, and several right answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from dspex.errors import DataError
from dspex.native.metrics.listing import items_of
from dspex.native.metrics.numeric import is_number
from dspex.native.metrics.protocol import Asked, FieldMetric, Metric, Verdict, as_gepa, headline, shown

Fold = Callable[[Iterator[float]], float]
"""Turns the parts' scores into one; it asks for no more of them than it needs."""


class Combined(Metric):
    """A metric made of others: their scores are folded into one, their feedback stands one below the other."""

    def __init__(self, name: str, parts: Iterable[Callable[..., Any]], fold: Fold) -> None:
        super().__init__(name)
        self.parts: tuple[Metric, ...] = tuple(as_gepa(part) for part in parts)
        if not self.parts:
            raise DataError(f"{name} needs at least one metric, got none")
        self.fold = fold

    def score(self, example: Any, prediction: Any, asked: Asked) -> float:
        """Ask the parts, in order, as far as needed."""
        return self.fold(part.score(example, prediction, asked) for part in self.parts)

    def judge(self, example: Any, prediction: Any, asked: Asked) -> Verdict:
        """Ask the parts, in order, as far as needed, and say what each found."""
        said: list[str] = []

        def scores() -> Iterator[float]:
            for part in self.parts:
                verdict = part.judge(example, prediction, asked)
                said.append(f"{part.__name__}: {verdict.feedback}")
                yield verdict.score

        score = self.fold(scores())
        return Verdict(score, "\n".join([headline(score), f"{self.__name__} looks at:", *said]))


def weighted(weights: Mapping[Callable[..., Any], float]) -> Combined:
    """Make a metric that is the weighted mean of others; the weights need not add up to 1.

    Raises
    ------
    DataError
        If a weight is negative or no number, or all are 0.

    Examples
    --------
    >>> import dspy
    >>> from dspex.native.metrics import exact_match, token_f1
    >>> example = dspy.Example(question="?", answer="Denver Broncos").with_inputs("question")
    >>> mixed = weighted({exact_match: 1, token_f1: 3})
    >>> mixed(example, dspy.Prediction(answer="Broncos"))
    0.5
    """
    for metric, weight in weights.items():
        if not is_number(weight) or not 0 <= weight < float("inf"):
            raise DataError(f"a weight must be a number >= 0, {_name(metric)} has {weight!r}")
    total = float(sum(weights.values()))
    if total <= 0:
        raise DataError(
            "the weights must add up to more than 0", hint="weighted({exact_match: 1, token_f1: 1})"
        )
    shares = tuple(weight / total for weight in weights.values())
    name = " + ".join(f"{share:g}*{_name(metric)}" for metric, share in zip(weights, shares, strict=True))
    return Combined(name, weights, partial(_mean, shares=shares))


def all_of(*metrics: Callable[..., Any]) -> Combined:
    """Make a metric that is as low as the lowest; once one says 0, the rest are not asked.

    Put what is cheap first. Of metrics that say right or wrong, it is their "and".

    Examples
    --------
    >>> from dspex.native.metrics import exact_match, matches
    >>> all_of(matches(r"^[A-Z]", field="answer"), exact_match)
    <metric all_of(answer_matches_^[A-Z], exact_match)>
    """
    return Combined(f"all_of({_names(metrics)})", metrics, _lowest)


def any_of(*metrics: Callable[..., Any]) -> Combined:
    """Make a metric that is as high as the highest; once one says 1, the rest are not asked.

    Put what is cheap first: a judge behind an exact match is paid only where that fails. Of metrics that say
    right or wrong, it is their "or".
    """
    return Combined(f"any_of({_names(metrics)})", metrics, _highest)


def not_(metric: Callable[..., Any]) -> Combined:
    """Make a metric that is right where another is wrong: 1 minus its score, or its negation."""
    return Combined(f"not_({_name(metric)})", [metric], _inverted)


def threshold(metric: Callable[..., Any], at_least: float) -> Combined:
    """Make a metric that says right where another's score is at least so high.

    Examples
    --------
    >>> import dspy
    >>> from dspex.native.metrics import token_f1
    >>> example = dspy.Example(question="?", answer="Denver Broncos").with_inputs("question")
    >>> threshold(token_f1, 0.6)(example, dspy.Prediction(answer="Broncos"))
    True
    """
    if not is_number(at_least):
        raise DataError(f"at_least must be a number, got {at_least!r}", hint="threshold(token_f1, 0.8)")
    name = f"{_name(metric)}_at_least_{at_least:g}"
    return Combined(name, [metric], partial(_reaches, at_least=at_least))


def any_answer(metric: FieldMetric) -> FieldMetric:
    """Make a metric for labels that list several right answers: the best comparison counts, as in SQuAD.

    Examples
    --------
    >>> import dspy
    >>> from dspex.native.metrics import exact_match
    >>> example = dspy.Example(question="?", answer=["Denver Broncos", "Broncos"]).with_inputs("question")
    >>> any_answer(exact_match)(example, dspy.Prediction(answer="the broncos"))
    True
    """
    if not isinstance(metric, FieldMetric):
        raise DataError(
            f"any_answer needs a metric that compares labels, got {metric!r}", hint="any_answer(exact_match)"
        )
    return FieldMetric(
        f"any_answer({metric.__name__})",
        partial(_best, compare=metric.compare),
        _none_of,
        exact=metric.exact,
        fields=metric.fields,
    )


def _best(label: Any, predicted: Any, *, compare: Callable[[Any, Any], float]) -> float:
    return max((compare(each, predicted) for each in _answers(label)), default=False)


def _none_of(label: Any, predicted: Any) -> str:
    return f"expected one of {', '.join(map(shown, _answers(label)))}, got {shown(predicted)}"


def _answers(label: Any) -> list[Any]:
    return [label] if isinstance(label, str) else items_of(label)


def _mean(scores: Iterator[float], *, shares: tuple[float, ...]) -> float:
    return float(sum(share * score for share, score in zip(shares, scores, strict=True)))


def _lowest(scores: Iterator[float]) -> float:
    lowest = next(scores)
    while lowest > 0 and (score := next(scores, None)) is not None:
        lowest = min(lowest, score)
    return lowest


def _highest(scores: Iterator[float]) -> float:
    highest = next(scores)
    while highest < 1 and (score := next(scores, None)) is not None:
        highest = max(highest, score)
    return highest


def _inverted(scores: Iterator[float]) -> float:
    score = next(scores)
    return (not score) if isinstance(score, bool) else 1 - score


def _reaches(scores: Iterator[float], *, at_least: float) -> bool:
    return bool(next(scores) >= at_least)


def _names(metrics: Iterable[Callable[..., Any]]) -> str:
    return ", ".join(map(_name, metrics))


def _name(metric: Callable[..., Any]) -> str:
    return str(getattr(metric, "__name__", type(metric).__name__))
