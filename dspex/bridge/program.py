"""Programs: make them, look at them from outside, and run them."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import math
import traceback
from typing import TYPE_CHECKING, Any, NamedTuple

import dspy
from dspy.utils.exceptions import AdapterParseError

from dspex.bridge.compiled.accelerate import accelerated, is_chosen
from dspex.bridge.failures import translate, unreadable
from dspex.bridge.observe import metered
from dspex.bridge.parts import SWAPPABLE
from dspex.errors import DefinitionError, DspexError, ExhaustedError, ProviderError, UnknownNameError
from dspex.records import Outcome, Usage
from dspex.redact import redact, redacted_traceback

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

MODEL_FAILURES: tuple[type[Exception], ...] = (dspy.LMError, AdapterParseError, ProviderError)
"""What goes wrong on the model's side: no answer, or one that cannot be read."""
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def module_class(value: str | Callable[..., dspy.Module]) -> Callable[..., dspy.Module]:
    """Find a module class by DSPy's name for it, by import string, or take a class or factory as it is.

    Raises
    ------
    DefinitionError
        If it cannot be imported, or is a class that is not a `dspy.Module`.
    """
    found = _named_module(value) if isinstance(value, str) else value
    if isinstance(found, type) and not issubclass(found, dspy.Module):
        raise DefinitionError(
            f"a module must be a dspy.Module class, got {found.__name__}",
            hint="subclass dspy.Module, or give a function that makes one from a signature",
        )
    if not callable(found):
        raise DefinitionError(
            f"a module must be a dspy.Module class or a function that makes one, got {found!r}"
        )
    return found


def module_names() -> list[str]:
    """List DSPy's modules that solve a signature as they are: no tools, candidates or rewards have to be given.

    Examples
    --------
    >>> {"ChainOfThought", "Predict"} <= set(module_names())
    True
    >>> "ReAct" in module_names()
    False
    """
    return sorted(name for name, value in vars(dspy).items() if _needs_only_a_signature(value))


def _needs_only_a_signature(value: Any) -> bool:
    if not (isinstance(value, type) and issubclass(value, dspy.Module) and hasattr(value, "forward")):
        return False
    asked = [inspect.signature(getattr(value, name)).parameters for name in ("__init__", "forward")]
    wanted = [
        [
            name
            for name, each in parameters.items()
            if each.default is each.empty and each.kind not in _VARIADIC
        ]
        for parameters in asked
    ]
    return wanted == [["self", "signature"], ["self"]]


def _named_module(name: str) -> Any:
    module_name, colon, attribute = name.partition(":")
    if colon:
        try:
            return getattr(importlib.import_module(module_name), attribute)
        except (ImportError, AttributeError, TypeError, ValueError) as error:
            raise DefinitionError(f"cannot import the module {name!r}: {error}") from error
    found = getattr(dspy, name, None)
    if isinstance(found, type) and issubclass(found, dspy.Module):
        return found
    known = [
        key for key, each in vars(dspy).items() if isinstance(each, type) and issubclass(each, dspy.Module)
    ]
    raise UnknownNameError.among("DSPy module", name, known)


def is_program(value: object) -> bool:
    """Whether DSPy would call this a program."""
    return isinstance(value, dspy.Module)


def is_pure(module: Callable[..., Any]) -> bool:
    """Whether a module's answers depend on nothing but what its models are told: DSPy's own that call no tools."""
    return module in SWAPPABLE


def adapter_named(adapter: Any) -> list[Any]:
    """Name a format by its class and options, and by the DSPy that writes it."""
    options = (
        {name: repr(value) for name, value in sorted(vars(adapter or object).items())} if adapter else {}
    )
    return [type(adapter).__qualname__, options, dspy.__version__]


def make(signature: type[dspy.Signature], module: str | Callable[..., dspy.Module]) -> dspy.Module:
    """Make the program that solves `signature` through one module."""
    return module_class(module)(signature)


def input_names(program: dspy.Module) -> list[str]:
    """Return the names a program is called with: its signature's inputs, or its `forward`'s parameters."""
    if isinstance(program, SWAPPABLE):
        return list(_predictors(program)[0].signature.input_fields)
    # Looked up on the class: DSPy warns about everybody who touches `program.forward`.
    parameters = list(inspect.signature(type(program).forward).parameters.values())[1:]
    named = [each for each in parameters if each.kind in {each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY}]
    if not named:
        return list(_outer_signature(program).input_fields)
    return [each.name for each in named if each.default is each.empty]


def signature_of(program: dspy.Module) -> type[dspy.Signature]:
    """Return the signature that describes a program from outside: its inputs and its last predictor's outputs."""
    predictors = _predictors(program)
    if not predictors:
        raise DefinitionError(
            f"{type(program).__name__} holds no predictor, so there is nothing to run or to vary"
        )
    last = predictors[-1].signature
    if isinstance(program, SWAPPABLE):
        outside: type[dspy.Signature] = (
            last.delete("reasoning") if isinstance(program, dspy.ChainOfThought) else last
        )
        return outside
    if isinstance(
        getattr(program, "signature", None), type
    ):  # ReAct and its like keep what they were made of
        return _outer_signature(program)
    fields: dict[str, Any] = {name: (str, dspy.InputField()) for name in input_names(program)}
    fields |= {name: (info.annotation, dspy.OutputField()) for name, info in last.output_fields.items()}
    made: type[dspy.Signature] = dspy.make_signature(fields, last.instructions, type(program).__name__)
    return made


def models_of(program: dspy.Module) -> list[str]:
    """Return the models that the predictors are tied to, by name; empty if none is."""
    return sorted({predictor.lm.model for predictor in _predictors(program) if predictor.lm is not None})


def text_key(program: dspy.Module) -> str:
    """Name what a program says to models: its class, instructions, fields and demos."""
    said = [type(program).__name__]
    for name, predictor in program.named_predictors():
        state = predictor.dump_state(json_mode=True)
        said += [
            name,
            json.dumps({key: state[key] for key in ("demos", "signature")}, sort_keys=True, default=str),
        ]
    return hashlib.blake2b("\n".join(said).encode(), digest_size=8).hexdigest()


def run(
    program: dspy.Module,
    inputs: Mapping[str, Any],
    lm: dspy.BaseLM,
    *,
    failures: tuple[type[Exception], ...] = MODEL_FAILURES,
    stop: Callable[[], bool] | None = None,
) -> tuple[dspy.Prediction | None, Outcome]:
    """Run a program once and say what it took.

    Parameters
    ----------
    program, inputs, lm
        What to run, on what, and the model for predictors that have none of their own.
    failures
        Exceptions that become an outcome; what is not among them is a bug, and passes through.
    stop
        Asked after each call to a model; when it says yes, `observe.Stopped` ends the run.
    """
    # Byte for byte what DSPy's own adapters write and read, sooner.
    with metered(stop) as meter, accelerated(), dspy.context(lm=lm):
        try:
            prediction = program(**inputs)
        except Exception as error:
            ours = translate(error, provider=_provider(error, lm))
            if not isinstance(error, failures) and not isinstance(ours, ProviderError):
                raise
            return None, _failed(error, ours, meter.usage, _provider(error, lm))
        return prediction, Outcome(_fields(prediction), meter.usage)


def _provider(error: Exception, lm: dspy.BaseLM) -> str:
    """Name whose failure an error is: DSPy's say so, others are laid to the model in force."""
    return str(getattr(error, "model", None) or lm.model)


def _blamed(error: DspexError | None) -> ProviderError | None:
    """Return the failure of a provider that an error is, or that all ways of an execution have met."""
    if isinstance(error, ExhaustedError) and all(each.retryable for each in error.failures):
        error = next(iter(error.failures), None)
    return error if isinstance(error, ProviderError) else None


def _failed(error: Exception, ours: DspexError | None, usage: Usage, model: str) -> Outcome:
    """Write a failure as an outcome. An answer that cannot be read does not count against its provider."""
    if isinstance(error, AdapterParseError):
        told = unreadable(error, model)
        # Its traceback would hold the whole answer, which may be megabytes.
        return Outcome(None, usage, f"{type(error).__name__}: {told.message}"[:500], hint=told.hint)
    trace = redacted_traceback(error)
    failure = ours if isinstance(ours, ProviderError) else None
    hint = None if failure is None else failure.hint
    return Outcome(None, usage, redact(_described(ours or error)), trace, failure=failure, hint=hint)


def told_by(error: Exception) -> str:
    """Tell a failure of a program's for the ledger: a model's in a sentence or two, any other with its traceback."""
    if isinstance(error, AdapterParseError):
        return f"{type(error).__name__}: {unreadable(error, 'the model')}"
    ours = translate(error)
    return f"{type(ours).__name__}: {ours}" if isinstance(ours, ProviderError) else redacted_traceback(error)


def adapter_in_force() -> dspy.Adapter | None:
    """Return the adapter that was set with `dspy.configure` or `dspy.context`, if one was."""
    return dspy.settings.adapter


def has_chosen_format() -> bool:
    """Whether somebody told DSPy which adapter to use."""
    return is_chosen(dspy.settings.adapter)


def adapted(adapter: dspy.Adapter | None) -> AbstractContextManager[None]:
    """Run what is within with an adapter, as `adapter_in_force` gave it."""
    return dspy.context(adapter=adapter)  # type: ignore[no-any-return]  # dspy is untyped


def score(
    metric: Callable[..., Any], example: dspy.Example, prediction: dspy.Prediction
) -> tuple[float, str | None]:
    """Score a prediction; a metric that raises, or returns no number, scores 0 and leaves a traceback."""
    found = _judged(metric, example, prediction)
    return found.score, found.error


class Judgement(NamedTuple):
    """What a metric found."""

    score: float
    error: str | None
    feedback: str | None
    failure: ProviderError | None = None
    """What a model's provider did wrong that the metric asked, if that is why there is no score."""


def judged(
    metric: Callable[..., Any],
    example: dspy.Example,
    prediction: dspy.Prediction,
    lm: dspy.BaseLM,
    *,
    stop: Callable[[], bool] | None = None,
) -> tuple[Judgement, Usage]:
    """Score a prediction as `score` does, and say what a metric that asks a model has used.

    Such a metric asks `lm` unless it has a model of its own.
    """
    with metered(stop) as meter, dspy.context(lm=lm):
        found = _judged(metric, example, prediction, lm)
    usage = meter.usage
    return found, usage if usage.calls else Usage()


def _judged(
    metric: Callable[..., Any],
    example: dspy.Example,
    prediction: dspy.Prediction,
    lm: dspy.BaseLM | None = None,
) -> Judgement:
    try:
        value = metric(example, prediction)
        return Judgement(as_number(value, metric), None, getattr(value, "feedback", None))
    except Exception as error:  # noqa: BLE001  # the user's own code: any failure of it is a data point
        failure = None if lm is None else _blamed(translate(error, provider=_provider(error, lm)))
        return Judgement(0.0, redact(traceback.format_exc()), None, failure)


def ideal_prediction(example: dspy.Example, outputs: Sequence[str]) -> dspy.Prediction:
    """Make the prediction that a perfect program would give, to try a metric on before anything is paid for."""
    labels = example.labels().toDict()
    return dspy.Prediction(**dict.fromkeys(outputs, "") | labels)


def number(
    metric: Callable[..., Any], example: dspy.Example, prediction: dspy.Prediction, lm: dspy.BaseLM
) -> float:
    """Score a prediction and let whatever the metric raises through."""
    with dspy.context(lm=lm):
        return as_number(metric(example, prediction), metric)


def as_number(value: Any, metric: Callable[..., Any]) -> float:
    """Return what a metric returned as a number.

    Raises
    ------
    DefinitionError
        If it is neither a finite number, a bool, nor something with such a score.
    """
    value = getattr(value, "score", value)  # GEPA's metrics return a Prediction with a score and feedback
    try:
        result = math.nan if isinstance(value, (str, bytes)) else float(value)
    except (TypeError, ValueError):
        result = math.nan
    if not math.isfinite(result):
        name = getattr(metric, "__name__", type(metric).__name__)
        raise DefinitionError(
            f"a metric must return a number or a bool, {name} returned {value!r}",
            hint="return 1.0 for right and 0.0 for wrong",
        )
    return result


def with_feedback(score: float, feedback: str) -> dspy.Prediction:
    """Make what GEPA wants of a metric: a score, and what is to be said about it."""
    return dspy.Prediction(score=float(score), feedback=feedback)


def ask(program: dspy.Module, inputs: Mapping[str, Any], lm: dspy.BaseLM | None) -> dict[str, Any]:
    """Run a program on a model, or on the one in force, and return its fields; what goes wrong is raised.

    Raises
    ------
    DefinitionError
        If no model is given and none is in force.
    """
    if lm is None and dspy.settings.lm is None:
        raise DefinitionError(
            "no model is in force, so there is none to ask",
            hint="give one, such as lm=dspex.lm('openai/gpt-4o-mini'), or call dspy.configure(lm=...)",
        )
    with dspy.context() if lm is None else dspy.context(lm=lm):
        return _fields(program(**inputs))


def _predictors(program: dspy.Module) -> list[Any]:
    return list(program.predictors())


def _outer_signature(program: dspy.Module) -> type[dspy.Signature]:
    own = getattr(program, "signature", None)
    found: type[dspy.Signature] = own if isinstance(own, type) else _predictors(program)[0].signature
    return found


def _fields(prediction: Any) -> dict[str, Any]:
    if not isinstance(prediction, dspy.Prediction):
        return {"output": prediction}
    return dict(prediction.items())


def _described(error: Exception) -> str:
    """Give an error in one paragraph: what it was, and the first lines of what it said."""
    said = error.message if isinstance(error, DspexError) else str(error)
    lines = [line for line in said.strip().splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(line.strip() for line in lines[:3])}"[:500]
