"""Signatures written as classes: annotations are fields, the docstring says what to do."""

from __future__ import annotations

import inspect
import sys
import typing
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin

from dspex.errors import DefinitionError
from dspex.native import spec, validators
from dspex.native.types import KNOWN
from dspex.native.written import type_text
from dspex.records import MISSING, Field


@dataclass(frozen=True, slots=True)
class Output:
    """Marks a field of a class as an output; made by `output`."""

    description: str | None = None
    default: Any = MISSING


def output(description: str | None = None, *, default: Any = MISSING) -> Any:
    """Say that a field of a class is an output.

    Parameters
    ----------
    description
        What a model should know about it.
    default
        What it is if the model leaves it out.

    Examples
    --------
    >>> from dspex.native.signature import signature
    >>> @signature
    ... class Triage:
    ...     '''Label the message.'''
    ...
    ...     message: Annotated[str, "what the customer wrote"]
    ...     sure: "probability" = output("how sure you are")
    >>> Triage
    <Triage: message -> sure: probability>
    """
    return Output(description, default)


def is_written(given: Any) -> bool:
    """Say whether a class holds nothing but fields: no base classes, and annotations of its own."""
    return isinstance(given, type) and given.__bases__ == (object,) and "__annotations__" in vars(given)


def read_class(written: type) -> tuple[str, str | None, tuple[Field, ...]]:
    """Read name, instructions and fields off a class.

    Raises
    ------
    DefinitionError
        If it has no annotations, no outputs, or one that cannot be used.
    """
    fields: list[Field] = []
    for name, annotation in _annotations(written).items():
        problem = spec.name_problem(name, ())
        if problem:
            raise DefinitionError(f"{written.__name__}: {problem}")
        fields.append(_field(written, name, annotation))
    for role in ("input", "output"):
        if not any(field.role == role for field in fields):
            raise DefinitionError(
                f"{written.__name__} has no {role}s",
                hint="annotate inputs as 'message: str', mark outputs as 'label: str = dx.output()'",
            )
    ordered = sorted(fields, key=lambda field: field.role)  # inputs come first in every signature
    doc = written.__doc__
    return written.__name__, inspect.cleandoc(doc) if doc else None, tuple(ordered)


def _annotations(written: type) -> dict[str, Any]:
    module = sys.modules.get(written.__module__)
    # A type of ours such as `probability` can be named in quotes; the module's own names come first.
    names = {**KNOWN, **(vars(module) if module else {})}
    try:
        return typing.get_type_hints(written, globalns=names, include_extras=True)
    except NameError as error:
        raise DefinitionError(
            f"{written.__name__} names a type that cannot be found: {error}",
            hint="define it at the top of the module, or write a spec with types={...}",
        ) from error


def _field(written: type, name: str, annotation: Any) -> Field:
    given = vars(written).get(name, MISSING)
    mark = given if isinstance(given, Output) else None
    bare, description = _described(annotation)
    default = mark.default if mark else given
    if default is not MISSING:
        failures = validators.of(bare)(default)
        if failures:
            raise DefinitionError(
                f"{written.__name__}.{name}: a default must fit its field: "
                + "; ".join(failure.text for failure in failures)
            )
    return Field(
        name,
        "output" if mark else "input",
        bare,
        type_text(bare),
        mark.description if mark and mark.description is not None else description,
        default,
    )


def _described(annotation: Any) -> tuple[Any, str | None]:
    """Take the description out of ``Annotated[str, "description"]``."""
    if get_origin(annotation) is not Annotated:
        return annotation, None
    bare, *metadata = get_args(annotation)
    texts = [each for each in metadata if isinstance(each, str)]
    rest = [each for each in metadata if not isinstance(each, str)]
    return (Annotated[(bare, *rest)] if rest else bare), texts[0] if texts else None
