"""What may be asked of a value beyond its type: bounds, lengths, patterns.

In a spec a constraint stands after the whole type, also within the brackets of a collection; several stand
one after the other::

    age: int >= 0 <= 120                   bounds: >=  >  <=  <
    score: float in [0, 1]                 the same as >= 0 <= 1
    name: str len 1..80                    length: also len 5, len 1.., len ..80; lists and dicts too
    marks: list[int >= 0] len 1..          a constraint on each item, and one on the list
    code: str matching "[A-Z]{3}"          a regular expression that the whole text must match
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin

from annotated_types import Ge, GroupedMetadata, Gt, Le, Lt, MaxLen, MinLen

from dspex.errors import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from dspex.native.tokens import Token
    from dspex.native.types import TypeReader

_BOUNDS: dict[str, Callable[[float], Any]] = {">=": Ge, ">": Gt, "<=": Le, "<": Lt}
_WORDS = ("in", "len", "matching")
_NUMBERS = (int, float)
_SIZED = (str, bytes, list, set, dict, tuple)


@dataclass(frozen=True, slots=True)
class Matching:
    """A text must match a regular expression from end to end.

    Examples
    --------
    >>> Matching("[A-Z]{3}").fits("ABCD")
    False
    """

    pattern: str

    @property
    def constraint(self) -> str:
        """What a prompt says about it."""
        return f"matching: {self.pattern}"

    def fits(self, text: str) -> bool:
        """Whether a text matches."""
        return re.fullmatch(self.pattern, text) is not None

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Let pydantic check it."""
        from pydantic_core import core_schema

        def check(value: Any) -> Any:
            if value is not None and not self.fits(value):
                raise ValueError(f"must match {self.pattern}")
            return value

        return core_schema.no_info_after_validator_function(check, handler(source))

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        """Tell models about it; a JSON schema's patterns match anywhere unless they say otherwise."""
        made: dict[str, Any] = handler(schema)
        of_text = [each for each in (made, *made.get("anyOf", ())) if each.get("type") == "string"]
        for each in of_text:
            each["pattern"] = f"^(?:{self.pattern})$"
        return made


def split(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """Take ``Annotated`` apart into the type and its constraints, groups of them unpacked."""
    if get_origin(annotation) is not Annotated:
        return annotation, ()
    bare, *metadata = get_args(annotation)
    flat: list[Any] = []
    for each in metadata:
        flat.extend(each if isinstance(each, GroupedMetadata) else (each,))
    return bare, tuple(flat)


def constrained(reader: TypeReader, annotation: Any) -> Any:
    """Read the constraints that stand after a type and return the type with them."""
    bare, known = split(annotation)
    found: list[Any] = list(known)
    while (token := reader.peek()) is not None:
        read = _reader_of(token)
        if read is None:
            if token.kind == "name":
                raise _unknown(reader, token)
            break
        reader.index += 1
        found += read(reader, token, bare)
        _check_room(reader, token, found)
    return annotation if len(found) == len(known) else Annotated[(bare, *found)]


def written(metadata: Iterable[Any]) -> str:
    """Write constraints as a spec holds them; what a spec cannot say is left out."""
    low, high, parts = 0, math.inf, []
    for each in metadata:
        for sign, kind in _BOUNDS.items():
            if isinstance(each, kind):  # type: ignore[arg-type]  # the values are annotated_types' classes
                parts.append(f"{sign} {next(iter(vars_of(each)))!r}")
        if isinstance(each, MinLen):
            low = each.min_length
        elif isinstance(each, MaxLen):
            high = each.max_length
        elif isinstance(each, Matching):
            from dspex.native.tokens import quoted

            parts.append(f"matching {quoted(each.pattern)}")
    if low or high != math.inf:
        parts.append(f"len {low}" if low == high else f"len {low or ''}..{'' if high == math.inf else high}")
    return " ".join(parts)


def vars_of(constraint: Any) -> list[Any]:
    """Return the values that a bound or a length holds."""
    return [getattr(constraint, name) for name in constraint.__dataclass_fields__]


def _unknown(reader: TypeReader, token: Token) -> Exception:
    known = [*_BOUNDS, *_WORDS]
    return reader.wrong(
        token,
        f"unknown constraint {token.text!r}; known: {', '.join(known)}",
        hint=did_you_mean(token.text, _WORDS) or "fields are separated by commas",
    )


def _reader_of(token: Token) -> Callable[[TypeReader, Token, Any], list[Any]] | None:
    if token.kind == "mark" and token.text in _BOUNDS:
        return _bound
    return {"in": _interval, "len": _length, "matching": _matching}.get(token.text)


def _bound(reader: TypeReader, token: Token, bare: Any) -> list[Any]:
    _needs(reader, token, bare, _NUMBERS, "a number")
    return [_BOUNDS[token.text](reader.read_number())]


def _interval(reader: TypeReader, token: Token, bare: Any) -> list[Any]:
    _needs(reader, token, bare, _NUMBERS, "a number")
    reader.take("[")
    low = reader.read_number()
    reader.take(",")
    high = reader.read_number()
    reader.take("]")
    return [Ge(low), Le(high)]


def _length(reader: TypeReader, token: Token, bare: Any) -> list[Any]:
    _needs(reader, token, bare, _SIZED, "a text or a collection")
    low = None if (at := reader.peek()) and at.text == ".." else _whole(reader)
    if not reader.accept(".."):
        return [MinLen(low or 0), MaxLen(low or 0)]
    at = reader.peek()
    high = _whole(reader) if low is None or (at is not None and at.kind == "number") else None
    return [*([MinLen(low)] if low is not None else []), *([MaxLen(high)] if high is not None else [])]


def _whole(reader: TypeReader) -> int:
    token = reader.peek()
    number = reader.read_number()
    if not isinstance(number, int) or number < 0:
        raise reader.wrong(token, f"a length is a whole number >= 0, found {number}")
    return number


def _matching(reader: TypeReader, token: Token, bare: Any) -> list[Any]:
    _needs(reader, token, bare, (str,), "a text")
    at = reader.peek()
    pattern = reader.accept_string()
    if pattern is None:
        raise reader.wrong(
            at, "matching needs a quoted regular expression", hint='for example matching "[A-Z]{3}"'
        )
    try:
        re.compile(pattern)
    except re.error as error:
        raise reader.wrong(at, f"{pattern!r} is no regular expression: {error}") from error
    return [Matching(pattern)]


def _needs(reader: TypeReader, token: Token, bare: Any, kinds: tuple[type, ...], what: str) -> None:
    for option in options_of(bare):
        origin = get_origin(option) or option
        if origin is not NoneType and not (
            isinstance(origin, type) and issubclass(origin, kinds) and origin is not bool
        ):
            name = origin.__name__ if isinstance(origin, type) else str(origin).removeprefix("typing.")
            raise reader.wrong(token, f"{token.text!r} is a constraint on {what}, this is {name}")


def options_of(bare: Any) -> list[Any]:
    """List a union's members, or the type alone; constraints of members are taken off."""
    if get_origin(bare) in (Union, UnionType):
        return [option for each in get_args(bare) for option in options_of(split(each)[0])]
    return [NoneType if bare is None else bare]


def _check_room(reader: TypeReader, token: Token, found: list[Any]) -> None:
    """Refuse bounds that no value can meet."""
    lows = [(vars_of(each)[0], isinstance(each, Gt)) for each in found if isinstance(each, Ge | Gt)]
    highs = [(vars_of(each)[0], isinstance(each, Lt)) for each in found if isinstance(each, Le | Lt)]
    if lows and highs:
        (low, above), (high, below) = max(lows), min(highs, key=lambda one: (one[0], not one[1]))
        if low > high or (low == high and (above or below)):
            raise reader.wrong(
                token, f"no number is {'>' if above else '>='} {low} and {'<' if below else '<='} {high}"
            )
    shortest = max((each.min_length for each in found if isinstance(each, MinLen)), default=0)
    longest = min((each.max_length for each in found if isinstance(each, MaxLen)), default=shortest)
    if shortest > longest:
        raise reader.wrong(token, f"no length is >= {shortest} and <= {longest}")
