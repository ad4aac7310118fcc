"""A space on DSPy programs: what a configuration means to one, and what could vary in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import dspy

    from dspex.bridge.applying import Applied
    from dspex.bridge.inference import Suggestion
    from dspex.records import Configuration
    from dspex.variables.protocol import Variable
    from dspex.variables.space import Space

    FindLM = Callable[[str | dspy.BaseLM], dspy.BaseLM]


def values_of(space: Space, configuration: Configuration, lm: FindLM | None = None) -> dict[str, Any]:
    """Return what a configuration's labels stand for, models by name looked up, frozen and computed included."""
    from dspex.bridge import lm as lm_bridge

    find = lm_bridge.named if lm is None else lm
    return {
        name: find(value) if what_of(name) == "model" else value
        for name, value in space.resolve(configuration).items()
    }


def what_of(name: str) -> str:
    """Return what a variable sets, wherever: ``plan.temperature`` sets a temperature."""
    return name.rpartition(".")[2]


def bound(
    space: Space,
    program: dspy.Module,
    values: Mapping[str, Any],
    *,
    default_lm: dspy.BaseLM | None = None,
    examples: Iterable[Any] | None = None,
) -> dspy.Module:
    """Return a copy of a program with the values that `values_of` gave; see `Space.apply`.

    Parameters
    ----------
    default_lm
        The model of predictors that are tied to none, once something is set on them.
    examples
        Where demos are taken from.
    """
    from dspex.bridge import binding

    return binding.bind(
        program,
        values,
        default_lm=default_lm,
        examples=_demos(program, examples),
        # A composite may be there for constraints and conditions alone.
        optional=space.composites,
    )


def applied_in_place(
    space: Space,
    program: dspy.Module,
    configuration: Configuration,
    *,
    lm: FindLM | None = None,
    examples: Iterable[Any] | None = None,
) -> Applied:
    """Let a program itself run as a configuration says, for a while; see `Space.applied`."""
    from dspex.bridge import applying

    return applying.apply(
        values_of(space, configuration, lm),
        program,
        examples=_demos(program, examples),
        optional=space.composites,
    )


def _demos(program: dspy.Module, examples: Iterable[Any] | None) -> list[dspy.Example] | None:
    from dspex.bridge import examples as examples_bridge
    from dspex.bridge import program as program_bridge

    if examples is None:
        return None
    return examples_bridge.as_demos(examples, inputs=lambda: program_bridge.input_names(program))


def inferred(program: dspy.Module, *, models: Sequence[str], each_part: bool) -> dict[str, Variable]:
    """Propose variables for what can vary in a program; see `Space.infer`."""
    from dspex.bridge import inference

    found = inference.suggestions(program, models=models, each_part=each_part)
    return {each.name: _suggested(each) for each in found}


def _suggested(suggestion: Suggestion) -> Variable:
    from dspex.variables.base import Adapter, Bool, Demos, Float, Int, Model, Module

    kind, default = suggestion.kind, suggestion.default
    if kind == "float":
        return Float(suggestion.low, suggestion.high, default=default)
    if kind in {"int", "demos"}:
        whole = Int if kind == "int" else Demos
        return whole(int(suggestion.low), int(suggestion.high), default=default)
    if kind == "bool":
        return Bool(default=default)
    make: Any = {"model": Model, "module": Module, "adapter": Adapter}[kind]
    made: Variable = make(list(suggestion.options), default=default)
    return made
