"""Signatures: what goes in, what comes out, and how it should be done."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from dspex.errors import DefinitionError, SignatureError, UnknownNameError
from dspex.native.types import Token, TypeReader, tokens_of
from dspex.records import Field

if TYPE_CHECKING:
    from collections.abc import Mapping

    import dspy

_RESERVED = frozenset(
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


@dataclass(frozen=True)
class Signature:
    """A task: named, typed inputs and outputs, and instructions.

    Make one with `signature`. It is plain data; DSPy's class is made when something first needs it.
    """

    fields: tuple[Field, ...]
    instructions: str
    name: str = "Signature"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The input fields' names."""
        return tuple(field.name for field in self.fields if field.role == "input")

    @property
    def outputs(self) -> tuple[str, ...]:
        """The output fields' names."""
        return tuple(field.name for field in self.fields if field.role == "output")

    @functools.cached_property
    def key(self) -> str:
        """Name the content; equal in every process. The name does not take part."""
        text = f"{self}\n{self.instructions}\n{[field.description for field in self.fields]}"
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def __str__(self) -> str:
        def side(role: str) -> str:
            return ", ".join(_written(field) for field in self.fields if field.role == role)

        return f"{side('input')} -> {side('output')}"

    def __repr__(self) -> str:
        return f"<{self.name}: {self}>"

    def with_instructions(self, instructions: str) -> Signature:
        """Return the same signature under other instructions."""
        changed = replace(self, instructions=instructions)
        if "_dspy_class" in self.__dict__:
            # A class of the user's own carries more than our record does, such as defaults.
            changed.__dict__["_dspy_class"] = self._dspy_class.with_instructions(instructions)
        return changed

    def __getstate__(self) -> dict[str, Any]:
        # DSPy's class is made anew where it is needed; a dynamic one cannot be pickled.
        return {key: value for key, value in self.__dict__.items() if key != "_dspy_class"}

    def to_dspy(self) -> type[dspy.Signature]:
        """Return the `dspy.Signature` class for it, made once."""
        return self._dspy_class

    @functools.cached_property
    def _dspy_class(self) -> type[dspy.Signature]:
        from dspex.bridge import signatures

        return signatures.to_class(self.name, self.instructions, self.fields)

    @classmethod
    def from_dspy(cls, signature_class: type[dspy.Signature]) -> Signature:
        """Read a `dspy.Signature` class."""
        from dspex.bridge import signatures

        name, instructions, fields = signatures.from_class(signature_class)
        made = cls(fields, instructions, name)
        # Keep the user's own class: it may carry more than our record does.
        made.__dict__["_dspy_class"] = signature_class
        return made

    def check_inputs(self, given: Mapping[str, Any]) -> None:
        """Check that exactly the input fields are given.

        Raises
        ------
        DefinitionError
            If one is missing (all are listed) or one is not a field.
        """
        missing = [name for name in self.inputs if name not in given]
        if missing:
            raise DefinitionError(
                f"{self.name} needs the input(s) {', '.join(missing)}; got {', '.join(given) or 'none'}",
                hint=f"call it with {', '.join(f'{name}=...' for name in self.inputs)}",
            )
        for name in given:
            if name not in self.inputs:
                raise UnknownNameError.among(f"input of {self.name}", name, self.inputs)


def signature(
    spec: str | Signature | type[dspy.Signature],
    instructions: str | None = None,
    *,
    name: str | None = None,
    types: Mapping[str, Any] | None = None,
    descriptions: Mapping[str, str] | None = None,
) -> Signature:
    """Define a task.

    Parameters
    ----------
    spec
        ``"input: type, ... -> output: type, ..."``; a type left out is ``str``. Types nest
        (``list[dict[str, int]]``), join (``int | None``, ``int?``) and enumerate
        (``Literal["bug", "question"]``); ``probability`` and ``confidence`` are numbers in [0, 1].
        A `dspy.Signature` class is taken as it is.
    instructions
        How the task should be done. Left out, DSPy's own default sentence is used.
    name
        What tables and logs call it.
    types
        Your own types (pydantic models, dataclasses, enums) by the name the spec uses.
    descriptions
        Field name → what a model should know about it.

    Raises
    ------
    SignatureError
        If the spec cannot be read; a caret stands under the place.

    Examples
    --------
    >>> qa = signature("question -> answer, confidence: probability", "Answer briefly.")
    >>> qa.inputs, qa.outputs
    (('question',), ('answer', 'confidence'))
    """
    if not isinstance(spec, str):
        if types or descriptions:
            raise DefinitionError(
                "types and descriptions belong to a spec that is a text; this one is defined already"
            )
        read = spec if isinstance(spec, Signature) else Signature.from_dspy(spec)
        if name is not None:
            read = replace(read, name=name)
        return read if instructions is None else read.with_instructions(instructions)
    fields = _parsed(spec, types or {}, descriptions or {})
    if instructions is None:
        ins = ", ".join(f"`{field.name}`" for field in fields if field.role == "input")
        outs = ", ".join(f"`{field.name}`" for field in fields if field.role == "output")
        instructions = f"Given the fields {ins}, produce the fields {outs}."
    return Signature(fields, instructions, name or "Signature")


def _parsed(spec: str, types: Mapping[str, Any], descriptions: Mapping[str, str]) -> tuple[Field, ...]:
    reader = TypeReader(spec, tokens_of(spec), types)
    fields = _side(reader, "input", descriptions, [])
    if not reader.accept("->"):
        at = reader.peek()
        raise SignatureError.at(
            spec,
            at.position if at else len(spec),
            "a signature needs '->' between its inputs and its outputs",
            hint="for example 'question -> answer'",
        )
    fields += _side(reader, "output", descriptions, [field.name for field in fields])
    rest = reader.peek()
    if rest is not None:
        raise SignatureError.at(spec, rest.position, f"expected ',' or the end, found {rest.text!r}")
    names = [field.name for field in fields]
    for name in descriptions:
        if name not in names:
            raise UnknownNameError.among("field", name, names)
    return tuple(fields)


def _check_name(reader: TypeReader, token: Token, taken: list[str]) -> None:
    if token.text in taken:
        problem = f"every field needs its own name, {token.text!r} is there twice"
    elif token.text.startswith("_"):
        problem = "a field's name cannot begin with '_'"
    elif token.text in _RESERVED or token.text.startswith("model_"):
        problem = f"{token.text!r} is a name that DSPy's signatures use themselves"
    else:
        return
    raise SignatureError.at(reader.spec, token.position, problem)


def _side(
    reader: TypeReader, role: Literal["input", "output"], descriptions: Mapping[str, str], taken: list[str]
) -> list[Field]:
    fields: list[Field] = []
    while True:
        token = reader.take(expecting=f"an {role} field's name")
        if token.kind != "name" or not token.text.isidentifier():
            raise SignatureError.at(
                reader.spec, token.position, f"expected an {role} field's name, found {token.text!r}"
            )
        _check_name(reader, token, [*taken, *(field.name for field in fields)])
        annotation, type_text = str, "str"
        if reader.accept(":"):
            start = reader.peek()
            annotation = reader.read()
            end = reader.peek()
            type_text = (
                reader.spec[start.position : end.position if end else None].strip() if start else "str"
            )
        fields.append(Field(token.text, role, annotation, type_text, descriptions.get(token.text)))
        if not reader.accept(","):
            return fields


def _written(field: Field) -> str:
    return field.name if field.type_text == "str" else f"{field.name}: {field.type_text}"
