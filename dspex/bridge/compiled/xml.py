"""The XML format: a tag around every field, nested tags for structured outputs."""

from __future__ import annotations

import functools
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import quoteattr

import dspy
from pydantic import TypeAdapter

from dspex.bridge.compiled.plan import Plan, plain_slot
from dspex.bridge.compiled.values import UnprovenError, plain, text_of_str_field
from dspex.bridge.compiled.writing import Frame, Slot

if TYPE_CHECKING:
    from collections.abc import Callable

_LEAVES = {"string", "integer", "number", "boolean"}
_ESCAPED = "{v}.replace('&', '&amp;').replace('<', '&lt;')"
_group = dspy.XMLAdapter._group_children  # noqa: SLF001  # proven for this version only
_value_of = dspy.XMLAdapter._elements_to_value  # noqa: SLF001  # as above
_is_nested = dspy.XMLAdapter._uses_nested_xml  # noqa: SLF001  # as above


class XmlPlan(Plan):
    """What is fixed for one signature in the XML format."""

    answer = Frame()

    def __init__(self, signature: type[dspy.Signature]) -> None:
        outputs = signature.output_fields.items()
        self._nested = {name for name, info in outputs if _is_nested(info.annotation)}
        super().__init__(signature, dspy.XMLAdapter())
        self._schemas: dict[str, Any] = {}

    def slot(self, name: str, info: Any) -> Slot:
        """Describe one field."""
        if name in self._nested:
            return Slot(name, "", _nested_writer(name), kind=None)
        slot = plain_slot(info, name, f"<{name}>\n", f"\n</{name}>")
        if name in self.annotations and info.annotation is str:
            return slot._replace(write=_escaped_text, shown=_ESCAPED)
        return slot

    def user(self, values: Any, prefix: str, requirements: str | None) -> str:
        """Write a user message from whichever inputs there are."""
        ends = [prefix, "\n\n".join(self._asked(values)).strip()]
        if requirements is not None:
            ends.append(requirements)
        return "\n\n".join([*ends, ""]).strip()

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


def _escaped_text(value: Any) -> str:
    return text_of_str_field(value).replace("&", "&amp;").replace("<", "&lt;")


def _nested_writer(name: str) -> Callable[[Any], str]:
    """Return what writes a structured output, its tags included."""

    def write(value: Any) -> str:
        dumped = plain(value)
        if isinstance(dumped, (dict, list)):
            return _element(dumped, name, "")
        return f"<{name}>\n{dumped}\n</{name}>"

    return write


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
