"""Reading DSPy's prompts: fields, instructions, demonstrations and inputs, in any adapter's format."""

from __future__ import annotations

import functools
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dspex.sandbox.world import Wire

_OUTPUTS = re.compile(r"Your output fields are:\n(.*?)\nAll interactions will be", re.DOTALL)
_FIELD = re.compile(r"^\d+\. `(\w+)` \((.*?)\):", re.MULTILINE)
_OBJECTIVE = "your objective is:"
_NOTE = re.compile(r"\{(\w+)\} {8}# note: the value you produce (.*)")
_HEADER = re.compile(r"^\[\[ ## (\w+) ## \]\]\s*$", re.MULTILINE)
_TAG = re.compile(r"<(\w+)>\n(.*?)\n</\1>", re.DOTALL)
_REQUEST = re.compile(
    r"\n\nRespond with (?:the corresponding output fields|a JSON object in the following order)"
)


@dataclass(frozen=True, slots=True)
class OutputField:
    """A field that the answer must fill."""

    name: str
    type_text: str
    note: str = ""
    """What DSPy says about the value's form, if anything."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a prompt says."""

    wire: Wire
    outputs: tuple[OutputField, ...]
    instructions: str
    demos: tuple[tuple[Mapping[str, str], Mapping[str, str]], ...]
    """(inputs, outputs) of each demonstration or earlier turn."""
    inputs: Mapping[str, str]

    @property
    def reasons(self) -> bool:
        """Whether the answer begins with reasoning."""
        return any(is_reasoning(output.name) for output in self.outputs)


def is_reasoning(name: str) -> bool:
    """Whether a field of this name is a place to think."""
    return name in ("reasoning", "rationale")


def read(system: str, messages: tuple[tuple[str, str], ...]) -> Reading:
    """Read a prompt. One that DSPy did not write is plain, with its text as the only input."""
    wire, outputs, instructions = _read_system(system)
    last = messages[-1][1] if messages else ""
    if wire == "plain":
        return Reading("plain", (), system, (), {"text": last})
    turns = messages[:-1]
    demos = tuple(
        (_read_turn(wire, user[1]), _read_turn(wire, assistant[1]))
        for user, assistant in zip(turns[::2], turns[1::2], strict=False)
    )
    return Reading(wire, outputs, instructions, demos, _read_turn(wire, last))


@functools.lru_cache(maxsize=512)
def _read_system(system: str) -> tuple[Wire, tuple[OutputField, ...], str]:
    found = _OUTPUTS.search(system)
    if found is None:
        return "plain", (), system
    wire: Wire = "xml"
    if "Outputs will be a JSON object" in system:
        wire = "json"
    elif "[[ ## completed ## ]]" in system:
        wire = "chat"
    notes = {name: _unescaped(note) if wire == "json" else note for name, note in _NOTE.findall(system)}
    outputs = tuple(
        OutputField(name, type_text, notes.get(name, "")) for name, type_text in _FIELD.findall(found[1])
    )
    lines = system.rpartition(_OBJECTIVE)[2].strip().splitlines()
    return wire, outputs, "\n".join(line.strip() for line in lines)


def _unescaped(note: str) -> str:
    """Undo the JSON string that the note stands in."""
    try:
        return str(json.loads(f'"{note.rstrip(",").removesuffix(chr(34))}"'))
    except json.JSONDecodeError:
        return note


@functools.lru_cache(maxsize=8192)
def _read_turn(wire: Wire, text: str) -> Mapping[str, str]:
    """Read one message's fields. The result is shared: nobody changes it."""
    request = None
    for request in _REQUEST.finditer(text):  # noqa: B007  # the last one is DSPy's own
        pass
    if request is not None:
        text = text[: request.start()]
    if wire == "json" and text.lstrip().startswith("{"):
        return _read_object(text)
    if wire == "xml":
        return {name: value.strip() for name, value in _TAG.findall(text)}
    parts = _HEADER.split(text)
    return {
        name: value.strip()
        for name, value in zip(parts[1::2], parts[2::2], strict=True)
        if name != "completed"
    }


def _read_object(text: str) -> Mapping[str, str]:
    try:
        fields = json.loads(text)
    except json.JSONDecodeError:
        return {}
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in fields.items()}
