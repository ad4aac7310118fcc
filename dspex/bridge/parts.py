"""Where things are in a program: its modules by address, and what of them can be bound."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import dspy

from dspex.bridge.bound import REMEMBERED
from dspex.bridge.copying import contents

if TYPE_CHECKING:
    from collections.abc import Iterator

LM_SETTINGS = (
    "frequency_penalty",
    "max_tokens",
    "min_p",
    "n",
    "presence_penalty",
    "reasoning_effort",
    "seed",
    "stop",
    "temperature",
    "top_k",
    "top_p",
)
"""Variables that set a parameter of predictors' models, unless the program has an attribute of that name."""

BINDABLE = (
    "adapter",
    "demos",
    "instructions",
    "max_tokens",
    "model",
    "module",
    "temperature",
    "top_p",
)
"""Variables that every DSPy program understands."""

SWAPPABLE = (dspy.Predict, dspy.ChainOfThought)
"""Modules that stand for any way to solve a signature, and can be swapped for another."""

_PLAIN = (type(None), bool, int, float, str)
_OF_MODULES = frozenset({"callbacks", "history", REMEMBERED})
_OF_PREDICTORS = _OF_MODULES | {"config", "demos", "fields", "lm", "signature", "traces", "train"}
"""What DSPy and we keep on a module, in which no other module is."""

_NAME = re.compile(r"(?:(?P<where>.+)\.)?(?P<what>[^.\[\]]+)$", re.DOTALL)
_STEP = re.compile(r"""\.?(?P<name>[^.\[\]]+)|\[(?P<index>\d+)\]|\['(?P<key>[^']*)'\]""")


class Part(NamedTuple):
    """A module within a program, and the place it stands in."""

    module: Any
    holder: Any = None
    """A module, list, tuple or dict; None for the program itself."""
    key: Any = None


class Address(NamedTuple):
    """A variable's name in two: which part it is of ('' for the whole program), and what of it it sets."""

    where: str
    what: str

    @classmethod
    @functools.lru_cache(maxsize=1024)
    def of(cls, name: str) -> Address:
        """Read a name such as ``plan.temperature``, ``tools[0].instructions`` or ``*.temperature``."""
        match = _NAME.match(name)
        return cls("", name) if match is None else cls(match["where"] or "", match["what"])

    @property
    def rank(self) -> tuple[int, int]:
        """How particular it is: what is shared comes before a pattern, and that before one part."""
        return (0, 0) if not self.where else (1, 0) if "*" in self.where else (2, len(self.where))


class Parts(dict[str, Part]):
    """A program's modules by address, the program itself as ''.

    Addresses are DSPy's: ``plan``, ``plan.predict``, ``tools[0]``, ``routes['de']``. What was compiled and
    frozen is left out, as DSPy's own `named_parameters` does.
    """

    def __init__(self, program: dspy.Module) -> None:
        super().__init__({"": Part(program)})
        self._leaves: list[str] | None = None
        seen = {id(program)}
        pending = [("", program)]
        while pending:
            path, module = pending.pop(0)
            for address, part in _held(module, f"{path}." if path else ""):
                if id(part.module) not in seen and not contents(part.module).get("_compiled", False):
                    seen.add(id(part.module))
                    self[address] = part
                    pending.append((address, part.module))

    def matching(self, where: str) -> list[str]:
        """Return the addresses that a name's first part means; a ``*`` stands for anything."""
        if "*" not in where:
            return [where] if where in self else []
        pattern = re.compile(".*".join(map(re.escape, where.split("*"))), re.DOTALL)
        return [address for address in self if address and pattern.fullmatch(address)]

    def predictors(self, where: str) -> list[str]:
        """Return the addresses of the predictors at, and within, one address."""
        if self._leaves is None:
            self._leaves = [
                address for address, part in self.items() if issubclass(type(part.module), dspy.Predict)
            ]
        return [address for address in self._leaves if _is_within(address, where)] if where else self._leaves

    def swappable(self) -> list[str]:
        """Return the outermost modules that may be swapped; what DSPy's own modules are made of is theirs."""
        found: list[str] = []
        closed: list[str] = []
        for address, part in self.items():
            if any(_is_within(address, each) for each in closed):
                continue
            is_swappable = issubclass(type(part.module), SWAPPABLE)
            if is_swappable:
                found.append(address)
            if is_swappable or _is_dspys(part.module):
                closed.append(address)
        return found

    def units(self) -> list[str]:
        """Return the addresses that users think of: their own modules and, closed, those of DSPy's."""
        found: list[str] = []
        for address in self:
            closed = [each for each in ["", *found] if _is_dspys(self[each].module)]
            if address and not any(_is_within(address, each) for each in closed):
                found.append(address)
        return found

    def bindable(self) -> list[str]:
        """Return the names of everything that can be bound: for all at once, and for one part alone."""
        shared = [name for name in BINDABLE if name != "module" or self.swappable()]
        names = [*shared, *own_names(self[""].module)]
        for address in self.units():
            part = self[address].module
            known = [name for name in BINDABLE if name != "module" or isinstance(part, SWAPPABLE)]
            if not self.predictors(address):
                known = []
            names += [f"{address}.{name}" for name in (*known, *own_names(part))]
        return names


def own_names(module: Any) -> list[str]:
    """Return the numbers, texts and truth values that an object holds of its own, or one object further on."""
    if isinstance(module, SWAPPABLE):
        return []
    names = [name for name, _ in _own(module) if name not in BINDABLE]
    for name, value in vars(module).items():
        if _is_plain_object(name, value):
            names += [f"{name}.{inner}" for inner, _ in _own(value)]
    return names


def _own(holder: Any) -> Iterator[tuple[str, Any]]:
    for name, value in vars(holder).items():
        if not name.startswith("_") and isinstance(value, _PLAIN) and value is not None:
            yield name, value


def _is_plain_object(name: str, value: Any) -> bool:
    return (
        not name.startswith("_")
        and name not in {REMEMBERED, "lm", "signature"}
        and hasattr(value, "__dict__")
        and not isinstance(value, (type, dspy.Module, dspy.BaseLM, dspy.Example))
        and not callable(value)
    )


def holder_of(root: Any, path: str) -> Any:
    """Return the object at a path of attributes, indices and keys.

    Raises
    ------
    AttributeError, LookupError, TypeError
        If the path leads nowhere.
    """
    position = 0
    while position < len(path):
        step = _STEP.match(path, position)
        if step is None:
            raise LookupError(path)
        if step["name"] is not None:
            root = root[step["name"]] if isinstance(root, dict) else getattr(root, step["name"])
        elif step["index"] is not None:
            root = root[int(step["index"])]
        else:
            root = root[step["key"]]
        position = step.end()
    return root


def has(holder: Any, name: str) -> bool:
    """Whether an object has something of that name that may be set."""
    if isinstance(holder, dict):
        return name in holder
    if name.startswith("_") or not hasattr(holder, name):
        return False
    return not callable(getattr(type(holder), name, None))


def _is_dspys(module: Any) -> bool:
    return type(module).__module__.startswith("dspy.")


def _is_within(address: str, where: str) -> bool:
    return not where or address == where or address.startswith((f"{where}.", f"{where}["))


def _held(module: Any, prefix: str) -> Iterator[tuple[str, Part]]:
    """Return the modules that a module holds, in attributes, lists and dicts, as DSPy looks for them."""
    own = _OF_PREDICTORS if issubclass(type(module), dspy.Predict) else _OF_MODULES
    for name, value in contents(module).items():
        kind = type(value)
        if kind in _PLAIN or name in own:
            continue
        if issubclass(kind, dspy.Module):
            yield f"{prefix}{name}", Part(value, module, name)
        elif issubclass(kind, dict) and value:
            yield from _items(f"{prefix}{name}", [(repr(str(key)), key) for key in value], value)
        elif issubclass(kind, (list, tuple)) and value:
            yield from _items(f"{prefix}{name}", [(str(k), k) for k in range(len(value))], value)


def _items(prefix: str, keys: list[tuple[str, Any]], holder: Any) -> Iterator[tuple[str, Part]]:
    for text, key in keys:
        if issubclass(type(holder[key]), dspy.Module):
            yield f"{prefix}[{text}]", Part(holder[key], holder, key)
