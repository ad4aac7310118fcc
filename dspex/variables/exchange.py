"""Spaces as other libraries have them: Optuna, Ax and pydantic. None is imported before it is asked for."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from dspex.errors import VariableError
from dspex.variables import spec
from dspex.variables.choice import Bool, Choice
from dspex.variables.numeric import Float, Int

if TYPE_CHECKING:
    from collections.abc import Mapping

    import optuna

    from dspex.records import Configuration, Value
    from dspex.variables.protocol import Variable
    from dspex.variables.space import Space

_OURS = "dspex"


# ── Optuna ──────────────────────────────────────────────────────────────────────────────────────


def to_optuna(space: Space) -> dict[str, Any]:
    """Return Optuna's distribution of every parameter, whether it exists under a condition or not.

    An array, or a variable of a kind of one's own, is as many numbers in [0, 1] as it has columns.
    """
    return {
        name: each for variable in space for name, each in _distributions(variable, space[variable]).items()
    }


def suggest(space: Space, trial: optuna.Trial) -> dict[str, Value]:
    """Ask an Optuna trial for a configuration, variable by variable: for those alone that exist."""

    def choose(name: str, variable: Variable) -> Any:
        found = {key: trial._suggest(key, each) for key, each in _distributions(name, variable).items()}  # noqa: SLF001  # Optuna's only way to suggest from a distribution
        return from_params(name, variable, found)

    return space.settle(choose)


def to_params(space: Space, configuration: Configuration) -> dict[str, Any]:
    """Return a configuration as Optuna's parameters, for `enqueue_trial`."""
    params: dict[str, Any] = {}
    for name, value in configuration.items():
        variable = space[name]
        if _is_plain(variable):
            params[name] = _steps_of(variable, value) if _counts_steps(variable) else value
        else:
            places = variable.coding().encode(value)
            params |= dict(
                zip(_distributions(name, variable), places if variable.width > 1 else [places], strict=True)
            )
    return params


def from_params(name: str, variable: Variable, params: Mapping[str, Any]) -> Value:
    """Return the value that Optuna's parameters of one variable mean."""
    if not _is_plain(variable):
        places = list(params.values())
        return variable.coding().decode(places if variable.width > 1 else places[0])
    if _counts_steps(variable):
        value: Value = variable.at_step(params[name])  # type: ignore[attr-defined]  # a Float's
        return value
    return variable.canonical(params[name])


def from_optuna(distributions: Mapping[str, Any]) -> dict[str, Variable]:
    """Return the variables of Optuna's distributions.

    Examples
    --------
    >>> from optuna.distributions import FloatDistribution
    >>> from_optuna({"x": FloatDistribution(0.01, 1, log=True)})
    {'x': Float(0.01, 1.0, log=True)}
    """
    return {name: _from_distribution(name, each) for name, each in distributions.items()}


def _from_distribution(name: str, each: Any) -> Variable:
    match type(each).__name__:
        case "FloatDistribution":
            return Float(each.low, each.high, log=each.log, step=each.step)
        case "IntDistribution":
            return Int(each.low, each.high, log=each.log, step=1 if each.log else each.step)
        case "CategoricalDistribution":
            return Bool() if set(map(repr, each.choices)) == {"False", "True"} else Choice(list(each.choices))
    raise VariableError(f"{name} must be one of Optuna's distributions, got {each!r}")


def _distributions(name: str, variable: Variable) -> dict[str, Any]:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    match variable:
        case Float() if _counts_steps(variable):
            # Counting steps keeps clear of 0.1 + 0.2.
            return {name: IntDistribution(0, int(variable.n_values) - 1)}
        case Float():
            return {name: FloatDistribution(variable.low, variable.high, log=variable.log)}
        case Int():
            high = variable.low + (variable.high - variable.low) // variable.step * variable.step
            return {name: IntDistribution(variable.low, high, log=variable.log, step=variable.step)}
        case Bool():
            return {name: CategoricalDistribution([False, True])}
        case Choice():
            return {name: CategoricalDistribution(list(variable.options))}
    names = [name] if variable.width == 1 else [f"{name}[{k}]" for k in range(variable.width)]
    return {each: FloatDistribution(0.0, 1.0) for each in names}


def _is_plain(variable: Variable) -> bool:
    return isinstance(variable, (Float, Int, Bool, Choice))


def _counts_steps(variable: Variable) -> bool:
    return isinstance(variable, Float) and variable.step is not None


def _steps_of(variable: Any, value: Any) -> int:
    return int(round((value - variable.low) / variable.step))  # noqa: RUF046  # of Any


# ── Ax ──────────────────────────────────────────────────────────────────────────────────────────


def to_ax(space: Space) -> list[dict[str, Any]]:
    """Return parameters as Ax's ``AxClient.create_experiment(parameters=...)`` takes them.

    What exists under a choice hangs on it as Ax's `dependents`; what is frozen is a fixed parameter.
    Constraints that are not linear Ax has no words for: check configurations with `Space.check`.
    """
    parameters = [_ax_parameter(name, space[name], _dependents(space, name)) for name in space]
    return parameters + [
        {"name": name, "type": "fixed", "value": value} for name, value in space.frozen.items()
    ]


def _dependents(space: Space, name: str) -> dict[Any, list[str]]:
    found: dict[Any, list[str]] = {}
    for child, variable in space.items():
        for value in variable.when.get(name, ()):
            found.setdefault(value, []).append(child)
    return found


def _ax_parameter(name: str, variable: Variable, dependents: dict[Any, list[str]]) -> dict[str, Any]:
    if isinstance(variable, Float) or (isinstance(variable, Int) and variable.step == 1):
        kind = "float" if isinstance(variable, Float) else "int"
        bounds = [variable.low, variable.high]
        said = {"type": "range", "bounds": bounds, "value_type": kind, "log_scale": variable.log}
        step = variable.step if isinstance(variable, Float) else None
        return {"name": name, **said, **({} if step is None else {"step_size": step})}
    if isinstance(variable, (Bool, Int, Choice)):
        values = variable.grid(int(variable.n_values))
        kind = "bool" if isinstance(variable, Bool) else "int" if isinstance(variable, Int) else "str"
        said = {
            "type": "choice",
            "values": values,
            "value_type": kind,
            "is_ordered": variable.scale == "ordered",
        }
        return {"name": name, **said, **({"dependents": dependents} if dependents else {})}
    raise VariableError(
        f"Ax has no word for {name}, a {type(variable).__name__}", hint="search space.bounds() with BoTorch"
    )


# ── pydantic ────────────────────────────────────────────────────────────────────────────────────


def to_pydantic(space: Space, name: str = "Configuration") -> Any:
    """Return a pydantic model that takes this space's configurations, with a JSON schema for forms.

    Fields have the variables' names as aliases; ``model.model_validate(...).configuration()`` gives the
    configuration. What is left out has its default, or does not exist.
    """
    import pydantic

    def complete(self: Any) -> Any:
        said = self.model_dump(by_alias=True, exclude_unset=True)
        try:
            self._configuration = space.complete(said)
        except VariableError as error:
            raise ValueError(error.message) from error
        return self

    base = type(
        name,
        (pydantic.BaseModel,),
        {
            "__module__": __name__,
            "__annotations__": {"_configuration": dict[str, Any]},
            "__doc__": "A configuration.",
            "_configuration": pydantic.PrivateAttr(default_factory=dict),
            "model_config": pydantic.ConfigDict(
                extra="forbid", validate_by_name=False, validate_by_alias=True
            ),
            "configuration": lambda self: dict(self._configuration),
            "_complete": pydantic.model_validator(mode="after")(complete),
        },
    )
    fields: dict[str, Any] = {
        f"v{k}": (
            _annotation(variable),
            pydantic.Field(default=None if variable.when else variable.default, alias=each),
        )
        for k, (each, variable) in enumerate(space.items())
    }
    return pydantic.create_model(name, __base__=base, **fields)


def _annotation(variable: Variable) -> Any:
    from typing import Annotated

    from pydantic import BeforeValidator, WithJsonSchema

    def check(value: Any) -> Any:
        problem = variable.problem_with(value)
        if problem is not None:
            raise ValueError(problem)
        return variable.canonical(value)

    said = variable.schema()
    with contextlib.suppress(VariableError):  # it may hold objects that JSON cannot
        said[_OURS] = variable.to_dict()
    return Annotated[Any, BeforeValidator(check), WithJsonSchema(said)]


def from_schema(schema: Mapping[str, Any]) -> dict[str, Variable]:
    """Return the variables of a JSON schema: one that `to_pydantic` gave, or of any model with bounds.

    Examples
    --------
    >>> from_schema({"properties": {"n": {"type": "integer", "minimum": 1, "maximum": 9, "default": 3}}})
    {'n': Int(1, 9, default=3)}
    """
    definitions = schema.get("$defs", {})
    return {name: _from_property(name, each, definitions) for name, each in schema["properties"].items()}


def _from_property(name: str, said: Mapping[str, Any], definitions: Mapping[str, Any]) -> Variable:
    if "$ref" in said:
        said = {**definitions[said["$ref"].rpartition("/")[2]], **said}
    if _OURS in said:
        return spec.variable(said[_OURS])
    given = {"default": said["default"]} if said.get("default") is not None else {}
    if "enum" in said:
        return Choice(said["enum"], **given)
    kind = said.get("type")
    if kind == "boolean":
        return Bool(**given)
    if kind in {"number", "integer"} and {"minimum", "maximum"} <= said.keys():
        return (Float if kind == "number" else Int)(said["minimum"], said["maximum"], **given)
    raise VariableError(
        f"{name} has no values to choose from: {dict(said)}",
        hint="give numbers bounds (ge=, le=), and texts a Literal or an Enum",
    )
