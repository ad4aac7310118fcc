"""Flat models: pydantic models of texts, numbers and truth values alone, whose JSON is known beforehand.

Their values go straight into the text, past pydantic's dump and the JSON encoder, as long as each is of
exactly the type that its field declares.
"""

from __future__ import annotations

from json.encoder import encode_basestring
from typing import TYPE_CHECKING, Any

import pydantic

from dspex.bridge.compiled.source import indented, literal, made

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_TESTS = {
    "bool": "type({v}) is bool",
    "float": "type({v}) is float and {v} - {v} == 0",  # neither nan nor infinite
    "int": "type({v}) is int",
    "str": "type({v}) is str",
}
_SHOWN = {
    "bool": '{{"true" if {v} else "false"}}',
    "float": "{{{v}!r}}",
    "int": "{{{v}}}",
    "str": "{{quoted({v})}}",
}
_MODEL_KEYS = {"cls", "config", "custom_init", "metadata", "ref", "root_model", "schema", "type"}
_FIELDS_KEYS = {"computed_fields", "fields", "model_name", "type"}
_FIELD_KEYS = {"metadata", "schema", "type"}


def flat_writer(
    kind: type, otherwise: Callable[[Any], str], newline: str | None = None
) -> Callable[[Any], str] | None:
    r"""Return what writes a flat model as JSON, or None if the type is no such model.

    Parameters
    ----------
    kind
        The type.
    otherwise
        Writes a model with a value of another type, or with other fields.
    newline
        What begins each line of the JSON, its indentation included; None writes it all in one.

    Examples
    --------
    >>> Place = pydantic.create_model("Place", x=(int, 0), name=(str, ...))
    >>> flat_writer(Place, str)(Place(name="é"))
    '{"x": 0, "name": "é"}'
    >>> flat_writer(Place, str, "\n")(Place(name="é"))
    '{\n  "x": 0,\n  "name": "é"\n}'
    """
    fields = _flat_fields(kind)
    if not fields:
        return None
    variables = {f"v{k}": (name, shape) for k, (name, shape) in enumerate(fields.items())}
    tests = " and ".join(_TESTS[shape].format(v=v) for v, (_, shape) in variables.items())
    members = [
        f"{literal(encode_basestring(name))}: {_SHOWN[shape].format(v=v)}"
        for v, (name, shape) in variables.items()
    ]
    begin, between, end = ("", ", ", "") if newline is None else (newline + "  ", f",{newline}  ", newline)
    body = f"{{{{{literal(begin)}{literal(between).join(members)}{literal(end)}}}}}"
    lines = [
        "fields = value.__dict__",
        "if tuple(fields) == names:",
        *indented([f"{', '.join(variables)}, = fields.values()", f"if {tests}:"]),
        *indented(indented([f"return f'{body}'"])),
        "return otherwise(value)",
    ]
    names = {"names": tuple(fields), "otherwise": otherwise, "quoted": encode_basestring}
    found: Callable[[Any], str] = made(["def write(value):", *indented(lines)], names)
    return found


def _flat_fields(kind: type) -> Mapping[str, str]:
    """Return a flat model's fields with their types, or nothing. Whatever is not known here is not flat."""
    if not issubclass(kind, pydantic.BaseModel):
        return {}
    schema: Any = kind.__pydantic_core_schema__
    if type(schema) is not dict or schema["type"] != "model" or schema.get("root_model"):
        return {}
    inner = schema["schema"]
    if schema.keys() - _MODEL_KEYS or inner["type"] != "model-fields" or inner.keys() - _FIELDS_KEYS:
        return {}
    if inner["computed_fields"] or kind.model_config.get("extra") == "allow":
        return {}
    fields = {name: _shape(field) for name, field in inner["fields"].items()}
    return {} if None in fields.values() else fields  # type: ignore[return-value]  # none of them is None


def _shape(field: dict[str, Any]) -> str | None:
    schema = field["schema"]
    if schema["type"] == "default" and "serialization" not in schema:
        schema = schema["schema"]
    is_known = schema["type"] in _TESTS and "serialization" not in schema and not field.keys() - _FIELD_KEYS
    return schema["type"] if is_known else None
