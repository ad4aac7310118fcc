"""The JSON format: inputs under headers, outputs as one JSON object."""

from __future__ import annotations

import copy
from functools import cached_property
from json.encoder import encode_basestring
from operator import is_
from typing import TYPE_CHECKING, Any, get_origin

import dspy
from dspy.adapters.json_adapter import _get_structured_outputs_response_format
from pydantic_core import PydanticUndefined

from dspex.bridge.compiled.chat import ChatPlan
from dspex.bridge.compiled.demos import IMMUTABLE
from dspex.bridge.compiled.plan import Plan
from dspex.bridge.compiled.readers import json_data
from dspex.bridge.compiled.values import UnprovenError, indented_object, member_text
from dspex.bridge.compiled.writing import Frame, Slot, pair_writer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dspex.bridge.compiled.plans import Entry


_SHOWN = {bool: "'true' if {v} else 'false'", int: "", str: "quoted({v})"}


class JsonPlan(ChatPlan):
    """What is fixed for one signature in the JSON format."""

    def __init__(self, signature: type[dspy.Signature]) -> None:
        Plan.__init__(self, signature, dspy.JSONAdapter())
        self.is_open_ended = any(get_origin(annotation) is dict for annotation in self.annotations.values())

    def assistant(self, values: Any, missing: str | None) -> str:
        """Write an assistant message; `missing` stands for an output that is not there."""
        get = values.get
        return indented_object({name: get(name, missing) for name in self.output_names})

    @cached_property
    def pair(self) -> Callable[[Mapping[str, Any]], tuple[str, str] | None]:
        """What writes a demo's two messages, or says None if a field is missing or None."""
        members = [_member(slot) for slot in self.outputs]
        write_members = pair_writer(self.inputs, members, Frame("{\n  ", ",\n  ", "\n}"))
        names = (*self.input_names, *self.output_names)

        def write(store: Mapping[str, Any]) -> tuple[str, str] | None:
            try:
                return write_members(store)
            except UnprovenError:  # some value is known by the dump of the whole object only
                if any(store.get(name) is None for name in names):
                    return None
                return self.user(store, "", None), self.assistant(store, None)

        return write

    def parse(self, signature: type[dspy.Signature], completion: str) -> dict[str, Any]:
        """Read a completion, or raise anything."""
        found = json_data(completion)
        if type(found) is not dict:
            raise UnprovenError
        readers = self.readers
        return self.completed(
            signature, {name: readers[name](value) for name, value in found.items() if name in readers}
        )


def _member(slot: Slot) -> Slot:
    """Describe an output as a member of the JSON object."""
    kind = slot.kind if slot.kind in (bool, int) else str
    return Slot(slot.name, f"{encode_basestring(slot.name)}: ", member_text, "", kind, _SHOWN[kind])


def response_format(entry: Entry, signature: type[dspy.Signature], native_tools: bool) -> Any:
    """Return the pydantic model that DSPy asks a schema-capable model to fill in, made once per class."""
    defaults = [info.default for info in signature.output_fields.values()]
    before, model = entry.response_formats.get(native_tools, ((), None))
    if model is not None and all(map(is_, defaults, before)):
        return model
    model = _get_structured_outputs_response_format(signature, native_tools)
    if all(default is PydanticUndefined or type(default) in IMMUTABLE for default in defaults):
        schema = model.model_json_schema()
        # Each request gets a schema of its own, since the model is now shared by many.
        model.model_json_schema = lambda *_, **__: copy.deepcopy(schema)
        entry.response_formats[native_tools] = defaults, model
    return model
