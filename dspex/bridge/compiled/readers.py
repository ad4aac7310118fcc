"""Values from text: one reader per annotation, with its validator made once.

A reader returns what DSPy's `parse_value` would, or raises anything at all: the caller then lets DSPy read
the whole completion, so that failures are DSPy's own, word for word.
"""

from __future__ import annotations

import enum
import json
import re
import types
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

import json_repair
from dspy.adapters.types import Reasoning
from dspy.adapters.utils import parse_value
from pydantic import TypeAdapter

from dspex.bridge.compiled.values import UnprovenError

if TYPE_CHECKING:
    from collections.abc import Callable

    Reader = Callable[[Any], Any]

_decode = json.JSONDecoder().decode
_scan: Callable[[str, int], tuple[Any, int]] = json.JSONDecoder().scan_once  # type: ignore[attr-defined]  # left out of the stubs
# Short enough that `int` and `float` agree with a JSON reader to the last bit.
_is_int = re.compile(r"-?(?:0|[1-9][0-9]{0,14})", re.ASCII).fullmatch
# "-0" is the whole number 0 in JSON, which has no sign to keep.
_is_number = re.compile(r"(?!-0\Z)-?(?:0|[1-9][0-9]{0,14})(?:\.[0-9]{1,15})?", re.ASCII).fullmatch
_BOOLS = ("True", "False", "true", "false")
# Without these json_repair finds no value in a text, and Python no string or mapping.
_may_hold_value = re.compile(r"""[{}\[\]()#/"'“”]""").search
# Words and signs that nest without brackets: so many would be too deep for Python's own parser.
_nesting = re.compile(r"[-+~*:]|not|lambda|else|await|yield").findall
_PROSE_LIMIT = 4000
_NESTING_LIMIT = 40


def reader_for(annotation: Any) -> Reader:  # noqa: PLR0911  # one return a kind
    """Return what reads a value of this annotation from text or from JSON data."""
    if annotation is str:
        return str
    if isinstance(annotation, enum.EnumMeta):
        return _enum_reader(annotation)
    if get_origin(annotation) is Literal:
        return _literal_reader(annotation)
    try:
        validate = TypeAdapter(annotation).validator.validate_python
    except Exception:  # noqa: BLE001  # pydantic asks the type, which may raise anything; DSPy will say
        return lambda value: parse_value(value, annotation)
    special = _SPECIAL.get(annotation) if isinstance(annotation, type) else None
    if special is not None:
        return special(validate)
    if _is_text_or_none(annotation):
        return validate
    return _json_reader(validate)


def _is_text_or_none(annotation: Any) -> bool:
    members = get_args(annotation)
    union = get_origin(annotation) in (Union, types.UnionType)
    return union and type(None) in members and str in members


def json_data(text: str) -> Any:
    """Return JSON data as `json_repair` finds it, which is as the standard library does where that succeeds."""
    try:
        return _decode(text)
    except ValueError:
        return json_repair.loads(text)


def _candidate(text: str) -> Any:
    found = json_data(text)
    # An empty answer of json_repair has two meanings, and DSPy tries Python's literals next.
    if found == "" and text != "":
        raise UnprovenError
    return found


def _json_reader(validate: Reader) -> Reader:
    def read(value: Any) -> Any:
        if type(value) is not str:
            return validate(_candidate(value) if isinstance(value, str) else value)
        try:
            found, end = _scan(value, 0)
        except (StopIteration, ValueError):
            found, end = "", -1
        # Something around the value, or an empty text, is for the whole of the search.
        return validate(_candidate(value) if end != len(value) or found == "" else found)

    return read


def _number_reader(number: type, is_one: Callable[[str], Any], validate: Reader) -> Reader:
    read_any = _json_reader(validate)

    def read(value: Any) -> Any:
        kind = type(value)
        if kind is number:
            return value
        return number(value) if kind is str and is_one(value) else read_any(value)

    return read


def _bool_reader(validate: Reader) -> Reader:
    read_any = _json_reader(validate)
    known = {text: parse_value(text, bool) for text in _BOOLS}

    def read(value: Any) -> Any:
        kind = type(value)
        if kind is bool:
            return value
        found = known.get(value) if kind is str else None
        return read_any(value) if found is None else found

    return read


def _reasoning_reader(validate: Reader) -> Reader:
    """Read prose: DSPy looks for JSON in it first, which in most prose cannot be found."""
    read_any = _json_reader(validate)

    def read(value: Any) -> Any:
        if type(value) is str and len(value) < _PROSE_LIMIT and not _may_hold_value(value):
            is_shallow = len(_nesting(value)) < _NESTING_LIMIT
            return validate(value) if is_shallow else read_any(value)
        return read_any(value)

    return read


_SPECIAL: dict[type, Callable[[Reader], Reader]] = {
    bool: _bool_reader,
    float: partial(_number_reader, float, _is_number),
    int: partial(_number_reader, int, _is_int),
    Reasoning: _reasoning_reader,
}


def _enum_reader(annotation: enum.EnumMeta) -> Reader:
    # The first member of a value wins, and values come before names.
    by_text: dict[str, Any] = {}
    for member in annotation:  # type: ignore[var-annotated]  # an enum class iterates over its members
        if type(member.value) is str:
            by_text.setdefault(member.value, member)
        elif isinstance(member.value, str) or type(member.value) not in (int, float, bool):
            return lambda value: parse_value(value, annotation)  # may equal a text in a way of its own
    for name, member in annotation.__members__.items():
        by_text.setdefault(name, member)

    def read(value: Any) -> Any:
        if type(value) is str:
            return by_text[value]
        return parse_value(value, annotation)

    return read


def _literal_reader(annotation: Any) -> Reader:
    allowed = get_args(annotation)

    def read(value: Any) -> Any:
        return value if value in allowed else parse_value(value, annotation)

    return read
