"""Reading prompts that DSPy did not write: labelled inputs, and the JSON object that is asked for."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from dspex.sandbox.families import recognise
from dspex.sandbox.prompts import OutputField, is_reasoning
from dspex.sandbox.writing import answer_field, certain, from_schema

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dspex.records import Prompt
    from dspex.sandbox.items import Answer, Item

_LABELLED = re.compile(r"^(\w+): ", re.MULTILINE)
_IN_TEXT = re.compile(r"follows this JSON schema:\n(\{.*\})\s*$", re.MULTILINE)
_TYPES = {"string": "str", "integer": "int", "number": "float", "boolean": "bool"}


def item_in(prompt: Prompt) -> Item | None:
    """Find the item that a conversation is about: the last one that the user has named."""
    for role, text in reversed(prompt.messages):
        if role != "user":
            continue
        item = recognise(_inputs(text)) or recognise({"text": text})
        if item is not None:
            return item
    return None


def schema_in(prompt: Prompt) -> tuple[Mapping[str, Any] | None, bool]:
    """Return the schema of the object that is asked for, and whether the answer is held to it."""
    if prompt.response_schema:
        return prompt.response_schema, True
    found = _IN_TEXT.search(prompt.system)
    try:
        return (json.loads(found[1]) if found else None), False
    except json.JSONDecodeError:
        return None, False


def outputs_of(schema: Mapping[str, Any]) -> tuple[OutputField, ...]:
    """Describe a schema's properties as the output fields of a signature."""
    return tuple(OutputField(name, _type_text(inner)) for name, inner in schema.get("properties", {}).items())


def reasons(schema: Mapping[str, Any] | None) -> bool:
    """Whether the object begins with a place to think."""
    return schema is not None and any(is_reasoning(name) for name in schema.get("properties", {}))


def written_object(
    schema: Mapping[str, Any], preferred: str, answer: Answer, *, thought: str, chance: float
) -> str | None:
    """Write the smallest object that a schema allows, with the answer in its place; None if it has no place."""
    outputs = outputs_of(schema)
    place = answer_field(outputs, preferred, answer)
    value = from_schema({"type": "object", **schema})
    if place is None or not isinstance(value, dict):
        return None
    for output in outputs:
        if is_reasoning(output.name):
            value[output.name] = thought
        elif certain(output):
            value[output.name] = round(chance, 2)
    said = str(answer) if place.type_text == "str" else answer
    return json.dumps({**value, place.name: said}, ensure_ascii=False)


def _inputs(text: str) -> dict[str, str]:
    parts = _LABELLED.split(text)
    return {name: value.strip() for name, value in zip(parts[1::2], parts[2::2], strict=True)}


def _type_text(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return f"Literal{list(schema['enum'])!r}"
    return _TYPES.get(str(schema.get("type")), "dict")
