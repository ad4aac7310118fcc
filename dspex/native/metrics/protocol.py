"""What a metric is: one object for every way in which DSPy and its optimizers call a metric."""

from __future__ import annotations

import copy
import inspect
from abc import ABC, abstractmethod
from types import FunctionType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, overload

from dspex.errors import DataError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    Compare = Callable[[Any, Any], float]
    """(label, predicted) → how right, a bool or a number in [0, 1]."""
    Explain = Callable[[Any, Any], str]
    """(label, predicted) → what is wrong, in words."""
    Batch = Callable[[Sequence[str], Sequence[str]], list[float]]
    """(labels, predicted) → how right each is; for texts only."""

MISSING: Any = object()
"""Stands for a field that the prediction lacks."""

_UNASKED: Any = object()
_LEAST_PLACES, _MOST_PLACES = 2, 5
_SHOWN_CHARS = 200


class Verdict(NamedTuple):
    """A score, and what is to be said about it."""

    score: float
    feedback: str


class Asked(NamedTuple):
    """What DSPy passes beside example and prediction: the run's trace, and GEPA's predictor with its own."""

    trace: Any = None
    pred_name: str | None = None
    pred_trace: Any = None


class Metric(ABC):
    """How right a prediction is: called as DSPy calls a metric, and as GEPA does.

    ``metric(example, prediction)`` and ``metric(example, prediction, trace)`` return a number or a bool, as
    `dspy.Evaluate` and most optimizers want. ``metric(gold, pred, trace, pred_name, pred_trace)``, GEPA's call,
    and ``metric(example, prediction, feedback=True)`` return a `dspy.Prediction` with ``score`` and ``feedback``.

    Parameters
    ----------
    name
        What tables, and a study's identity, call it.
    """

    def __init__(self, name: str) -> None:
        self.__name__ = self.__qualname__ = name

    def __repr__(self) -> str:
        return f"<metric {self.__name__}>"

    @overload
    def __call__(
        self, example: Any, prediction: Any, trace: Any = None, *, feedback: Literal[False] = False
    ) -> float: ...
    @overload
    def __call__(
        self,
        example: Any,
        prediction: Any,
        trace: Any = None,
        pred_name: str | None = None,
        pred_trace: Any = None,
        *,
        feedback: bool = False,
    ) -> Any: ...
    def __call__(
        self,
        example: Any,
        prediction: Any,
        trace: Any = None,
        pred_name: Any = _UNASKED,
        pred_trace: Any = None,
        *,
        feedback: bool = False,
    ) -> Any:
        """Score a prediction; with GEPA's five arguments, or ``feedback=True``, say what is wrong with it too."""
        if pred_name is _UNASKED and not feedback:
            return self.score(example, prediction, Asked(trace))
        from dspex.bridge import program

        asked = Asked(trace, None if pred_name is _UNASKED else pred_name, pred_trace)
        return program.with_feedback(*self.judge(example, prediction, asked))

    @abstractmethod
    def score(self, example: Any, prediction: Any, asked: Asked) -> float:
        """Return the score alone: a bool, or a number, larger is better."""

    @abstractmethod
    def judge(self, example: Any, prediction: Any, asked: Asked) -> Verdict:
        """Return the score, and what is wrong in words."""


class FieldMetric(Metric):
    """Compares each label with the predicted field of its name.

    Parameters
    ----------
    name
        What tables call it.
    compare
        (label, predicted) → how right it is. A field that the prediction lacks is wrong without being asked.
    explain
        (label, predicted) → what is wrong.
    exact
        Whether a field is either right or wrong: then all must be right, and the score is a bool. Otherwise
        the score is the fields' mean.
    fields
        The labels that are compared; None means all of them.
    batch
        The comparison for many texts at once, where that pays.
    doc
        What `help` says.
    """

    def __init__(
        self,
        name: str,
        compare: Compare,
        explain: Explain,
        *,
        exact: bool,
        fields: Sequence[str] | None = None,
        batch: Batch | None = None,
        doc: str | None = None,
    ) -> None:
        super().__init__(name)
        self.compare, self.explain, self.exact, self.batch = compare, explain, exact, batch
        self.fields = None if fields is None else tuple(fields)
        if doc is not None:
            self.__doc__ = doc

    def on(self, *fields: str) -> FieldMetric:
        """Return the same metric for these labels only.

        Examples
        --------
        >>> from dspex.native.metrics import exact_match
        >>> exact_match.on("label")
        <metric exact_match.on(label)>
        """
        if not fields or not all(isinstance(field, str) for field in fields):
            raise DataError(
                f"a metric is restricted to labels by their names, got {fields}", hint="metric.on('answer')"
            )
        name = f"{self.__name__.partition('.on(')[0]}.on({', '.join(fields)})"
        made = copy.copy(self)
        made.fields, made.__name__, made.__qualname__ = fields, name, name
        return made

    def score(self, example: Any, prediction: Any, asked: Asked = Asked()) -> float:  # noqa: ARG002, B008  # it is immutable
        """Compare every field."""
        return self.together([self._compared(*pair) for _, *pair in self._pairs(example, prediction)])

    def judge(self, example: Any, prediction: Any, asked: Asked = Asked()) -> Verdict:  # noqa: ARG002, B008  # as above
        """Compare every field, and name what is wrong with each."""
        scores, said = [], []
        for name, label, predicted in self._pairs(example, prediction):
            score = self._compared(label, predicted)
            scores.append(score)
            if score >= 1:
                said.append(f"{name}: right")
            elif predicted is MISSING:
                said.append(f"{name}: expected {shown(label)}, but the prediction has no such field")
            else:
                said.append(f"{name}: {self.explain(label, predicted)}")
        score = self.together(scores)
        return Verdict(score, "\n".join([headline(score), *said]))

    def together(self, scores: Sequence[float]) -> float:
        """Fold the fields' scores into one."""
        return all(scores) if self.exact else sum(scores) / len(scores)

    def _compared(self, label: Any, predicted: Any) -> float:
        if predicted is MISSING:
            return False if self.exact else 0.0
        return self.compare(label, predicted)

    def _pairs(self, example: Any, prediction: Any) -> Iterator[tuple[str, Any, Any]]:
        for name, label in labels_of(example, self.fields):
            # Never an attribute: the field may be called like one of the prediction's own methods.
            yield name, label, prediction.get(name, MISSING)


class FunctionMetric(Metric):
    """Asks a function: ``(example, prediction)``, or as many of GEPA's five arguments as it takes.

    It returns a number or a bool, a pair (score, feedback), or anything with ``score`` and ``feedback``.
    """

    def __init__(self, function: Callable[..., Any], name: str | None = None) -> None:
        super().__init__(name or str(getattr(function, "__qualname__", type(function).__qualname__)))
        self.__name__ = self.__name__.rpartition(".")[2] if name is None else name
        if isinstance(function, FunctionType):
            self.__doc__ = function.__doc__
        # Not `__wrapped__`: whoever asks for our signature would be shown the function's.
        self.function = function
        self._places = _places(function, self.__name__)

    def score(self, example: Any, prediction: Any, asked: Asked) -> float:
        """Return the function's score as it is; whether it is a number is for the caller to judge."""
        score: float = self._parts(example, prediction, asked)[0]
        return score

    def judge(self, example: Any, prediction: Any, asked: Asked) -> Verdict:
        """Return the function's score, and its feedback or what can be said without any."""
        from dspex.bridge import program

        score, feedback = self._parts(example, prediction, asked)
        score = program.as_number(score, self)
        return Verdict(score, feedback or f"{headline(score)}\n{_side_by_side(example, prediction)}")

    def _parts(self, example: Any, prediction: Any, asked: Asked) -> tuple[Any, str | None]:
        value = self.function(*(example, prediction, *asked)[: self._places])
        if isinstance(value, tuple) and len(value) == 2:  # noqa: PLR2004  # score and feedback
            return value
        if hasattr(value, "score"):
            return value.score, getattr(value, "feedback", None)
        return value, None


def metric(function: Callable[..., Any]) -> Metric:
    """Decorate a function of ``(example, prediction)``, so that every DSPy optimizer accepts it.

    DSPy calls metrics in two ways, and one that fits only GEPA's five arguments scores 0 everywhere without a
    word when GEPA's own evaluation calls it with two. What this returns fits both. The function may return a
    number, a bool, or a pair (score, feedback).

    Raises
    ------
    DataError
        If the function cannot be called with two to five arguments.

    Examples
    --------
    >>> import dspy
    >>> @metric
    ... def brief(example, prediction):
    ...     n_words = len(prediction.answer.split())
    ...     return n_words <= 3, f"at most 3 words are wanted, got {n_words}"
    >>> example, prediction = dspy.Example(), dspy.Prediction(answer="it is the Eiffel Tower")
    >>> brief(example, prediction)
    False
    >>> brief(example, prediction, None, "predict", None).feedback
    'at most 3 words are wanted, got 5'
    """
    made = as_gepa(function)
    if made is not function and isinstance(function, FunctionType):
        # The function's name now leads to the metric, so pickle is told where the function itself is found.
        made.__module__ = function.__module__
        function.__qualname__ += ".function"
    return made


def as_gepa(function: Callable[..., Any]) -> Metric:
    """Return a metric that GEPA, and everything else in DSPy, accepts; `function` itself stays as it is.

    Examples
    --------
    >>> def right(example, prediction):
    ...     return example["answer"] == prediction["answer"]
    >>> as_gepa(right)
    <metric right>
    """
    if isinstance(function, Metric):
        return function
    if not callable(function):
        raise DataError(f"a metric must be callable, got {function!r}", hint="give a function")
    return FunctionMetric(function)


def labels_of(example: Any, fields: Sequence[str] | None) -> list[tuple[str, Any]]:
    """Return the labels by name: all of them, or the named ones.

    Raises
    ------
    DataError
        If there is none.
    UnknownNameError
        If a named one is not there.
    """
    if fields is not None:
        for name in fields:
            if name not in example:
                raise UnknownNameError.among("label", name, list(example.keys()))
        return [(name, example[name]) for name in fields]
    from dspex.bridge import examples

    found = examples.label_items(example)
    if not found:
        raise DataError(
            "a metric compares labels, and this example has only inputs",
            hint="leave labels out of with_inputs",
        )
    return found


def shown(value: object) -> str:
    """Show a value in feedback, not at full length."""
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"


def headline(score: float) -> str:
    """Say in a word or two how right something is.

    Examples
    --------
    >>> headline(True), headline(0.0), headline(2 / 3)
    ('Right.', 'Wrong.', 'Partly right: 0.67 of 1.')
    """
    if score >= 1:
        return "Right."
    return "Wrong." if score <= 0 else f"Partly right: {score:.2f} of 1."


def _places(function: Callable[..., Any], name: str) -> int:
    """Count how many of the five arguments a function takes."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some builtins have no signature
        return _LEAST_PLACES
    positional = [
        each for each in parameters if each.kind in {each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD}
    ]
    endless = any(each.kind is each.VAR_POSITIONAL for each in parameters)
    needed = sum(each.default is each.empty for each in positional)
    unnamed = [
        each.name for each in parameters if each.kind is each.KEYWORD_ONLY and each.default is each.empty
    ]
    most = _MOST_PLACES if endless else min(_MOST_PLACES, len(positional))
    if unnamed or needed > _MOST_PLACES or most < _LEAST_PLACES:
        raise DataError(
            f"a metric takes (example, prediction), {name} takes {inspect.signature(function)}",
            hint="write def metric(example, prediction), and at most trace, pred_name and pred_trace behind",
        )
    return most


def _side_by_side(example: Any, prediction: Any) -> str:
    """Show what was wanted and what came, for a function that says nothing itself."""
    from dspex.bridge import examples

    try:
        wanted = examples.label_items(example)
    except (AttributeError, ValueError):  # nobody told it which of its fields are inputs
        wanted = example.items()
    return f"expected {_listed(wanted)}; got {_listed(prediction.items())}"


def _listed(items: Iterable[tuple[str, Any]]) -> str:
    return ", ".join(f"{name}={shown(value)}" for name, value in items) or "nothing"
