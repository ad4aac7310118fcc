"""Signatures across the border: our record to DSPy's class, and back.

Building a class costs pydantic hundreds of microseconds, and deriving one class from another leaves a chain
of field records that grows with every generation. So a class is built once per set of fields; further ones,
which differ in name, instructions or descriptions only, are copies of it.
"""

from __future__ import annotations

import abc
import functools
import typing
from dataclasses import replace
from typing import TYPE_CHECKING

import annotated_types
import dspy
from pydantic_core import PydanticUndefined

from dspex.errors import DefinitionError
from dspex.records import MISSING, Field

try:  # pydantic's own way to put off building a validator; without it, classes are built, not copied
    from pydantic._internal._mock_val_ser import set_model_mocks as _set_model_mocks
except ImportError:  # pragma: no cover
    _set_model_mocks = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pydantic.fields import FieldInfo

_SHOWN = {
    annotated_types.Gt: ("gt", "greater than: "),
    annotated_types.Ge: ("ge", "greater than or equal to: "),
    annotated_types.Lt: ("lt", "less than: "),
    annotated_types.Le: ("le", "less than or equal to: "),
    annotated_types.MinLen: ("min_length", "minimum length: "),
    annotated_types.MaxLen: ("max_length", "maximum length: "),
}


def to_class(name: str, instructions: str, fields: Sequence[Field]) -> type[dspy.Signature]:
    """Make the `dspy.Signature` class."""
    try:
        # Equal defaults may differ (1 and True), so their texts take part.
        template = _template(
            tuple(replace(field, description=None) for field in fields),
            repr([field.default for field in fields]),
        )
    except TypeError:  # a type that cannot be hashed
        return _built(name, instructions, fields)
    return template.copied(name, instructions, {field.name: field.description for field in fields})


def derived(
    signature_class: type[dspy.Signature],
    name: str,
    instructions: str,
    fields: Sequence[Field],
    *,
    unchanged: Sequence[Field],
) -> type[dspy.Signature]:
    """Make a class of another one's fields, with whatever these carry, and of new ones."""
    parts = {}
    for field in fields:
        info = signature_class.model_fields.get(field.name)
        if info is None or field not in unchanged:
            parts[field.name] = _declared(field)
        else:
            parts[field.name] = (info.annotation, _unchained(info))
    made: type[dspy.Signature] = dspy.make_signature(parts, instructions, name)
    return made


def from_class(
    signature_class: type[dspy.Signature], type_text: Callable[[typing.Any], str] = str
) -> tuple[str, str, tuple[Field, ...]]:
    """Read name, instructions and fields off a `dspy.Signature` class; `type_text` writes a type."""
    if not (isinstance(signature_class, type) and issubclass(signature_class, dspy.Signature)):
        raise DefinitionError(
            f"a signature is a spec such as 'question -> answer' or a dspy.Signature class, got {signature_class!r}"
        )
    fields = [
        *(_field(name, "input", info, type_text) for name, info in signature_class.input_fields.items()),
        *(_field(name, "output", info, type_text) for name, info in signature_class.output_fields.items()),
    ]
    return signature_class.__name__, signature_class.instructions, tuple(fields)


def _field(
    name: str,
    role: typing.Literal["input", "output"],
    info: typing.Any,
    type_text: Callable[[typing.Any], str],
) -> Field:
    # pydantic keeps `Annotated` constraints beside the type; together they are what was written.
    annotation = info.annotation
    if info.metadata:
        annotation = typing.Annotated[(annotation, *info.metadata)]
    extra = info.json_schema_extra or {}
    description, prefix = extra.get("desc"), extra.get("prefix")
    if description == f"${{{name}}}":  # DSPy's placeholder for "none was given"
        description = None
    return Field(
        name,
        role,
        annotation,
        type_text(annotation),
        description,
        MISSING if info.default is PydanticUndefined else info.default,
        None if prefix == _usual_prefix(name) else prefix,
    )


@functools.lru_cache(maxsize=1024)
def _usual_prefix(name: str) -> str:
    from dspy.signatures.signature import infer_prefix

    return f"{infer_prefix(name)}:"


# ── building ────────────────────────────────────────────────────────────────────────────────────


def _built(name: str, instructions: str, fields: Sequence[Field]) -> type[dspy.Signature]:
    made: type[dspy.Signature] = dspy.make_signature(
        {field.name: _declared(field) for field in fields}, instructions, name
    )
    return made


def _declared(field: Field) -> tuple[typing.Any, typing.Any]:
    """Declare a field as one does by hand: type, and DSPy's field with what is known."""
    kind = dspy.InputField if field.role == "input" else dspy.OutputField
    options: dict[str, typing.Any] = {} if field.description is None else {"desc": field.description}
    if field.default is not MISSING:
        options["default"] = field.default
    made = kind(**options)
    if field.prefix is not None:  # as a keyword, DSPy warns of it
        made.json_schema_extra["prefix"] = field.prefix
    constraints = _constraints_text(field.annotation)
    if constraints:
        made.json_schema_extra["constraints"] = constraints
    # DSPy knows types and typing's forms; bare None is neither.
    return (type(None) if field.annotation is None else field.annotation), made


def _constraints_text(annotation: typing.Any) -> str:
    """Say in DSPy's words what is asked of a value; prompts show it."""
    if typing.get_origin(annotation) is not typing.Annotated:
        return ""
    said = []
    for each in typing.get_args(annotation)[1:]:
        if type(each) in _SHOWN:
            attribute, words = _SHOWN[type(each)]
            said.append(f"{words}{getattr(each, attribute)}")
        elif isinstance(getattr(each, "constraint", None), str):
            said.append(each.constraint)
    return ", ".join(said)


# ── copying ─────────────────────────────────────────────────────────────────────────────────────


class _Template:
    """A class that was built whole, and what its copies share with it."""

    def __init__(self, fields: tuple[Field, ...]) -> None:
        self.fields = fields
        self.built = _built("Signature", "", fields)
        own = ("__dict__", "__weakref__", "_abc_impl", "__signature__")
        self.namespace = {key: value for key, value in vars(self.built).items() if key not in own}
        self.infos = {name: _unchained(info) for name, info in self.built.model_fields.items()}
        self.faithful = _set_model_mocks is not None and self._is_faithful()

    def _is_faithful(self) -> bool:
        """Prove on one example that a copy says what a built class says."""
        descriptions = {field.name: f"about {field.name}" for field in self.fields}
        copied = self._copied("Proof", "Prove it.", descriptions)
        built = _built(
            "Proof",
            "Prove it.",
            [replace(field, description=descriptions[field.name]) for field in self.fields],
        )
        return bool(copied.equals(built)) and _facts(copied) == _facts(built)

    def copied(
        self, name: str, instructions: str, descriptions: Mapping[str, str | None]
    ) -> type[dspy.Signature]:
        """Return a class of other name, instructions and descriptions."""
        if self.faithful:
            return self._copied(name, instructions, descriptions)
        fields = [replace(field, description=descriptions[field.name]) for field in self.fields]
        return _built(name, instructions, fields)

    def _copied(
        self, name: str, instructions: str, descriptions: Mapping[str, str | None]
    ) -> type[dspy.Signature]:
        infos = {}
        for field_name, info in self.infos.items():
            infos[field_name] = made = info._copy()  # noqa: SLF001  # copy.copy goes through pickling, 20 times slower
            made.json_schema_extra = extra = _extra_of(info)
            description = descriptions[field_name]
            if description is not None:
                extra["desc"] = description
        namespace = {
            **self.namespace,
            "__doc__": instructions or self.built.__doc__,  # DSPy's own sentence
            "__qualname__": name,
            "__pydantic_fields__": infos,
            "__annotations__": dict(self.namespace["__annotations__"]),
        }
        # Not pydantic's metaclass, which would build it all anew; ABCMeta's part gives it a register of its own.
        made_class: type[dspy.Signature] = abc.ABCMeta.__new__(
            type(dspy.Signature), name, (dspy.Signature,), namespace
        )
        # Its validator is made when it is first used, by pydantic itself; few signatures ever are.
        made_class.__pydantic_complete__ = False
        _set_model_mocks(made_class)
        return made_class


def _facts(signature_class: type[dspy.Signature]) -> list[tuple[typing.Any, ...]]:
    return [
        (name, info.annotation, info.metadata, repr(info.default), info.json_schema_extra)
        for name, info in signature_class.fields.items()
    ]


@functools.lru_cache(maxsize=256)
def _template(fields: tuple[Field, ...], _defaults: str) -> _Template:
    return _Template(fields)


def _unchained(info: FieldInfo) -> FieldInfo:
    """Copy a field's record without the one it was made from, and that one's, and so on."""
    copied = info._copy()  # noqa: SLF001  # as above
    copied._original_assignment = PydanticUndefined  # noqa: SLF001  # the chain
    # These are merged again when a class is built of the record; the type is given beside it.
    copied._attributes_set.pop("annotation", None)  # noqa: SLF001  # as above
    copied.json_schema_extra = _extra_of(info)
    return copied


def _extra_of(info: FieldInfo) -> dict[str, typing.Any]:
    """Copy what DSPy keeps on a field."""
    extra = info.json_schema_extra
    return dict(extra) if isinstance(extra, dict) else {}
