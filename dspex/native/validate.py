"""A signature's values, checked: compiled once from its fields, every failure reported at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from dspex.errors import Failure, UnknownNameError, ValuesError, did_you_mean
from dspex.native import validators
from dspex.records import MISSING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dspex.native.signature import Signature
    from dspex.native.validators import Check

Role = Literal["input", "output"]


class Validator:
    """Checks what goes into a signature and what comes out of it; make one with `validator`."""

    def __init__(self, signature: Signature, checks: Mapping[str, Check]) -> None:
        self._name = signature.name
        self._compiled: dict[Role, dict[str, tuple[Check, bool]]] = {"input": {}, "output": {}}
        for field in signature.fields:
            check = validators.of(field.annotation)
            if field.name in checks:
                check = validators.all_of(check, checks[field.name])
            self._compiled[field.role][field.name] = (check, field.default is MISSING)

    def __repr__(self) -> str:
        sides = (", ".join(fields) for fields in self._compiled.values())
        return f"<Validator of {self._name}: {' -> '.join(sides)}>"

    def failures(self, role: Role, given: Mapping[str, Any]) -> tuple[Failure, ...]:
        """Return everything that is wrong with the values of one side."""
        fields = self._compiled[role]
        failures: list[Failure] = []
        for name, (check, required) in fields.items():
            if name not in given:
                if required:
                    failures.append(Failure(f"{role} field '{name}'", "is required"))
                continue
            for failure in check(given[name]):
                failures.append(failure._replace(path=f"{role} field '{name}{failure.path}'"))  # noqa: PERF401  # rare, and a comprehension costs when there are none
        if len(given) > len(fields) or not given.keys() <= fields.keys():
            for name in given:
                if name not in fields:
                    hint = did_you_mean(str(name), fields) or f"known: {', '.join(fields)}"
                    failures.append(Failure(f"{role} field '{name}'", "is not known", hint=hint))
        return tuple(failures)

    def inputs(self, given: Mapping[str, Any]) -> None:
        """Check the inputs.

        Raises
        ------
        ValuesError
            With every failure: missing, unknown or unfit.
        """
        self._check("input", given)

    def outputs(self, given: Mapping[str, Any]) -> None:
        """Check the outputs; raises as `inputs` does."""
        self._check("output", given)

    def _check(self, role: Role, given: Mapping[str, Any]) -> None:
        failures = self.failures(role, given)
        if failures:
            raise ValuesError.of_all(f"{self._name} cannot use these {role}s:", failures)


def validator(signature: Signature, **checks: Check) -> Validator:
    """Compile the checks of a signature's values, with more of your own for some fields.

    Parameters
    ----------
    signature
        The task.
    **checks
        Field name → a check on top of the type's, such as ``validators.where(str.isupper, "capitals")``.

    Raises
    ------
    UnknownNameError
        If a check is for a field that is not there.

    Examples
    --------
    >>> from dspex.native.signature import signature
    >>> validator(signature("age: int, name -> ok: bool")).inputs({"age": "3"})
    Traceback (most recent call last):
        ...
    dspex.errors.ValuesError: Signature cannot use these inputs:
      - input field 'age': expected int, got '3' (str); a text is not read as a number
      - input field 'name': is required
    """
    names = [field.name for field in signature.fields]
    for name in checks:
        if name not in names:
            raise UnknownNameError.among("field", name, names)
    return Validator(signature, checks)
