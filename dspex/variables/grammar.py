"""Spaces as text, one variable a line.

::

    temperature: float = 0.0 .. 1.5 (default 0.7)
    penalty:     float = 0.001 .. 1 (log)
    demos:       int = 0 .. 8 (step 2)
    model:       model = sandbox/small | sandbox/large
    module:      module = Predict | ChainOfThought
    tone:        choice = brief | "to the point"
    strict:      bool (default true)

A ``#`` starts a comment.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from dspex.errors import DspexError, VariableError, did_you_mean
from dspex.variables.base import Bool, Choice, Float, Int, Model, Module

if TYPE_CHECKING:
    from dspex.variables.base import Variable

KINDS = ("bool", "choice", "float", "int", "model", "module")

_LINE = re.compile(
    r"""^(?P<name>[A-Za-z_]\w*)\s*:\s*
        (?P<kind>\w+)\s*
        (?:=\s*(?P<values>[^()]*?)\s*)?
        (?:\((?P<options>[^()]*)\))?$""",
    re.VERBOSE,
)
_RANGE = re.compile(r"^(?P<low>\S+)\s*\.\.\s*(?P<high>\S+)$")


def parse(text: str) -> dict[str, Variable]:
    """Read the lines; all that cannot be read are reported together."""
    variables: dict[str, Variable] = {}
    failures = []
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.partition("#")[0].strip()
        if not line:
            continue
        try:
            name, variable = _parsed(line)
        except DspexError as error:
            hint = f" ({error.hint})" if error.hint else ""
            failures.append(f"line {number}, {line!r}: {error.message}{hint}")
            continue
        if name in variables:
            failures.append(f"line {number}: {name} is there already")
        variables[name] = variable
    if failures:
        raise VariableError.of_all("this space cannot be read:", failures)
    return variables


def _parsed(line: str) -> tuple[str, Variable]:
    match = _LINE.match(line)
    if match is None:
        raise VariableError("a line is 'name: kind = values (options)'", hint="temperature: float = 0 .. 1.5")
    kind, values = match["kind"], match["values"]
    if kind not in KINDS:
        raise VariableError(
            f"a kind is one of {', '.join(KINDS)}, got {kind!r}", hint=did_you_mean(kind, KINDS)
        )
    options = _options(match["options"])
    if kind == "bool":
        return match["name"], Bool(default=_bool(options.get("default", "false")))
    if not values:
        raise VariableError(f"a {kind} needs values after '='", hint=f"{match['name']}: {kind} = ...")
    if kind in {"float", "int"}:
        return match["name"], _numeric(kind, values, options)
    labels = [label.strip().strip("\"'") for label in values.split("|")]
    make = {"choice": Choice, "model": Model, "module": Module}[kind]
    return match["name"], make(labels, default=options.get("default"))


def _numeric(kind: str, values: str, options: dict[str, str]) -> Variable:
    match = _RANGE.match(values)
    if match is None:
        raise VariableError(f"a range is 'low .. high', got {values!r}")
    number: Any = float if kind == "float" else int
    try:
        given = {name: number(options[name]) for name in ("default", "step") if name in options}
        low, high = number(match["low"]), number(match["high"])
    except ValueError as error:
        raise VariableError(f"not a {'whole number' if kind == 'int' else 'number'}: {error}") from error
    make: Any = Float if kind == "float" else Int
    variable: Variable = make(low, high, log="log" in options, **given)
    return variable


def _options(text: str | None) -> dict[str, str]:
    options = {}
    for part in (text or "").split(","):
        name, _, value = part.strip().partition(" ")
        if name:
            options[name] = value.strip().strip("\"'")
    for name in options:
        if name not in {"default", "log", "step"}:
            raise VariableError(f"an option is default, log or step, got {name!r}")
    return options


def _bool(text: str) -> bool:
    if text.lower() not in {"true", "false"}:
        raise VariableError(f"a bool's default is true or false, got {text!r}")
    return text.lower() == "true"
