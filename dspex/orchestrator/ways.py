"""The ways a task can be run, and how a registry's values and a session's defaults narrow them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from dspex.bridge import program as program_bridge
from dspex.records import Configuration, Scalar, Strategy, Value
from dspex.variables import using

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import dspy

    from dspex.adapters.base import Adapter
    from dspex.native.signature import Signature
    from dspex.variables.registry import Registry


@dataclass(frozen=True)
class Ways:
    """What a task is, the strategies that it can be run by, and the program and model of each."""

    described: Signature
    strategies: Sequence[Strategy]
    program: Callable[[Strategy], dspy.Module]
    lm: Callable[[Strategy], dspy.BaseLM]
    make: Callable[[Any], dspy.Module]
    """Makes the program that solves the task by a module."""
    configuration: Configuration = field(default_factory=dict)
    adapter: Callable[[Strategy], Adapter | None] = field(default=lambda _: None)
    """What asks instead of the program; None where the program runs."""
    is_foreign: bool = False
    """Whether the user handed over the adapter, so that no model of the session is asked."""


def with_defaults(
    ways: Ways, defaults: Mapping[str, Any], *, is_program: bool, lm: Callable[[Any], dspy.BaseLM]
) -> Ways:
    """Run a task with values that somebody wants unless others are given; names as in a space.

    Raises
    ------
    VariableError
        If the program has no such variable.
    """
    find: dict[str, Callable[[Any], Any]] = {"model": lm, "module": program_bridge.module_class}
    values = {name: find.get(using.what_of(name), _as_it_is)(value) for name, value in defaults.items()}
    labels = {name: _label(value) for name, value in values.items()}
    return _narrowed(
        ways,
        values,
        labels,
        using.bound_plainly,
        is_program=is_program,
    )


def _as_it_is(value: Any) -> Any:
    return value


def _label(value: Any) -> Value:
    """Name what is no plain value."""
    if isinstance(value, Scalar | list):
        return value
    return str(getattr(value, "model", None) or getattr(value, "__name__", None) or type(value).__name__)


def narrowed(
    ways: Ways,
    registry: Registry,
    configuration: Configuration,
    *,
    is_program: bool,
    lm: Callable[[Any], dspy.BaseLM],
) -> Ways:
    """Pin the parts of the strategy that the values name, and bind the other values to the programs.

    Parameters
    ----------
    is_program
        Whether the task is a program, whose parts are swapped; a signature gets a program of that module.
    lm
        Finds a model by its name.

    Raises
    ------
    VariableError
        If the program has no such variable, or there are no demos to show.
    """
    values = using.values_of(registry.space, configuration, lm)
    labels = {**registry.space.frozen, **configuration}
    made = _narrowed(
        ways,
        values,
        labels,
        lambda program, rest: using.bound(registry.space, program, rest, examples=registry.demos),
        is_program=is_program,
    )
    return replace(made, configuration={**ways.configuration, **configuration})


def _narrowed(
    ways: Ways,
    values: Mapping[str, Any],
    labels: Configuration,
    bind: Callable[[dspy.Module, Mapping[str, Any]], dspy.Module],
    *,
    is_program: bool,
) -> Ways:
    rest = dict(values)
    models = dict.fromkeys(each.model for each in ways.strategies)
    modules = dict.fromkeys(each.module for each in ways.strategies)
    program, lm_of = ways.program, ways.lm
    if "model" in rest:
        pinned = rest["model"]
        models, lm_of = {pinned.model: None}, lambda _: pinned
    if "module" in rest and not is_program:
        made = ways.make(rest.pop("module"))
        modules, program = {str(labels["module"]): None}, lambda _: made
    strategies = [Strategy(model, module) for model in models for module in modules]

    @cache
    def prepared(strategy: Strategy) -> dspy.Module:
        return bind(program(strategy), rest)

    prepared(strategies[0])  # what does not fit the program is said now, before anything runs
    return Ways(
        ways.described,
        strategies,
        prepared,
        lm_of,
        lambda module: bind(ways.make(module), rest),
        {**ways.configuration, **labels},
    )
