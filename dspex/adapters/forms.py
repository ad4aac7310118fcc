"""Minimal prompts: a task's inputs as text, its outputs as the shortest form that says their types, and back."""

from __future__ import annotations

import functools
import json
import re
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from pydantic import ConfigDict, TypeAdapter, ValidationError, create_model

from dspex.adapters.base import TEXT, Ask
from dspex.errors import DefinitionError, SchemaRefusedError
from dspex.records import MISSING, Field

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel

    from dspex.native.signature import Signature

_STOCK = re.compile(r"Given the fields .*, produce the fields .*\.", re.DOTALL)
_FENCED = re.compile(r"\A\s*```\w*\n(.*?)\n?```\s*\Z", re.DOTALL)
_SCALARS = {int: "a whole number", float: "a number", bool: "true or false"}
_REASONING = Field("reasoning", "output", str, "str", "how you get to the answer, step by step")


def instructions_of(ask: Ask) -> str:
    """Return what the user said about the task; DSPy's own sentence for one without is left out."""
    if ask.signature is None or _STOCK.fullmatch(ask.signature.instructions):
        return ""
    return ask.signature.instructions


def user_text(ask: Ask, template: Any = None) -> str:
    """Write the inputs: a template's way, or one alone as it is, or each on a line with its name."""
    if ask.signature is None:
        return ask.prompt
    values = {
        field.name: ask.inputs.get(field.name, field.default)
        for field in ask.signature.fields
        if field.role == "input"
    }
    values = {name: value for name, value in values.items() if value is not MISSING}
    if template is not None:
        return str(template.render(values))
    if len(values) == 1:
        return _written(next(iter(values.values())))
    return "\n".join(f"{name}: {_written(value)}" for name, value in values.items())


def _written(value: Any) -> str:
    if isinstance(value, str):
        return value
    return TypeAdapter(Any).dump_json(value).decode()


# ── one output, as plain text ───────────────────────────────────────────────────────────────────


def outputs_of(signature: Signature, module: str = "Predict") -> tuple[Field, ...]:
    """Return the fields to ask for; ChainOfThought asks for the reasoning first."""
    own = tuple(field for field in signature.fields if field.role == "output")
    return own if module == "Predict" else (_REASONING, *own)


def plain_field(ask: Ask, module: str = "Predict") -> Field | None:
    """Return the one output that a plain text can be; None if an object must be asked for."""
    if ask.signature is None:
        return Field(TEXT, "output")
    fields = outputs_of(ask.signature, module)
    if len(fields) == 1 and (_is_text(fields[0]) or fields[0].annotation in _SCALARS or _options(fields[0])):
        return fields[0]
    return None


def plain_request(field: Field) -> str:
    """Say in a sentence what a plain answer must be; nothing if any text will do."""
    options = _options(field)
    if options:
        return f"Answer with exactly one of: {', '.join(map(str, options))}."
    kind = _SCALARS.get(field.annotation)
    described = f" ({field.description})" if field.description else ""
    if kind is not None:
        return f"Answer with {kind} and nothing else{described}."
    return f"Answer with the {field.name.replace('_', ' ')}{described}." if described else ""


def read_plain(field: Field, text: str) -> Any:
    """Read a plain answer as the field's type.

    Raises
    ------
    ValueError
        If it is none.
    """
    if _is_text(field):
        return text.strip()
    bare = text.strip().strip("`\"'").rstrip(".").strip()
    options = {str(option).casefold(): option for option in _options(field)}
    if options:
        if bare.casefold() not in options:
            raise ValueError(f"{field.name} must be one of {', '.join(map(str, options.values()))}")
        return options[bare.casefold()]
    try:
        return _reader(field.annotation).validate_strings(bare.replace(",", ""))
    except ValidationError as error:
        raise ValueError(f"{field.name} must be {_SCALARS[field.annotation]}") from error


def _is_text(field: Field) -> bool:
    return field.annotation is str


def _options(field: Field) -> tuple[Any, ...]:
    return get_args(field.annotation) if get_origin(field.annotation) is Literal else ()


@functools.lru_cache(maxsize=256)
def _reader(annotation: Any) -> TypeAdapter[Any]:
    return TypeAdapter(annotation)


# ── several outputs, as an object ───────────────────────────────────────────────────────────────


class Form:
    """The object that an answer must be: a JSON schema to ask for it, and a model to check it."""

    def __init__(self, fields: tuple[Field, ...]) -> None:
        self.names = tuple(field.name for field in fields)
        self.model = _model(fields)
        self.schema = _closed(self.model.model_json_schema(by_alias=True))

    def read(self, text: str) -> dict[str, Any]:
        """Read an answer.

        Raises
        ------
        ValueError
            Saying everything that is wrong with it, one a line.
        """
        fenced = _FENCED.match(text)
        try:
            made = self.model.model_validate_json(fenced[1] if fenced else _object_in(text))
        except ValidationError as error:
            raise ValueError("\n".join(map(_told, error.errors(include_url=False)))) from error
        return {name: getattr(made, f"field_{name}") for name in self.names}

    def request(self) -> str:
        """Ask for the object in words, for a provider that cannot hold answers to a schema."""
        return (
            f"Answer with nothing but a JSON object that follows this JSON schema:\n{json.dumps(self.schema)}"
        )


def form_of(signature: Signature, module: str = "Predict") -> Form:
    """Return the form of a task's answer, made once for each task.

    Raises
    ------
    SchemaRefusedError
        If a type has no JSON schema.
    """
    fields = outputs_of(signature, module)
    try:
        return _form(fields)
    except TypeError:  # a default that cannot be hashed
        return Form(fields)
    except DefinitionError:
        raise
    except Exception as error:
        raise SchemaRefusedError(
            f"an output of {signature.outline} has no JSON schema: {error}",
            hint="use the bridged adapter, or a type that pydantic can describe",
        ) from error


_form = functools.lru_cache(maxsize=256)(Form)


def _model(fields: tuple[Field, ...]) -> type[BaseModel]:
    from pydantic import Field as Described

    # Prefixed, because pydantic keeps some names for itself, such as those that begin with `model_`.
    described: dict[str, Any] = {
        f"field_{field.name}": (
            field.annotation,
            Described(
                default=... if field.default is MISSING else field.default,
                alias=field.name,
                description=field.description,
            ),
        )
        for field in fields
    }
    made: type[BaseModel] = create_model(
        "answer", __config__=ConfigDict(arbitrary_types_allowed=False), **described
    )
    return made


def _closed(schema: Any) -> Any:
    """Close every object and require all it has, as OpenAI's strict mode and Anthropic want; drop titles."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {
        key: {name: _closed(inner) for name, inner in value.items()}
        if key in ("properties", "$defs")
        else _closed(value)
        for key, value in schema.items()
        if not (key == "title" and isinstance(value, str))
    }
    if kept.get("type") == "object" and "properties" in kept:
        kept["required"], kept["additionalProperties"] = list(kept["properties"]), False
    return kept


def _object_in(text: str) -> str:
    """Cut an object out of the talk around it."""
    start, end = text.find("{"), text.rfind("}")
    return text[start : end + 1] if 0 <= start < end else text


def _told(error: Mapping[str, Any]) -> str:
    place = ".".join(map(str, error["loc"]))
    return f"{place}: {error['msg']}" if place else str(error["msg"])
