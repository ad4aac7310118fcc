"""Writing answers: in the format that was asked for, of the right types, and now and then unreadable."""

from __future__ import annotations

import ast
import functools
import json
import re
from typing import TYPE_CHECKING, Any

from dspex.sandbox.chance import uniform
from dspex.sandbox.prompts import OutputField, is_reasoning

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dspex.sandbox.items import Answer
    from dspex.sandbox.world import Wire

UNKNOWN = "This is a simulated answer: no sandbox task recognises the text."
_CERTAINTY = ("confidence", "probability")
_ONE_OF = re.compile(r"one of: (.*)")
_SCHEMA = "must adhere to the JSON schema: "


def answer_field(outputs: Sequence[OutputField], preferred: str, answer: Answer) -> OutputField | None:
    """Say which output field holds an answer: the one so called, else the first that can; None if none can."""
    own = (*_CERTAINTY, *(output.name for output in outputs if is_reasoning(output.name)))
    able = [output for output in outputs if output.name not in own and _fits(output, answer)]
    return next((output for output in able if output.name == preferred), able[0] if able else None)


def certain(output: OutputField) -> bool:
    """Whether a field asks for the chance of being right."""
    return output.name in _CERTAINTY and output.type_text in ("float", "str")


def _fits(output: OutputField, answer: Answer) -> bool:
    options = options_of(output)
    if options:
        return str(answer) in map(str, options)
    numeric = ("int", "float") if isinstance(answer, int) else ()
    return output.type_text in ("str", "Any", *numeric) or output.type_text.startswith(
        ("Union[", "Optional[")
    )


def values_for(
    outputs: Sequence[OutputField],
    place: OutputField,
    answer: Answer,
    *,
    thought: str,
    chance: float,
    luck: str,
) -> dict[str, Any]:
    """Fill every output field: the answer in its place, the thought, and generic values elsewhere.

    A field called confidence tells the true chance of being right, rounded.
    """
    values: dict[str, Any] = {}
    for output in outputs:
        if output.name == place.name:
            values[output.name] = _typed(output, answer, luck)
        elif is_reasoning(output.name):
            values[output.name] = thought
        elif certain(output):
            values[output.name] = round(chance, 2)
        else:
            values[output.name] = generic(output, luck)
    return values


def _typed(output: OutputField, answer: Answer, luck: str) -> Any:
    # A wrong answer may lie outside a Literal that the user has narrowed.
    return answer if _fits(output, answer) else generic(output, luck)


def generic(output: OutputField, luck: str) -> Any:
    """Make a value of the field's type out of nothing; text says that it is simulated."""
    options = options_of(output)
    if options:
        return options[int(uniform(luck, output.name) * len(options))]
    if output.note.startswith(_SCHEMA):
        return from_schema(json.loads(output.note.removeprefix(_SCHEMA)))
    kind = output.type_text
    if kind == "bool":
        return uniform(luck, output.name) < 0.5  # noqa: PLR2004  # a coin
    if kind == "int":
        return 1 + int(uniform(luck, output.name) * 9)
    if kind == "float":
        return round(uniform(luck, output.name), 2)
    empty: dict[str, Any] = {"list": [], "dict": {}}
    return empty.get(kind.partition("[")[0], UNKNOWN)


@functools.lru_cache(maxsize=1024)
def options_of(output: OutputField) -> tuple[Any, ...]:
    """List what a field's type allows, if that is a list."""
    if output.type_text.startswith("Literal["):
        return tuple(ast.literal_eval(output.type_text.removeprefix("Literal")))
    found = _ONE_OF.search(output.note) if not output.note.startswith(_SCHEMA) else None
    return tuple(found[1].split("; ")) if found else ()


def from_schema(schema: Mapping[str, Any], definitions: Mapping[str, Any] | None = None) -> Any:
    """Make the smallest value that a JSON schema allows."""
    known = schema.get("$defs", {}) if definitions is None else definitions
    if "$ref" in schema:
        return from_schema(known[schema["$ref"].rpartition("/")[2]], known)
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    if "enum" in schema:
        return schema["enum"][0]
    for key in ("anyOf", "allOf", "oneOf"):
        if key in schema:
            return from_schema(schema[key][0], known)
    if schema.get("type") == "object":
        fields = schema.get("properties", {})
        return {
            name: from_schema(fields[name], known) for name in schema.get("required", ()) if name in fields
        }
    low = schema.get("minimum", 0)
    return {"string": UNKNOWN, "integer": low, "number": low, "boolean": False, "array": []}.get(
        schema.get("type", "")
    )


def written(wire: Wire, values: Mapping[str, Any]) -> str:
    """Write fields as a DSPy adapter expects them."""
    if wire == "json":
        return json.dumps(values, ensure_ascii=False)
    if wire == "xml":
        return "\n\n".join(f"<{name}>\n{_escaped(value)}\n</{name}>" for name, value in values.items())
    parts = [f"[[ ## {name} ## ]]\n{_text(value)}" for name, value in values.items()]
    return "\n\n".join([*parts, "[[ ## completed ## ]]"])


def end_of_values(wire: Wire, text: str) -> int:
    """Say how much of an answer must survive for its values to be read."""
    if wire == "chat":
        return text.rindex("\n\n[[ ## completed")
    return len(text)


def malformed(wire: Wire, outputs: Sequence[OutputField], values: Mapping[str, Any], luck: str) -> str:
    """Write fields as a model does that forgets the format: no adapter of DSPy can read it."""
    last = outputs[-1]
    prose = f"Sure, here is what I think. The {last.name} is {_text(values[last.name])}."
    if uniform(luck, "malformed") < 0.5 or wire == "plain":  # noqa: PLR2004  # half and half
        return prose
    if wire == "json":
        # A key that nobody asked for, inside a chatty answer.
        return "Here you are: " + json.dumps({f"the_{name}": value for name, value in values.items()})
    if wire == "xml":
        return written(wire, values).removesuffix(f"</{last.name}>")
    if options_of(last):
        return written(wire, {**values, last.name: f"probably {values[last.name]}"})
    return written(wire, values).replace(f"[[ ## {last.name} ## ]]\n", "")


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else str(value)


def _escaped(value: Any) -> str:
    return _text(value).replace("&", "&amp;").replace("<", "&lt;")
