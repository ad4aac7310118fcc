"""Spaces as text, one variable a line.

::

    temperature: float = 0.0 .. 1.5 (default 0.7)
    penalty:     float = 0.001 .. 1 (log, prior 0.01 1.5)
    demos:       int = 0 .. 8 (step 2)
    model:       model = sandbox/small | sandbox/large
    module:      module = Predict | ChainOfThought | dspy:ReAct
    tone:        choice = brief | "to the point" (weights 2 1)
    strict:      bool (default true)
    top_p:       top_p
    steps:       int = 1 .. 5 when module = dspy:ReAct and strict = true
    direction:   embedding = 384 (rank 3)
    effort:      composite = steps * demos
    require effort <= 12
    require "small models stay brief": model != "sandbox/small" or tone == "brief"
    freeze top_p = 0.9

A ``#`` starts a comment. The kinds with usual bounds (temperature, top_p, probability, token_count, ...) need no
range; a prior is a mean and a standard deviation.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from dspex.errors import DspexError, VariableError, did_you_mean
from dspex.variables import spec
from dspex.variables.choice import Bool, Choice
from dspex.variables.demos import Demos
from dspex.variables.formulas import Composite, Constraint
from dspex.variables.numeric import Float, Int
from dspex.variables.priors import Normal
from dspex.variables.tensor import Embedding, Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from dspex.records import Configuration
    from dspex.variables.protocol import Variable

_QUOTED = r"""(?:"[^"]*"|'[^']*')"""
_COMMENT = re.compile(rf"""((?:{_QUOTED}|[^#"'])*)(?:\#.*)?$""")
_NAME = r"[A-Za-z_][\w.]*"
_LINE = re.compile(
    rf"""^(?P<name>{_NAME})\s*:\s*
        (?P<kind>\w+)\s*
        (?:=\s*(?P<values>(?:{_QUOTED}|[^()"'])*?)\s*)?
        (?:\((?P<options>(?:{_QUOTED}|[^()"'])*)\))?$""",
    re.VERBOSE,
)
_COMPOSITE = re.compile(rf"^(?P<name>{_NAME})\s*:\s*composite\s*=\s*(?P<formula>.+)$")
_REQUIRE = re.compile(rf"^require\s+(?:(?P<name>{_QUOTED})\s*:\s*)?(?P<formula>.+)$")
_FREEZE = re.compile(rf"^freeze\s+(?P<name>{_NAME})\s*=\s*(?P<value>.+)$")
_WHEN = re.compile(rf"^(?P<rest>(?:{_QUOTED}|[^\"'])*?)\s+when\s+(?P<conditions>(?:{_QUOTED}|[^\"'])*)$")
_RANGE = re.compile(r"^(?P<low>\S+)\s*\.\.\s*(?P<high>\S+)$")
_FLAGS = ("linear", "log", "normalised", "ordered")


class Parsed(NamedTuple):
    """What a text says."""

    definitions: dict[str, Variable | Composite]
    constraints: list[Constraint]
    frozen: dict[str, Any]


def kinds() -> list[str]:
    """Return the kinds that a line can name."""
    return sorted(spec.known_kinds().keys() - {"demo_set", "online"})


def options(kind: str) -> list[str]:
    """Return what may stand in the brackets of a line of that kind."""
    cls = spec.known_kinds().get(kind)
    return [] if cls is None or issubclass(cls, Composite) else list(_allowed(cls))


def parse(text: str) -> Parsed:
    """Read the lines; all that cannot be read are reported together."""
    definitions: dict[str, Any] = {}
    constraints: list[Constraint] = []
    conditions: dict[str, str] = {}
    frozen: dict[str, str] = {}
    failures = []
    for number, raw in enumerate(text.splitlines(), start=1):
        uncommented = _COMMENT.match(raw.strip())
        line = (uncommented[1] if uncommented else raw).strip()
        if not line:
            continue
        try:
            if required := _REQUIRE.match(line):
                constraints.append(_constraint(required))
            elif fixed := _FREEZE.match(line):
                frozen[fixed["name"]] = fixed["value"]
            else:
                name, variable, condition = _conditional(line)
                if name in definitions:
                    failures.append(f"line {number}: {name} is there already")
                definitions[name] = variable
                conditions[name] = condition
        except DspexError as error:
            hint = f" ({error.hint})" if error.hint else ""
            failures.append(f"line {number}, {line!r}: {error.message}{hint}")
    if failures:
        raise VariableError.of_all("this space cannot be read:", failures)
    for name, condition in conditions.items():
        if condition:
            definitions[name] = definitions[name].given(_conditions(condition, definitions))
    values = {name: _value(value, definitions.get(name)) for name, value in frozen.items()}
    return Parsed(definitions, constraints, values)


def _constraint(match: re.Match[str]) -> Constraint:
    formula = match["formula"].strip()
    return Constraint(formula) if match["name"] is None else Constraint(_unquoted(match["name"]), formula)


def _conditional(line: str) -> tuple[str, Variable | Composite, str]:
    """Read a line up to its condition, whose values depend on other lines."""
    split = _WHEN.match(line)
    rest, condition = (line, "") if split is None else (split["rest"].strip(), split["conditions"].strip())
    if split is not None and not all("=" in term for term in re.split(r"\s+and\s+", condition)):
        raise VariableError(f"a condition is 'name = value', got {condition!r}", hint="when module = ReAct")
    computed = _COMPOSITE.match(rest)
    if computed is not None:
        return computed["name"], Composite(computed["formula"].strip()), condition
    name, variable = _parsed(rest)
    return name, variable, condition


def _conditions(text: str, definitions: Mapping[str, Any]) -> dict[str, list[Any]]:
    found = {}
    for term in re.split(r"\s+and\s+", text):
        name, _, values = term.partition("=")
        parent = definitions.get(name.strip())
        found[name.strip()] = [_value(value, parent) for value in _split(values, "|")]
    return found


def _value(text: str, of: Any) -> Any:
    """Read a value as a variable has it; what is wrong with it is left for the space to say."""
    text = _unquoted(text)
    try:
        if isinstance(of, Bool):
            return _bool(text)
        if isinstance(of, (Int, Float)):
            return int(text) if isinstance(of, Int) else float(text)
    except (ValueError, VariableError):
        pass
    return text


def _parsed(line: str) -> tuple[str, Variable]:
    match = _LINE.match(line)
    if match is None:
        raise VariableError("a line is 'name: kind = values (options)'", hint="temperature: float = 0 .. 1.5")
    name, kind, values = match["name"], match["kind"], match["values"]
    if kind not in kinds():
        raise VariableError(
            f"a kind is one of {', '.join(kinds())}, got {kind!r}", hint=did_you_mean(kind, kinds())
        )
    cls = spec.known_kinds()[kind]
    options = _options(match["options"], kind, _allowed(cls))
    if cls is Bool:
        if values is not None:
            raise VariableError("a bool has no values", hint=f"{name}: bool (default {values})")
        return name, Bool(default=_bool(options.get("default", "false")))
    if not values and not (issubclass(cls, (Float, Int)) and "low" in vars(cls)):
        raise VariableError(f"a {kind} needs values after '='", hint=f"{name}: {kind} = ...")
    if issubclass(cls, (Float, Int)):
        return name, _numeric(cls, values, options)
    return name, _array(cls, values, options) if issubclass(cls, Tensor) else _choice(cls, values, options)


def _allowed(cls: Any) -> tuple[str, ...]:
    if issubclass(cls, Choice):
        return ("default", "ordered", "weights")
    if issubclass(cls, Embedding):
        return ("high", "low", "normalised", "rank", "seed")
    if issubclass(cls, Tensor):
        return ("dtype", "high", "low", "rank", "seed")
    if issubclass(cls, Bool):
        return ("default",)
    usual = ("default", "linear" if getattr(cls, "log", False) else "log", "prior", "step")
    return (*usual, "by", "choose", "seed") if cls.kind == "demos" else usual


def _choice(cls: Any, values: str, options: dict[str, str]) -> Variable:
    labels = [_unquoted(label) for label in _split(values, "|")]
    if "" in labels:
        raise VariableError(f"a label is missing in {values!r}", hint="'|' stands between two labels")
    given: dict[str, Any] = {"default": options["default"]} if "default" in options else {}
    if "weights" in options:
        given["weights"] = _numbers(float, options["weights"])
    made: Variable = cls(labels, ordered="ordered" in options, **given)
    return made


def _numeric(cls: Any, values: str | None, options: dict[str, str]) -> Variable:
    number: Any = float if issubclass(cls, Float) else int
    given: dict[str, Any] = {}
    if values:
        match = _RANGE.match(values)
        if match is None:
            raise VariableError(f"a range is 'low .. high', got {values!r}")
        (given["low"],), (given["high"],) = _numbers(number, match["low"]), _numbers(number, match["high"])
    for name in ("default", "step"):
        if name in options:
            (given[name],) = _numbers(number, options[name])
    if "prior" in options:
        mean_and_sd = _numbers(float, options["prior"])
        if len(mean_and_sd) != 2:  # noqa: PLR2004  # a mean and a standard deviation
            raise VariableError(f"a prior is a mean and a standard deviation, got {options['prior']!r}")
        given["prior"] = Normal(*mean_and_sd)
    if "log" in options or "linear" in options:
        given["log"] = "log" in options
    given |= {name: options[name] for name in ("by", "choose") if name in options}
    given |= {"seed": _numbers(int, options["seed"])[0]} if "seed" in options else {}
    made: Variable = cls(**given)
    return made


def _array(cls: Any, values: str, options: dict[str, str]) -> Variable:
    given: dict[str, Any] = {
        name: _numbers(float if name in {"low", "high"} else int, options[name])[0]
        for name in ("low", "high", "rank", "seed")
        if name in options
    }
    shape = [size for part in values.split("x") for size in _numbers(int, part)]
    if issubclass(cls, Embedding):
        return Embedding(*shape[:1], normalised="normalised" in options, **given)
    return Tensor(shape, dtype=options.get("dtype", "float"), **given)


def _numbers(number: Callable[[str], Any], text: str) -> list[Any]:
    try:
        return [number(part) for part in text.split()]
    except ValueError as error:
        raise VariableError(f"not a {'whole number' if number is int else 'number'}: {error}") from error


def _options(text: str | None, kind: str, allowed: Sequence[str]) -> dict[str, str]:
    options: dict[str, str] = {}
    for part in _split(text or "", ","):
        name, _, value = part.strip().partition(" ")
        if not name:
            continue
        if name not in allowed:
            raise VariableError(f"an option of a {kind} is {' or '.join(allowed)}, got {name!r}")
        if name in options:
            raise VariableError(f"the option {name} is there twice")
        if (name in _FLAGS) == bool(value.strip()):
            raise VariableError(
                f"the option {name} {'takes no value' if value else 'needs a value'}, got {part.strip()!r}"
            )
        options[name] = _unquoted(value)
    return options


def _split(values: str, separator: str) -> list[str]:
    """Split at the separators that stand outside of quotes."""
    parts = [""]
    for piece in re.findall(rf"{_QUOTED}|[{separator}]|[^{separator}\"']+", values):
        if piece == separator:
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


# ── writing ─────────────────────────────────────────────────────────────────────────────────────


def condition_text(when: Mapping[str, tuple[Any, ...]]) -> str:
    """Write a condition as `parse` reads it.

    Examples
    --------
    >>> condition_text({"module": ("BestOfN", "Refine"), "strict": (True,)})
    'module = BestOfN | Refine and strict = true'
    """
    return " and ".join(f"{name} = {' | '.join(map(_shown, values))}" for name, values in when.items())


def written(
    definitions: Mapping[str, Variable | Composite], constraints: Sequence[Constraint], frozen: Configuration
) -> str:
    """Write a space as `parse` reads it.

    Raises
    ------
    VariableError
        If there is something in it that a line cannot say; all of it is listed.
    """
    failures = [
        f"{name} is {each!r}" for name, each in definitions.items() if not _is_expressible(name, each)
    ]
    failures += [f"{each!r} is a function" for each in constraints if each.formula.text is None]
    if failures:
        raise VariableError.of_all("this space cannot be written as text:", failures, hint="space.to_json()")
    lines = [
        line + (f" when {condition_text(each.when)}" if each.when else "")
        for name, each in definitions.items()
        for line in [_line(name, each)]
    ]
    for constraint in constraints:
        text = constraint.formula.text
        lines.append(f"require {text}" if text == constraint.name else f'require "{constraint.name}": {text}')
    lines += [f"freeze {name} = {_shown(value)}" for name, value in frozen.items()]
    return "\n".join(lines)


def _is_expressible(name: str, each: Variable | Composite) -> bool:
    """Whether a line says all of it: whether reading it gives the same again, conditions aside."""
    try:
        said = parse(_line(name, each)).definitions[name].to_dict()
        return {**said, "when": None} == {**each.to_dict(), "when": None}
    except (VariableError, TypeError):
        return False


def _line(name: str, each: Any) -> str:
    if isinstance(each, Composite):
        return f"{name}: composite = {each.formula.text}"
    values, options = said(each)
    values = "" if isinstance(each, Bool) else values
    kept = ", ".join(option for option in options if option)
    return f"{name}: {each.kind}{f' = {values}' if values else ''}{f' ({kept})' if kept else ''}"


def said(each: Any) -> tuple[str, list[str]]:
    """Return what stands after '=' and between the brackets."""
    if isinstance(each, Bool):
        return "true | false", ["default true" if each.default else ""]
    if isinstance(each, Choice):
        first = next(iter(each.options))
        return " | ".join(map(_shown, each.options)), [
            f"default {_shown(each.default)}" if each.default != first else "",
            f"weights {' '.join(map(str, each.weights))}" if each.weights is not None else "",
            "ordered" if each.ordered else "",
        ]
    if isinstance(each, Tensor):
        bounds = [
            f"low {each.low}",
            f"high {each.high}",
            "normalised" if getattr(each, "normalised", False) else "",
        ]
        searched = [] if each.rank is None else [f"rank {each.rank}"]
        kind = [] if isinstance(each, Embedding) else [f"dtype {each.dtype}"]
        return " x ".join(map(str, each.shape)), [*bounds, *kind, *searched, f"seed {each.seed}"]
    if not isinstance(each, (Float, Int)):
        return repr(each), []
    scale = "" if each.log == type(each).log else "log" if each.log else "linear"
    picked: list[str] = []
    if isinstance(each, Demos):
        picked = [
            f"choose {each.choose}" if each.choose != "first" else "",
            f"seed {each.seed}" if each.seed else "",
            f"by {each.by}" if each.by else "",
        ]
    return f"{each.low} .. {each.high}", [
        f"default {each.default}",
        scale,
        f"step {each.step}" if each.step not in {None, 1} or (isinstance(each, Float) and each.step) else "",
        f"prior {each.prior.mean} {each.prior.sd}" if each.prior is not None else "",
        *picked,
    ]


def _shown(value: Any) -> str:
    """Write a value, in quotes where it would be read otherwise without."""
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value)
    if re.fullmatch(r"[\w./:+-]+", text) and text not in {"when", "and"}:
        return text
    return f"'{text}'" if '"' in text else f'"{text}"'
