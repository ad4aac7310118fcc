"""The grammar of specs: text to fields, and back.

::

    spec        = fields "->" fields
    fields      = field, field, ...
    field       = name [":" type constraint ...] ["=" default] ["description"]
    type        = str  int  list[str]  dict[str, int]  Literal["a", "b"]  int | None  int?
                  list[int >= 0]  dict[str len 1..9, float in [0, 1]]
                  probability  embedding(1536)  tensor(3, *, int)  Invoice  billing.Invoice
    constraint  = >= 0  |  in [0, 1]  |  len 1..80  |  matching "[A-Z]{3}"
    default     = "none"  |  3  |  -0.5  |  True  |  None  |  ["a"]  |  {"a": 1}

A type left out is ``str``. For example::

    message: str len 1..2000 "what the customer wrote, in their words", limit: int >= 1 = 3
    -> label: Literal["bug", "question"] = "question", tags: list[str] = [], sure: probability

Writing a parsed spec out and reading it again gives the same fields.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from dspex.errors import UnknownNameError
from dspex.native import constraints, validators
from dspex.native.tokens import joined, quoted, written_value
from dspex.native.types import TypeReader
from dspex.records import MISSING, Field

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from dspex.native.tokens import Token

Role = Literal["input", "output"]

RESERVED = frozenset(
    {
        "copy",
        "dict",
        "fields",
        "input_fields",
        "instructions",
        "json",
        "output_fields",
        "schema",
        "signature",
        "validate",
    }
)
_NAME = r"[a-zA-Z]\w*"
_NAMES = rf"{_NAME}(?:\s*,\s*{_NAME})*"
_PLAIN = re.compile(rf"\s*({_NAMES})\s*->\s*({_NAMES})\s*", re.ASCII)


class Spec(NamedTuple):
    """What a text says: fields, and DSPy's own sentence for them."""

    fields: tuple[Field, ...]
    instructions: str


def parse(spec: str, types: Mapping[str, Any], descriptions: Mapping[str, str]) -> Spec:
    """Read a spec, from memory if it has been read before and nothing else was given with it."""
    if types or descriptions:
        return _read(spec, types, descriptions)
    return _remembered(spec)


@functools.lru_cache(maxsize=1024)
def _remembered(spec: str) -> Spec:
    return _plain(spec) or _read(spec, {}, {})


def default_instructions(fields: Iterable[Field]) -> str:
    """Return the sentence that DSPy gives a task without instructions."""
    sides: dict[str, list[str]] = {"input": [], "output": []}
    for field in fields:
        sides[field.role].append(f"`{field.name}`")
    return f"Given the fields {', '.join(sides['input'])}, produce the fields {', '.join(sides['output'])}."


def written(fields: Sequence[Field], *, descriptions: bool = True) -> str:
    """Write fields as a spec."""

    def side(role: Role) -> str:
        return ", ".join(_field_text(field, descriptions) for field in fields if field.role == role)

    return f"{side('input')} -> {side('output')}"


def _field_text(field: Field, descriptions: bool) -> str:
    text = field.name if field.type_text == "str" else f"{field.name}: {field.type_text}"
    if field.default is not MISSING:
        text += f" = {written_value(field.default)}"
    return f"{text} {quoted(field.description)}" if descriptions and field.description is not None else text


# ── reading ─────────────────────────────────────────────────────────────────────────────────────


@functools.lru_cache(maxsize=1024)
def _text_field(name: str, role: Role) -> Field:
    return Field(name, role)


def _plain(spec: str) -> Spec | None:
    """Read a spec that holds nothing but good names; anything else is left to the whole grammar."""
    match = _PLAIN.fullmatch(spec)
    if match is None:
        return None
    ins, outs = list(map(str.strip, match[1].split(","))), list(map(str.strip, match[2].split(",")))
    names = ins + outs
    if len(set(names)) < len(names) or not RESERVED.isdisjoint(names) or "model_" in spec:
        return None
    fields = (*[_text_field(name, "input") for name in ins], *[_text_field(name, "output") for name in outs])
    return Spec(
        fields,
        f"Given the fields `{'`, `'.join(ins)}`, produce the fields `{'`, `'.join(outs)}`.",
    )


def _read(spec: str, types: Mapping[str, Any], descriptions: Mapping[str, str]) -> Spec:
    fields = read_fields(spec, types)
    names = [field.name for field in fields]
    for name in descriptions:
        if name not in names:
            raise UnknownNameError.among("field", name, names)
    if descriptions:
        fields = tuple(
            Field(one.name, one.role, one.annotation, one.type_text, descriptions[one.name], one.default)
            if one.name in descriptions
            else one
            for one in fields
        )
    return Spec(fields, default_instructions(fields))


def read_fields(
    spec: str, types: Mapping[str, Any], *, taken: Iterable[str] = (), whole: bool = True
) -> tuple[Field, ...]:
    """Read the fields of a spec; one that is not `whole` may leave either side empty.

    Raises
    ------
    SignatureError
        If it cannot be read, or a name is in `taken`.
    """
    reader = TypeReader(spec, names=types)
    names = list(taken)
    fields = [] if not whole and _at_arrow(reader) else _side(reader, "input", names)
    if not reader.accept("->"):
        raise reader.wrong(
            reader.peek(),
            "a signature needs '->' between its inputs and its outputs",
            hint="for example 'question -> answer'",
        )
    if whole or reader.peek() is not None:
        fields += _side(reader, "output", names)
    rest = reader.peek()
    if rest is not None:
        raise reader.wrong(rest, f"expected ',' or the end, found {rest.text!r}")
    return tuple(fields)


def _at_arrow(reader: TypeReader) -> bool:
    token = reader.peek()
    return token is not None and token.kind == "arrow"


def _side(reader: TypeReader, role: Role, taken: list[str]) -> list[Field]:
    fields: list[Field] = []
    while True:
        fields.append(_field(reader, role, taken))
        taken.append(fields[-1].name)
        if not reader.accept(","):
            return fields


def _field(reader: TypeReader, role: Role, taken: Sequence[str]) -> Field:
    token = reader.take(expecting=f"an {role} field's name")
    if token.kind != "name" or not token.text.isidentifier():
        raise reader.wrong(token, f"expected an {role} field's name, found {token.text!r}")
    problem = name_problem(token.text, taken)
    if problem:
        raise reader.wrong(token, problem)
    annotation, type_text = str, "str"
    if reader.accept(":"):
        start = reader.index
        annotation = constraints.constrained(reader, reader.read())
        type_text = joined(reader.tokens[start : reader.index])
    default = _default(reader, annotation) if reader.accept("=") else MISSING
    return Field(token.text, role, annotation, type_text, reader.accept_string(), default)


def _default(reader: TypeReader, annotation: Any) -> Any:
    at = reader.peek()
    value = reader.read_value()
    failures = validators.of(annotation)(value)
    if failures:
        raise _unfit(reader, at, value, [failure.text for failure in failures])
    return value


def _unfit(reader: TypeReader, at: Token | None, value: Any, failures: list[str]) -> Exception:
    hint = "a field that may be None has a type that ends in '?'" if value is None else None
    return reader.wrong(at, f"a default must fit its field: {'; '.join(failures)}", hint=hint)


def name_problem(name: str, taken: Iterable[str]) -> str | None:
    """Say why a field cannot be called so, if it cannot."""
    if name in taken:
        return f"every field needs its own name, {name!r} is there twice"
    if name.startswith("_"):
        return "a field's name cannot begin with '_'"
    if name in RESERVED or name.startswith("model_"):
        return f"{name!r} is a name that DSPy's signatures use themselves"
    return None
