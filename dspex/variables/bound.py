"""A registry's values in other rooms' terms: bound to a program, or as a space's defaults."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from dspex.errors import VariableError
from dspex.variables.online import Online

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import dspy

    from dspex.records import Configuration
    from dspex.variables.space import Space


def bound(
    program: dspy.Module,
    space: Space,
    configuration: Configuration,
    *,
    demos: Sequence[Any] = (),
    lm: Callable[[Any], dspy.BaseLM] | None = None,
) -> dspy.Module:
    """Return a copy of a program that runs as a configuration says; `check_bindable` comes before it.

    Sampling parameters go into the predictors' `config`, which DSPy's optimizers leave alone when they
    make a program forget its model and demos.

    Parameters
    ----------
    demos
        Examples, of which a variable called `demos` shows the first so many.
    lm
        Finds a model by its name.
    """
    from dspex.bridge import examples as examples_bridge
    from dspex.bridge import lm as lm_bridge
    from dspex.bridge import program as program_bridge

    find = lm_bridge.from_name if lm is None else lm
    values = {name: space[name].resolve(value) for name, value in configuration.items()}
    settings = {name: values.pop(name) for name in program_bridge.LM_SETTINGS if name in values}
    n_demos, model = values.pop("demos", None), values.pop("model", None)
    shown = None
    if n_demos is not None:
        names = program_bridge.input_names(program)
        shown = examples_bridge.checked(demos, what="demos", inputs=names)[:n_demos] if n_demos else []
    binding = program_bridge.Binding(
        model=None if model is None else model if lm_bridge.is_lm(model) else find(model),
        module=values.pop("module", None),
        instructions=values.pop("instructions", None),
        demos=shown,
        attributes=values,
    )
    made = program_bridge.apply(program, binding, None)
    for predictor in made.predictors():
        predictor.config = {**predictor.config, **settings}
    return made


def check_bindable(program: dspy.Module, configuration: Configuration, demos: Sequence[Any]) -> None:
    """Check that a program understands every variable.

    Raises
    ------
    VariableError
        If it does not, or there are no demos to show.
    """
    from dspex.bridge import program as program_bridge

    bindable = program_bridge.bindable(program)
    unknown = [name for name in configuration if name not in bindable]
    if unknown:
        raise VariableError(
            f"{type(program).__name__} has none of {', '.join(unknown)}; it can vary {', '.join(sorted(bindable))}",
            hint="rename the variable, or give the program an attribute of that name",
        )
    if configuration.get("demos") and not demos:
        raise VariableError(
            f"demos={configuration['demos']}, but the registry has no examples to show",
            hint="Registry(space, demos=trainset)",
        )
