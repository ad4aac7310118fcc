"""Variables and objects as JSON, and back: what can be imported is written as where it is."""

from __future__ import annotations

import importlib
import json
import operator
from typing import TYPE_CHECKING, Any

from dspex.errors import UnknownNameError, VariableError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dspex.variables.protocol import Variable

_IMPORTED = "import"
_VALUE = "value"


def variable(spec: Mapping[str, Any]) -> Variable:
    """Make a variable from what its `to_dict` said.

    Raises
    ------
    VariableError
        If the kind is unknown, or what it says makes no sense.
    """
    kinds = known_kinds()
    arguments = dict(spec)
    kind = arguments.pop("kind", None)
    if kind not in kinds:
        raise UnknownNameError.among("kind of variable", kind, kinds)
    try:
        made: Variable = kinds[kind].from_dict(arguments)
    except TypeError as error:
        raise VariableError(f"a {kind} cannot be made of {arguments}: {error}") from error
    return made


def known_kinds() -> dict[str, Any]:
    """Return the classes of all kinds by name."""
    from dspex.variables import base
    from dspex.variables.online import Online

    classes = (*(getattr(base, name) for name in base.__all__), Online)
    return {each.kind: each for each in classes if getattr(each, "kind", "")}


def written(value: Any, what: str) -> dict[str, Any]:
    """Write an object as JSON: itself, or the place from which it is imported.

    Raises
    ------
    VariableError
        If it is neither JSON nor importable.
    """
    place = reference(value)
    if place is not None:
        return {_IMPORTED: place}
    try:
        if json.loads(json.dumps(value)) == value:
            return {_VALUE: value}
    except (TypeError, ValueError):
        pass
    raise VariableError(
        f"{what} cannot be written as JSON: {value!r} is neither plain data nor importable",
        hint="define it at the top of a module, or give it by its name or import string",
    )


def read(spec: Mapping[str, Any]) -> Any:
    """Return the object that `written` wrote.

    Raises
    ------
    VariableError
        If it cannot be imported.
    """
    if _IMPORTED not in spec:
        return spec[_VALUE]
    module, _, name = spec[_IMPORTED].partition(":")
    try:
        return operator.attrgetter(name)(importlib.import_module(module))
    except (ImportError, AttributeError) as error:
        raise VariableError(f"cannot import {spec[_IMPORTED]!r}: {error}") from error


def reference(value: Any) -> str | None:
    """Return the import string of a class or function that can be imported, or None."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not (isinstance(module, str) and isinstance(name, str)) or module == "__main__":
        return None
    try:
        found = operator.attrgetter(name)(importlib.import_module(module))
    except (ImportError, AttributeError):
        return None
    return f"{module}:{name}" if found is value else None
