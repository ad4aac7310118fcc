"""The ways a task can be run, and how a registry's values narrow them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from dspex.bridge import program as program_bridge
from dspex.records import Configuration, Strategy
from dspex.variables import using

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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
    configuration: Configuration = field(default_factory=dict)
    adapter: Callable[[Strategy], Adapter | None] = field(default=lambda _: None)
    """What asks instead of the program; None where the program runs."""
    is_foreign: bool = False
    """Whether the user handed over the adapter, so that no model of the session is asked."""


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
    models = dict.fromkeys(each.model for each in ways.strategies)
    modules = dict.fromkeys(each.module for each in ways.strategies)
    program, lm_of = ways.program, ways.lm
    if "model" in values:
        pinned = values["model"]
        models, lm_of = {pinned.model: None}, lambda _: pinned
    if "module" in values and not is_program:
        made = program_bridge.make(ways.described.to_dspy(), values.pop("module"))
        label = {**registry.space.frozen, **configuration}["module"]
        modules, program = {str(label): None}, lambda _: made
    strategies = [Strategy(model, module) for model in models for module in modules]

    @cache
    def prepared(strategy: Strategy) -> dspy.Module:
        return using.bound(registry.space, program(strategy), values, examples=registry.demos)

    prepared(strategies[0])  # what does not fit the program is said now, before anything runs
    return Ways(ways.described, strategies, prepared, lm_of, dict(configuration))
