"""The chat format: a header line before every field."""

from __future__ import annotations

import re
from typing import Any

import dspy

from dspex.bridge.compiled.plan import Plan, plain_slot
from dspex.bridge.compiled.values import UnprovenError
from dspex.bridge.compiled.writing import Frame, Slot

_header = re.compile(r"\[\[ ## (\w+) ## \]\]").match
_OPENING, _CLOSING = "[[ ## ", " ## ]]"
_LINE_OPENING = f"\n{_OPENING}"


class ChatPlan(Plan):
    """What is fixed for one signature in the chat format."""

    answer = Frame(closing="\n\n[[ ## completed ## ]]\n")

    def __init__(self, signature: type[dspy.Signature]) -> None:
        super().__init__(signature, dspy.ChatAdapter())
        # An identifier may hold letters that a header may not.
        self.words = frozenset(filter(_is_word, self.output_names))

    def slot(self, name: str, info: Any) -> Slot:
        """Describe one field."""
        return plain_slot(info, name, f"[[ ## {name} ## ]]\n")

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
