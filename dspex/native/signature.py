"""Signatures: what goes in, what comes out, and how it should be done."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dspex.errors import DefinitionError, UnknownNameError, ValuesError, did_you_mean
from dspex.native import spec as specs
from dspex.native.written import type_text
from dspex.records import MISSING, Field

if TYPE_CHECKING:
    from collections.abc import Mapping

    import dspy

    from dspex.native.validate import Validator


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
        text = f"{self.outline}\n{self.instructions}\n{[field.description for field in self.fields]}"
        return hashlib.blake2b(text.encode("utf-8", "backslashreplace"), digest_size=8).hexdigest()

    @property
    def outline(self) -> str:
        """The spec without descriptions, as tables and logs show it."""
        return specs.written(self.fields, descriptions=False)

    def __str__(self) -> str:
        return specs.written(self.fields)

    def __repr__(self) -> str:
        return f"<{self.name}: {self.outline}>"

    # ── other signatures made of it ─────────────────────────────────────────────────────────────

    def with_instructions(self, instructions: str) -> Signature:
        """Return the same signature under other instructions."""
        return self._changed(self.fields, instructions)

    def extend(self, spec: str = "", *, types: Mapping[str, Any] | None = None, **outputs: str) -> Signature:
        """Return it with more fields.

        Parameters
        ----------
        spec
            ``"context -> confidence: probability"``; either side may be empty.
        types
            Your own types by the name the spec uses.
        **outputs
            Further outputs, each with its type as a spec would write it.

        Examples
        --------
        >>> signature("question -> answer").extend("context ->", confidence="probability")
        <Signature: question, context -> answer, confidence: probability>
        """
        names = [field.name for field in self.fields]
        added = list(specs.read_fields(spec, types or {}, taken=names, whole=False)) if spec else []
        for name, text in outputs.items():
            taken = [*names, *(field.name for field in added)]
            added += specs.read_fields(f"-> {name}: {text}", types or {}, taken=taken, whole=False)
        # Inputs stand before outputs, as they do in DSPy.
        return self._changed(tuple(sorted((*self.fields, *added), key=lambda field: field.role)))

    def without(self, name: str) -> Signature:
        """Return it without a field.

        Raises
        ------
        UnknownNameError
            If there is no such field.
        DefinitionError
            If it is the last input or the last output.
        """
        names = [field.name for field in self.fields]
        if name not in names:
            raise UnknownNameError.among("field", name, names)
        role = self.fields[names.index(name)].role
        rest = tuple(field for field in self.fields if field.name != name)
        if not any(field.role == role for field in rest):
            raise DefinitionError(f"{name!r} is the last {role} of {self.name}; a signature needs one")
        return self._changed(rest)

    def _changed(self, fields: tuple[Field, ...], instructions: str | None = None) -> Signature:
        if instructions is None:
            stock = self.instructions == specs.default_instructions(self.fields)
            instructions = specs.default_instructions(fields) if stock else self.instructions
        changed = replace(self, fields=fields, instructions=instructions)
        own = self.__dict__.get("_own_class")
        if own is not None:
            from dspex.bridge import signatures

            changed._keep(  # noqa: SLF001  # one of us
                signatures.derived(own, self.name, instructions, fields, unchanged=self.fields)
            )
        return changed

    def compatible_with(self, other: Signature) -> None:
        """Check that what this task puts out can go into another.

        Raises
        ------
        DefinitionError
            Naming every input of `other` that is missing here or whose type does not fit.

        Examples
        --------
        >>> first = signature("question -> answer: int, confidence: probability")
        >>> first.compatible_with(signature("answer: float, confidence: float -> verdict"))
        """
        from dspex.native.fitting import fits

        made = {field.name: field for field in self.fields if field.role == "output"}
        problems = []
        for wanted in other.fields:
            if wanted.role != "input":
                continue
            found = made.get(wanted.name)
            if found is None and wanted.default is MISSING:
                problems.append(f"{wanted.name}: {other.name} needs it, {self.name} has no such output")
            elif found is not None and not fits(found.annotation, wanted.annotation):
                problems.append(
                    f"{wanted.name}: {self.name} makes {found.type_text}, {other.name} takes {wanted.type_text}"
                )
        if problems:
            raise DefinitionError(
                "\n".join(
                    [f"{self.name} cannot feed {other.name}:", *(f"  - {problem}" for problem in problems)]
                ),
                hint=f"the outputs are {', '.join(self.outputs)}",
            )

    def __getstate__(self) -> dict[str, Any]:
        # DSPy's class is made anew where it is needed; a dynamic one cannot be pickled.
        made = ("_dspy_class", "_own_class", "_validator")
        return {key: value for key, value in self.__dict__.items() if key not in made}

    # ── DSPy ────────────────────────────────────────────────────────────────────────────────────

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

        name, instructions, fields = signatures.from_class(signature_class, type_text)
        made = cls(fields, instructions, name)
        made._keep(signature_class)
        return made

    def _keep(self, signature_class: type[dspy.Signature]) -> None:
        """Keep the user's own class: it may carry more than our record does, such as default factories."""
        self.__dict__["_own_class"] = self.__dict__["_dspy_class"] = signature_class

    # ── values ──────────────────────────────────────────────────────────────────────────────────

    @functools.cached_property
    def _validator(self) -> Validator:
        from dspex.native.validate import validator

        return validator(self)

    def validate_inputs(self, given: Mapping[str, Any]) -> None:
        """Check the inputs; a `ValuesError` says everything that is wrong with them."""
        self._validator.inputs(given)

    def validate_outputs(self, given: Mapping[str, Any]) -> None:
        """Check the outputs; a `ValuesError` says everything that is wrong with them."""
        self._validator.outputs(given)

    def check_inputs(self, given: Mapping[str, Any]) -> None:
        """Check what a call was given, before anything runs.

        As in DSPy, None stands for what is not known and passes for every type, and a field of plain text
        takes any value: DSPy writes a list as numbered passages.

        Raises
        ------
        DefinitionError
            If a required input is missing (all are listed) or one is not a field.
        ValuesError
            If a value does not fit its field; all that do not are named.
        """
        failures = self._validator.failures("input", given)
        if not failures:
            return
        missing = [
            field.name
            for field in self.fields
            if field.role == "input" and field.default is MISSING and field.name not in given
        ]
        if missing:
            raise DefinitionError(
                f"{self.name} needs the input(s) {', '.join(missing)}; got {', '.join(given) or 'none'}",
                hint=f"call it with {', '.join(f'{name}=...' for name in self.inputs)}",
            )
        for name in given:
            if name not in self.inputs:
                hint = (
                    did_you_mean(name, self.inputs)
                    or "how a task runs is said by pin=dx.Strategy(model, module)"
                )
                raise UnknownNameError.among(f"input of {self.name}", name, self.inputs, hint=hint)
        plain = {field.name for field in self.fields if field.annotation is str}
        known = {name: value for name, value in given.items() if value is not None and name not in plain}
        unfit = [each for each in self._validator.failures("input", known) if each.actual is not None]
        if unfit:
            raise ValuesError.of_all(f"{self.name} cannot use these inputs:", unfit)

    def broken_constraints(self, answered: Mapping[str, Any]) -> str | None:
        """Say which outputs break a constraint of theirs, or None. DSPy shows constraints to models only."""
        constrained = {
            field.name: answered[field.name]
            for field in self.fields
            if field.role == "output" and hasattr(field.annotation, "__metadata__") and field.name in answered
        }
        failures = self._validator.failures("output", constrained) if constrained else ()
        return "; ".join(each.text for each in failures if each.actual is not None) or None


def signature(
    spec: str | Signature | type,
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
        (``Literal["bug", "question"]``); constraints (``int >= 0``), a default (``= 3``) and a
        description in quotes may follow. `dspex.native.spec` has the whole grammar.
        A `dspy.Signature` class is taken as it is; of any other class, annotations are the fields
        (see `output`), so that ``@dx.signature`` above one makes it a signature.
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
        read = _read(spec)
        if name is not None:
            read = replace(read, name=name)
        return read if instructions is None else read.with_instructions(instructions)
    fields, sentence = specs.parse(spec, types or {}, descriptions or {})
    return Signature(fields, sentence if instructions is None else instructions, name or "Signature")


def _read(given: Any) -> Signature:
    """Read what is no text: a signature, a plain class, or a class of DSPy's."""
    if isinstance(given, Signature):
        return given
    from dspex.native import classes

    if classes.is_written(given):
        name, instructions, fields = classes.read_class(given)
        sentence = specs.default_instructions(fields) if instructions is None else instructions
        return Signature(fields, sentence, name)
    return Signature.from_dspy(given)
