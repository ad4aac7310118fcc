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

_OPTIONS = {
    "bool": ("default",),
    "choice": ("default",),
    "float": ("default", "log", "step"),
    "int": ("default", "log", "step"),
    "model": ("default",),
    "module": ("default",),
}
_QUOTED = r"""(?:"[^"]*"|'[^']*')"""
_COMMENT = re.compile(rf"""((?:{_QUOTED}|[^#"'])*)(?:\#.*)?$""")
_LINE = re.compile(
    rf"""^(?P<name>[A-Za-z_]\w*)\s*:\s*
        (?P<kind>\w+)\s*
        (?:=\s*(?P<values>(?:{_QUOTED}|[^()"'])*?)\s*)?
        (?:\((?P<options>(?:{_QUOTED}|[^()"'])*)\))?$""",
    re.VERBOSE,
)
_RANGE = re.compile(r"^(?P<low>\S+)\s*\.\.\s*(?P<high>\S+)$")


def parse(text: str) -> dict[str, Variable]:
    """Read the lines; all that cannot be read are reported together."""
    variables: dict[str, Variable] = {}
    failures = []
    for number, raw in enumerate(text.splitlines(), start=1):
        uncommented = _COMMENT.match(raw.strip())
        line = (uncommented[1] if uncommented else raw).strip()
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
    name, kind, values = match["name"], match["kind"], match["values"]
    if kind not in KINDS:
        raise VariableError(
            f"a kind is one of {', '.join(KINDS)}, got {kind!r}", hint=did_you_mean(kind, KINDS)
        )
    options = _options(match["options"], kind)
    if kind == "bool":
        if values is not None:
            raise VariableError("a bool has no values", hint=f"{name}: bool (default {values})")
        return name, Bool(default=_bool(options.get("default", "false")))
    if not values:
        raise VariableError(f"a {kind} needs values after '='", hint=f"{name}: {kind} = ...")
    if kind in {"float", "int"}:
        return name, _numeric(kind, values, options)
    return name, _choice(kind, values, options)


def _choice(kind: str, values: str, options: dict[str, str]) -> Variable:
    labels = [_unquoted(label) for label in _split(values)]
    if "" in labels:
        raise VariableError(f"a label is missing in {values!r}", hint="'|' stands between two labels")
    make = {"choice": Choice, "model": Model, "module": Module}[kind]
    return make(labels, default=options["default"]) if "default" in options else make(labels)


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


def _options(text: str | None, kind: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for part in (text or "").split(","):
        name, _, value = part.strip().partition(" ")
        if not name:
            continue
        if name not in _OPTIONS[kind]:
            raise VariableError(f"an option of a {kind} is {' or '.join(_OPTIONS[kind])}, got {name!r}")
        if name in options:
            raise VariableError(f"the option {name} is there twice")
        if (name == "log") == bool(value.strip()):
            raise VariableError(
                f"the option {name} {'takes no value' if value else 'needs a value'}, got {part.strip()!r}"
            )
        options[name] = _unquoted(value)
    return options


def _split(values: str) -> list[str]:
    """Split at the bars that stand outside of quotes."""
    parts = [""]
    for piece in re.findall(rf"{_QUOTED}|\||[^|\"']+", values):
        if piece == "|":
            parts.append("")
        else:
            parts[-1] += piece
    return parts


def _unquoted(text: str) -> str:
    return text.strip().strip("\"'")


def _bool(text: str) -> bool:
    if text.lower() not in {"true", "false"}:
        raise VariableError(f"a bool's default is true or false, got {text!r}")
    return text.lower() == "true"
