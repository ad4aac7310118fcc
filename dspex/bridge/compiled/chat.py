"""The chat format: a header line before every field."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import dspy

from dspex.bridge.compiled.plan import Plan, Slot, writer_of
from dspex.bridge.compiled.values import UnprovenError, text_of, writers

if TYPE_CHECKING:
    from collections.abc import Mapping

_COMPLETED = "\n\n[[ ## completed ## ]]\n"
_header = re.compile(r"\[\[ ## (\w+) ## \]\]").match
_OPENING, _CLOSING = "[[ ## ", " ## ]]"
_LINE_OPENING = f"\n{_OPENING}"


def headed(name: str, info: Any) -> Slot:
    """Describe a field whose value stands under its header."""
    return Slot(name, f"[[ ## {name} ## ]]\n", writer_of(info))


class ChatPlan(Plan):
    """What is fixed for one signature in the chat format."""

    def __init__(self, signature: type[dspy.Signature]) -> None:
        super().__init__(signature, dspy.ChatAdapter())
        # An identifier may hold letters that a header may not.
        self.words = frozenset(filter(_is_word, self.output_names))

    def slot(self, name: str, info: Any) -> Slot:
        """Describe one field."""
        return headed(name, info)

    def request(self, values: Mapping[str, Any]) -> str:
        """Write the user message that asks for an answer."""
        parts = []
        for name, head, write in self.inputs:
            if name in values:
                value = values[name]
                parts.append(head + (value if type(value) is str else write(value)))
        parts.append(self.requirements)
        return "\n\n".join(parts)

    def user(self, values: Any, prefix: str, requirements: str | None) -> str:
        """Write a user message from whichever inputs there are."""
        return user_message(self.inputs, values, prefix, requirements)

    def assistant(self, values: Any, missing: str | None) -> str:
        """Write an assistant message; `missing` stands for an output that is not there."""
        get = values.get
        parts = [head + write(get(name, missing)) for name, head, write in self.outputs]
        return "\n\n".join(parts).strip() + _COMPLETED

    def pair(self, store: Mapping[str, Any]) -> tuple[str, str] | None:
        """Write a demo's two messages, or None if a field is missing or None."""
        asked = headed_values(self.inputs, store)
        answered = None if asked is None else headed_values(self.outputs, store)
        if asked is None or answered is None:
            return None
        return asked, answered + _COMPLETED

    def parse(self, signature: type[dspy.Signature], completion: str) -> dict[str, Any]:
        """Read a completion, or raise anything."""
        readers, words = self.readers, self.words
        # All of Python's line ends become plain ones, as joining the lines again makes them.
        text = "\n".join(completion.splitlines())
        sections = f"\n{text}".split(_LINE_OPENING)
        fields: dict[str, Any] = {}
        if text.count(_OPENING) + 1 != len(sections):
            return self.completed(signature, self._searched(text))  # a header that starts no line
        del sections[0]
        for section in sections:
            name, close, value = section.partition(_CLOSING)
            if value and value[0] != "\n":
                return self.completed(signature, self._searched(text))  # a value beside its header
            if name in words and close:
                if name not in fields:
                    fields[name] = readers[name](value.strip())
            elif not close or not _is_word(name):
                return self.completed(signature, self._searched(text))  # no header after all
        return self.completed(signature, fields)

    def _searched(self, text: str) -> dict[str, Any]:
        """Read outputs whose headers are not each on a line of their own."""
        readers, words = self.readers, self.words
        fields: dict[str, Any] = {}
        name, begin = None, 0
        place = text.find(_OPENING)
        while place >= 0:
            line = text.rfind("\n", 0, place) + 1
            match = None if text[line:place].strip() else _header(text, place)
            if match is None:
                place = text.find(_OPENING, place + 1)  # part of a value
                continue
            if name is not None and name not in fields:
                fields[name] = readers[name](text[begin:line].strip())
            begin = _checked_line(text, line, place, match.end())
            name = match[1] if match[1] in words else None
            place = text.find(_OPENING, begin)
        if name is not None and name not in fields:
            fields[name] = readers[name](text[begin:].strip())
        return fields


_is_word = re.compile(r"\w+").fullmatch


def _checked_line(text: str, line: int, place: int, begin: int) -> int:
    """Return where a value begins that may share the line with its header, if that is where DSPy begins it."""
    if line != place:
        raise UnprovenError  # DSPy cuts an indented header's line by the header's length alone
    end = text.find("\n", begin)
    beside = text[begin:end].rstrip()
    if end >= 0 and beside and begin + len(beside) != end:
        raise UnprovenError  # DSPy drops the spaces at the line's end
    return begin


def headed_values(slots: list[Slot], store: Mapping[str, Any]) -> str | None:
    """Write all fields of a demo, or return None if one is missing or None."""
    get, writer_of_type = store.get, writers.get
    parts = []
    for name, head, write in slots:
        value = get(name)
        if type(value) is str:
            parts.append(head + value)
        elif value is None:
            return None
        elif write is text_of:
            parts.append(head + (writer_of_type(type(value)) or text_of)(value))
        else:
            parts.append(head + write(value))
    return "\n\n".join(parts).strip()


def user_message(slots: list[Slot], values: Any, prefix: str, requirements: str | None) -> str:
    """Write the inputs that there are, each under its header."""
    parts = [prefix]
    parts += [head + write(values.get(name)) for name, head, write in slots if name in values]
    if requirements is not None:
        parts.append(requirements)
    parts.append("")
    return "\n\n".join(parts).strip()
