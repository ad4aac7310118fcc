"""The XML format: a tag around every field, nested tags for structured outputs."""

from __future__ import annotations

import functools
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import quoteattr

import dspy
from pydantic import TypeAdapter

from dspex.bridge.compiled.plan import Plan, Slot, writer_of
from dspex.bridge.compiled.values import UnprovenError, plain, text_of, text_of_str_field

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_LEAVES = {"string", "integer", "number", "boolean"}
_group = dspy.XMLAdapter._group_children  # noqa: SLF001  # proven for this version only
_value_of = dspy.XMLAdapter._elements_to_value  # noqa: SLF001  # as above
_is_nested = dspy.XMLAdapter._uses_nested_xml  # noqa: SLF001  # as above


class XmlPlan(Plan):
    """What is fixed for one signature in the XML format."""

    def __init__(self, signature: type[dspy.Signature]) -> None:
        self._outputs_of = {
            name: _output_writer(name, info) for name, info in signature.output_fields.items()
        }
        super().__init__(signature, dspy.XMLAdapter())
        self._schemas: dict[str, Any] = {}

    def slot(self, name: str, info: Any) -> Slot:
        """Describe one field; an output's writer writes its tags too."""
        if name in self._outputs_of:
            return Slot(name, "", self._outputs_of[name])
        return Slot(name, f"<{name}>\n", writer_of(info))

    def request(self, values: Mapping[str, Any]) -> str:
        """Write the user message that asks for an answer."""
        parts = []
        for name, head, write in self.inputs:
            if name in values:
                value = values[name]
                parts.append(f"{head}{value if type(value) is str else write(value)}\n</{name}>")
        parts.append(self.requirements)
        return "\n\n".join(parts)

    def user(self, values: Any, prefix: str, requirements: str | None) -> str:
        """Write a user message from whichever inputs there are."""
        parts = [
            f"{head}{write(values[name])}\n</{name}>" for name, head, write in self.inputs if name in values
        ]
        ends = [prefix, "\n\n".join(parts).strip()]
        if requirements is not None:
            ends.append(requirements)
        return "\n\n".join([*ends, ""]).strip()

    def assistant(self, values: Any, missing: str | None) -> str:
        """Write an assistant message; `missing` stands for an output that is not there."""
        get = values.get
        return "\n\n".join([write(get(name, missing)) for name, _, write in self.outputs]).strip()

    def pair(self, store: Mapping[str, Any]) -> tuple[str, str] | None:
        """Write a demo's two messages, or None if a field is missing or None."""
        get = store.get
        asked = []
        for name, head, write in self.inputs:
            value = get(name)
            if value is None:
                return None
            asked.append(f"{head}{value if type(value) is str else write(value)}\n</{name}>")
        answered = []
        for name, _, write in self.outputs:
            value = get(name)
            if value is None:
                return None
            answered.append(write(value))
        return "\n\n".join(asked).strip(), "\n\n".join(answered).strip()

    def parse(self, signature: type[dspy.Signature], completion: str) -> dict[str, Any]:
        """Read a completion, or raise anything."""
        root = ET.fromstring(f"<dspy_root>{completion}</dspy_root>")  # noqa: S314  # as DSPy reads it
        elements = _group(root)
        readers = self.readers
        fields = {}
        for name in self.output_names:
            if name in elements:
                fields[name] = readers[name](self._read(name, elements[name]))
        return self.completed(signature, fields)

    def _read(self, name: str, elements: list[ET.Element]) -> Any:
        """Return what stands in an output's elements, in the shape its schema asks for first."""
        schema = self._schemas.get(name)
        if schema is None:
            schema = TypeAdapter(self.annotations[name]).json_schema(by_alias=False)
            self._schemas[name] = schema
        element = elements[0]
        is_leaf = schema.get("type") in _LEAVES and "anyOf" not in schema
        if is_leaf and len(elements) == 1 and not len(element):
            return (element.text or "").strip()
        return _value_of(elements, schema, schema.get("$defs", {}))


def _output_writer(name: str, info: Any) -> Callable[[Any], str]:
    """Return what writes an output with its tags around it."""
    is_str = info.annotation is str
    write_text = text_of_str_field if is_str else text_of
    opening, closing = f"<{name}>\n", f"\n</{name}>"

    def write(value: Any) -> str:
        text = value if type(value) is str else write_text(value)
        if is_str:
            text = text.replace("&", "&amp;").replace("<", "&lt;")
        return opening + text + closing

    def write_nested(value: Any) -> str:
        dumped = plain(value)
        if isinstance(dumped, (dict, list)):
            return _element(dumped, name, "")
        return f"{opening}{dumped}{closing}"

    return write_nested if _is_nested(info.annotation) else write


def _element(value: Any, tag: str, attributes: str) -> str:
    kind = type(value)
    if kind is str:
        return f"<{tag}{attributes}>{value.replace('&', '&amp;').replace('<', '&lt;')}</{tag}>"
    if kind is list:
        if not value:
            return f"<{tag}{attributes} />"
        return f"<{tag}{attributes}>{''.join([_element(each, 'item', '') for each in value])}</{tag}>"
    if kind is dict:
        members = [_element(each, *_tag_of(str(name))) for name, each in value.items()]
        return f"<{tag}{attributes}>{''.join(members)}</{tag}>"
    if value is None:
        return f"<{tag}{attributes} />"
    if kind in (int, float, bool):
        return f"<{tag}{attributes}>{value}</{tag}>"
    raise UnprovenError


@functools.lru_cache(maxsize=1024)
def _tag_of(name: str) -> tuple[str, str]:
    """Return the tag of a dict's entry, and the attribute that carries a name which is no tag."""
    is_tag = (name[:1] + name[1:].replace("-", "_").replace(".", "_")).isidentifier()
    return (name, "") if is_tag else ("entry", f" key={quoteattr(name)}")
