"""Values as text: what DSPy would write for a value, through serializers that are made once per type.

DSPy describes every value to pydantic anew; here the description is kept by the value's exact type. What
pydantic cannot describe is handed to DSPy each time.
"""

from __future__ import annotations

import json
from json.encoder import encode_basestring
from typing import TYPE_CHECKING, Any

from dspy.adapters.utils import serialize_for_json
from pydantic import TypeAdapter

from dspex.bridge.compiled.flat import flat_writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_LIMIT = 512
_ENCODER = json.JSONEncoder(ensure_ascii=False)
_QUOTED: Callable[[str], str] = encode_basestring


class UnprovenError(Exception):
    """Something was met that was not proven to read the same; DSPy's own code takes over."""


def _make_encoder() -> Callable[[Any, int], Iterable[str]]:
    """Return ``json.dumps(..., ensure_ascii=False)`` in pieces, without its set-up; a dump has no cycles to look for."""
    make = json.encoder.c_make_encoder  # type: ignore[attr-defined]  # CPython's own, absent elsewhere
    if make is None:
        return lambda value, _: (_ENCODER.encode(value),)
    made: Callable[[Any, int], Iterable[str]] = make(
        None, _ENCODER.default, _QUOTED, None, ": ", ", ", False, False, True
    )
    return made


_pieces = _make_encoder()
_join, _comma = "".join, ", ".join
_ONLY_STR = frozenset({str})
_holds_only_str = _ONLY_STR.issuperset
_DUMPED_AS_THEY_ARE = frozenset({bool, int, str, type(None)})


def to_json(value: Any) -> str:
    """Return JSON-like data as DSPy writes it."""
    return _join(_pieces(value, 0))


_serializers: dict[type, Any] = {}
writers: dict[type, Callable[[Any], str]] = {}


def serializer_for(kind: type) -> Any:
    """Return pydantic's serializer for a type, or None where pydantic cannot describe it (yet)."""
    found = _serializers.get(kind)
    if found is None:
        try:
            found = TypeAdapter(kind).serializer
        except Exception:  # noqa: BLE001  # pydantic asks the type, which may raise anything
            return None
        if len(_serializers) >= _LIMIT:
            _serializers.clear()
        _serializers[kind] = found
    return found


def plain(value: Any) -> Any:
    """Return a value as the JSON-like data that DSPy would turn into text."""
    kind = type(value)
    if kind is str:
        return value
    serializer = serializer_for(kind)
    if serializer is None:
        return serialize_for_json(value)
    try:
        return serializer.to_python(value, mode="json", fallback=str)
    except Exception:  # noqa: BLE001  # as DSPy: what cannot be dumped is shown as it prints
        return str(value)


def text_of(value: Any) -> str:
    """Return a value as DSPy writes it into a prompt.

    Examples
    --------
    >>> text_of({"a": [1, float("nan")]})
    '{"a": [1, null]}'
    >>> text_of(float("nan"))
    'nan'
    """
    kind = type(value)
    if kind is str:
        return value  # type: ignore[no-any-return]  # narrowed by its exact type
    return (writers.get(kind) or writer_for(kind))(value)


def writer_for(kind: type) -> Callable[[Any], str]:
    """Return what writes values of exactly this type."""
    if kind in (int, float, bool, type(None), str):
        writers[kind] = str
        return str
    serializer = serializer_for(kind)
    if serializer is None:
        return _write_plain
    write = _dumping_writer(serializer.to_python)
    return _kept(writers, kind, _list_writer(write) if kind is list else flat_writer(kind, write) or write)


def _dumping_writer(to_python: Callable[..., Any]) -> Callable[[Any], str]:
    def write(value: Any) -> str:
        try:
            dumped = to_python(value, mode="json", fallback=str)
        except Exception:  # noqa: BLE001  # as DSPy: what cannot be dumped is shown as it prints
            return str(value)
        found = type(dumped)
        if found is dict or found is list or isinstance(dumped, (dict, list)):
            return _join(_pieces(dumped, 0))
        return str(dumped)

    return write


def _list_writer(otherwise: Callable[[Any], str]) -> Callable[[Any], str]:
    def write(value: Any) -> str:
        if _holds_only_str(map(type, value)):  # its dump is itself
            return f"[{_comma(map(_QUOTED, value))}]"
        return otherwise(value)

    return write


def _kept(
    store: dict[type, Callable[[Any], str]], kind: type, write: Callable[[Any], str]
) -> Callable[[Any], str]:
    if len(store) >= _LIMIT:
        store.clear()
    store[kind] = write
    return write


def _write_plain(value: Any) -> str:
    dumped = serialize_for_json(value)
    return to_json(dumped) if isinstance(dumped, (dict, list)) else str(dumped)


def text_of_str_field(value: Any) -> str:
    """Return a value of a field annotated `str`: as `text_of`, but a list becomes numbered passages.

    Examples
    --------
    >>> print(text_of_str_field(["one", "two"]))
    [1] «one»
    [2] «two»
    """
    kind = type(value)
    if kind is str:
        return value  # type: ignore[no-any-return]  # narrowed by its exact type
    if isinstance(value, list):
        if not value:
            return "N/A"
        if len(value) == 1:
            return _passage(value[0])
        return "\n".join([f"[{number}] {_passage(each)}" for number, each in enumerate(value, 1)])
    return (writers.get(kind) or writer_for(kind))(value)


def _passage(passage: Any) -> str:
    if type(passage) is not str:
        raise UnprovenError
    if "\n" in passage or "«" in passage or "»" in passage:
        indented = passage.replace("\n", "\n    ")
        return f"«««\n    {indented}\n»»»"
    return f"«{passage}»"


def indented_object(values: dict[str, Any]) -> str:
    """Return a dict of values as ``json.dumps(..., indent=2)`` writes them after pydantic's dump.

    Examples
    --------
    >>> print(indented_object({"a": 1, "b": []}))
    {
      "a": 1,
      "b": []
    }
    """
    if _DUMPED_AS_THEY_ARE.issuperset(map(type, values.values())):
        return _indented(values, "\n")
    return _indented(plain(values), "\n")


def _indented(value: Any, newline: str) -> str:  # noqa: PLR0911  # one return a kind
    kind = type(value)
    if kind is str:
        return _QUOTED(value)
    if kind is dict:
        if not value:
            return "{}"
        if not _holds_only_str(map(type, value)):
            raise UnprovenError
        inner = newline + "  "
        members = [
            f"{_QUOTED(key)}: {_QUOTED(each) if type(each) is str else _indented(each, inner)}"
            for key, each in value.items()
        ]
        return f"{{{inner}{f',{inner}'.join(members)}{newline}}}"
    if kind is list:
        if not value:
            return "[]"
        inner = newline + "  "
        if _holds_only_str(map(type, value)):
            return f"[{inner}{f',{inner}'.join(map(_QUOTED, value))}{newline}]"
        return f"[{inner}{f',{inner}'.join([_indented(each, inner) for each in value])}{newline}]"
    literal = _LITERALS.get(kind)
    if literal is None:
        raise UnprovenError
    return literal(value)


_LITERALS: dict[type, Callable[[Any], str]] = {
    bool: {True: "true", False: "false"}.__getitem__,
    float: to_json,  # which knows nan and the infinities
    int: int.__repr__,
    type(None): {None: "null"}.__getitem__,
}


member_writers: dict[type, Callable[[Any], str]] = {}
_MEMBER = "\n  "
_join_items = f",{_MEMBER}  ".join


def member_text(value: Any) -> str:
    """Return a member of the object that `indented_object` writes, where its own type says all of it.

    Raises
    ------
    UnprovenError
        If only the dump of the whole object tells.

    Examples
    --------
    >>> print(member_text(["a"]))
    [
        "a"
      ]
    """
    kind = type(value)
    return (member_writers.get(kind) or _member_writer_for(kind))(value)


def _member_writer_for(kind: type) -> Callable[[Any], str]:
    write = _MEMBERS.get(kind) or flat_writer(kind, _unproven, _MEMBER) or _unproven
    return _kept(member_writers, kind, write)


def _unproven(_: Any) -> str:
    raise UnprovenError


def _float_member(value: float) -> str:
    if value - value != 0:
        raise UnprovenError  # nan and infinities are null within an object
    return repr(value)


def _list_member(value: list[Any]) -> str:
    if not value:
        return "[]"
    if not _holds_only_str(map(type, value)):
        raise UnprovenError
    return f"[{_MEMBER}  {_join_items(map(_QUOTED, value))}{_MEMBER}]"


_MEMBERS: dict[type, Callable[[Any], str]] = {
    **_LITERALS,
    float: _float_member,
    list: _list_member,
    str: _QUOTED,
}
