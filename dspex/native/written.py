"""Types as text: what a spec would call them."""

from __future__ import annotations

from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from dspex.native import constraints
from dspex.native.shapes import Shape
from dspex.native.tokens import written_value
from dspex.native.types import KNOWN

_NAMED = ("probability", "temperature")


def type_text(annotation: Any) -> str:
    """Write a type as a spec would.

    Examples
    --------
    >>> type_text(dict[str, list[int]]), type_text(KNOWN["probability"]), type_text(str | None)
    ('dict[str, list[int]]', 'probability', 'str | None')
    """
    for name in _NAMED:
        if annotation == KNOWN[name]:
            return name
    bare, metadata = constraints.split(annotation)
    for each in metadata:
        if isinstance(each, Shape):
            return str(each)
    return f"{_bare_text(bare)} {constraints.written(metadata)}".rstrip()


def _bare_text(bare: Any) -> str:
    if bare is None or bare is NoneType:
        return "None"
    origin, arguments = get_origin(bare), get_args(bare)
    if origin in (Union, UnionType):
        return " | ".join(map(type_text, arguments))
    if origin is Literal:
        return f"Literal[{', '.join(map(_option, arguments))}]"
    if origin is not None and arguments:
        inner = ", ".join("..." if each is Ellipsis else type_text(each) for each in arguments)
        return f"{getattr(origin, '__name__', origin)}[{inner}]"
    return bare.__name__ if isinstance(bare, type) else str(bare).removeprefix("typing.")


def _option(value: Any) -> str:
    # Python's own quotes, which is how DSPy and every reader of a type has seen them.
    return repr(value) if isinstance(value, str) and "\\" not in repr(value) else written_value(value)
