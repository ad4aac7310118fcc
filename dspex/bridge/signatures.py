"""Signatures across the border: our record to DSPy's class, and back."""

from __future__ import annotations

import typing
from typing import TYPE_CHECKING

import dspy

from dspex.errors import DefinitionError
from dspex.records import Field

if TYPE_CHECKING:
    from collections.abc import Sequence


def to_class(name: str, instructions: str, fields: Sequence[Field]) -> type[dspy.Signature]:
    """Make the `dspy.Signature` class."""
    made = {}
    for field in fields:
        kind = dspy.InputField if field.role == "input" else dspy.OutputField
        made[field.name] = (field.annotation, kind(desc=field.description) if field.description else kind())
    signature_class: type[dspy.Signature] = dspy.make_signature(made, instructions, name)
    return signature_class


def from_class(signature_class: type[dspy.Signature]) -> tuple[str, str, tuple[Field, ...]]:
    """Read name, instructions and fields off a `dspy.Signature` class."""
    if not (isinstance(signature_class, type) and issubclass(signature_class, dspy.Signature)):
        raise DefinitionError(
            f"a signature is a spec such as 'question -> answer' or a dspy.Signature class, got {signature_class!r}"
        )
    fields = [
        *(_field(name, "input", info) for name, info in signature_class.input_fields.items()),
        *(_field(name, "output", info) for name, info in signature_class.output_fields.items()),
    ]
    return signature_class.__name__, signature_class.instructions, tuple(fields)


def _field(name: str, role: typing.Literal["input", "output"], info: typing.Any) -> Field:
    # pydantic keeps `Annotated` constraints beside the type; together they are what was written.
    annotation = info.annotation
    if info.metadata:
        annotation = typing.Annotated[(annotation, *info.metadata)]
    extra = info.json_schema_extra or {}
    description = extra.get("desc")
    if description == f"${{{name}}}":  # DSPy's placeholder for "none was given"
        description = None
    type_text = info.annotation.__name__ if isinstance(info.annotation, type) else str(info.annotation)
    return Field(name, role, annotation, type_text.replace("typing.", ""), description)
