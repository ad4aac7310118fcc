"""Quick copies of programs: what a run may change is copied, what nobody changes is shared.

`dspy.Module.deepcopy` walks through everything a program holds by way of pickling's protocol. A program is
mostly modules, whose parts are known, so this walks those by hand and leaves the rest to `copy.deepcopy`.
"""

from __future__ import annotations

import copy
import types
from typing import Any

import dspy

_SHARED = frozenset(
    {
        type(None),
        bool,
        int,
        float,
        complex,
        str,
        bytes,
        dspy.Example,  # a demo is replaced, never written to
        types.BuiltinFunctionType,
        types.FunctionType,
        types.ModuleType,
    }
)
_FRESH = ("callbacks", "history")
"""What DSPy's own copies begin anew."""


class Copies(dict[int, Any]):
    """What was copied so far, by the original's identity, as `copy.deepcopy` keeps it.

    Attributes
    ----------
    shared
        What no copy could be made of, by identity: the copy holds the very same object.
    """

    def __init__(self) -> None:
        super().__init__()
        self.shared: dict[int, Any] = {}


def copied(program: dspy.Module, copies: Copies | None = None) -> dspy.Module:
    """Return a copy that runs as the program does, and shares nothing with it that either may change.

    Signatures and demos are shared, as they are values; lists of demos, models' settings and everything
    else a module holds are not.
    """
    return _copied(program, Copies() if copies is None else copies)


def _copied(value: Any, copies: Copies) -> Any:
    # By the type alone: `isinstance` asks a module for its class, which DSPy's `__getattribute__` makes slow.
    kind = type(value)
    if kind in _SHARED or issubclass(kind, type):
        return value
    known = copies.get(id(value))
    if known is not None:
        return known
    if kind is list or kind is dict or kind is tuple:
        return _container(value, copies)
    if issubclass(kind, dspy.Module) and _is_ordinary(kind):
        return _module(value, copies)
    if issubclass(kind, dspy.BaseLM):
        copies[id(value)] = made = value.copy()
        return made
    return _deeply(value, copies)


def _container(value: Any, copies: Copies) -> Any:
    if isinstance(value, tuple):
        return tuple([_copied(each, copies) for each in value])
    # Known before it is filled: it may hold itself.
    made = copies[id(value)] = type(value)()
    if isinstance(made, list):
        made.extend([_copied(each, copies) for each in value])
    else:
        made.update({key: _copied(each, copies) for key, each in value.items()})
    return made


def _module(module: dspy.Module, copies: Copies) -> dspy.Module:
    made = object.__new__(type(module))
    copies[id(module)] = made
    own = contents(made)
    for name, value in contents(module).items():
        own[name] = [] if name in _FRESH else _copied(value, copies)
    return made


def contents(module: Any) -> dict[str, Any]:
    """Return what a module holds, as `vars` does, but past DSPy's `__getattribute__`."""
    found: dict[str, Any] = object.__getattribute__(module, "__dict__")
    return found


def _is_ordinary(kind: type) -> bool:
    """Whether a class of modules leaves copying to DSPy."""
    return kind.__getstate__ is dspy.Module.__getstate__ and not hasattr(kind, "__deepcopy__")


def _deeply(value: Any, copies: Copies) -> Any:
    attempt = dict(copies)
    try:
        made = copy.deepcopy(value, attempt)
    except Exception:  # noqa: BLE001  # locks, clients, connections: DSPy shares what it cannot copy, too
        return _shallowly(value, copies)
    copies.update(attempt)
    return made


def _shallowly(value: Any, copies: Copies) -> Any:
    try:
        made = copy.copy(value)
    except Exception:  # noqa: BLE001  # as above
        made = value
    if made is value:
        copies.shared[id(value)] = value
    copies[id(value)] = made
    return made
