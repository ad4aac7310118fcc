"""The types that a signature may name, and the parser that reads them."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional, Union

import annotated_types

from dspex.errors import did_you_mean
from dspex.native import constraints
from dspex.native.shapes import Shape
from dspex.native.tokens import Reader, Token

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dspex.errors import SignatureError

_UNIT_INTERVAL = Annotated[float, annotated_types.Ge(0), annotated_types.Le(1)]
_NOT_NEGATIVE = Annotated[float, annotated_types.Ge(0)]

KNOWN: dict[str, Any] = {
    "Any": Any,
    "None": None,
    "bool": bool,
    "bytes": bytes,
    "confidence": _UNIT_INTERVAL,
    "cost": _NOT_NEGATIVE,
    "date": dt.date,
    "datetime": dt.datetime,
    "dict": dict,
    "float": float,
    "int": int,
    "latency": _NOT_NEGATIVE,
    "list": list,
    "probability": _UNIT_INTERVAL,
    "set": set,
    "str": str,
    "temperature": Annotated[float, annotated_types.Ge(0), annotated_types.Le(2)],
    "token_count": Annotated[int, annotated_types.Ge(0)],
    "tuple": tuple,
}
_GENERIC = {"dict": 2, "list": 1, "set": 1, "tuple": None}
_SPECIAL = ("Literal", "Optional", "Union")
_SHAPED = ("embedding", "tensor")


@dataclass
class TypeReader(Reader):
    """Reads types off a spec.

    Attributes
    ----------
    names
        Types that the caller brings along, such as pydantic models, by name.
    """

    names: Mapping[str, Any] = field(default_factory=dict)

    def read(self) -> Any:
        """Read one type: ``list[str] | None``, ``Literal["a", "b"]``, ``float?``."""
        options = [self._single()]
        while self.accept("|"):
            options.append(self._single())
        if self.accept("?"):
            options.append(None)
        return options[0] if len(options) == 1 else Union[tuple(options)]  # noqa: UP007  # built, not written

    def _single(self) -> Any:
        token = self.take(expecting="a type")
        if token.kind != "name":
            raise self.wrong(token, f"expected a type, found {token.text!r}")
        if token.text in _SPECIAL:
            return self._special(token)
        if token.text in _SHAPED and token.text not in self.names:
            return self._shaped(token)
        found = self.names.get(token.text, KNOWN.get(token.text, token))
        if found is token:
            raise self._unknown(token)
        if token.text in _GENERIC and self.accept("["):
            return self._generic(token, found)
        return found

    def _generic(self, token: Token, origin: Any) -> Any:
        arguments = self._arguments(self._item)
        wanted = _GENERIC[token.text]
        if wanted is not None and len(arguments) != wanted:
            raise self.wrong(token, f"{token.text}[...] takes {wanted} type(s), got {len(arguments)}")
        return origin[tuple(arguments) if len(arguments) > 1 else arguments[0]]

    def _item(self) -> Any:
        """Read what stands within the brackets of a collection: a type, which may have constraints."""
        return constraints.constrained(self, self.read())

    def _special(self, token: Token) -> Any:
        self.take("[")
        if token.text == "Literal":
            return Literal[tuple(self._arguments(self._value))]
        arguments = self._arguments(self.read)
        if token.text == "Optional":
            if len(arguments) != 1:
                raise self.wrong(token, f"Optional[...] takes 1 type(s), got {len(arguments)}")
            return Optional[arguments[0]]  # noqa: UP045  # built, not written
        return Union[tuple(arguments)]  # noqa: UP007  # built, not written

    def _arguments(self, read: Any) -> list[Any]:
        arguments = [read()]
        while self.accept(","):
            arguments.append(read())
        self.take("]")
        return arguments

    def _value(self) -> Any:
        return self.read_scalar("Literal[...] takes quoted strings, numbers, True, False or None")

    def _shaped(self, token: Token) -> Any:
        """Read what stands after ``embedding`` or ``tensor``: sizes, and maybe the kind of number."""
        example = f"for example {'embedding(1536)' if token.text == 'embedding' else 'tensor(3, 4)'}"
        if not self.accept("("):
            raise self.wrong(token, f"{token.text} needs its sizes", hint=example)
        sizes: list[int | None] = []
        dtype: Literal["float", "int"] = "float"
        while not self.accept(")"):
            at = self.take(expecting="a size")
            if at.text in {"int", "float"} and sizes:
                dtype = "int" if at.text == "int" else "float"
                self.take(")")
                break
            if at.text != "*" and not (at.text.isdigit() and int(at.text) > 0):
                raise self.wrong(
                    at, f"a size is a whole number >= 1, or * for any, found {at.text!r}", hint=example
                )
            sizes.append(None if at.text == "*" else int(at.text))
            if not self.accept(","):
                self.take(")")
                break
        if not sizes or (token.text == "embedding" and (len(sizes) > 1 or dtype != "float")):
            raise self.wrong(token, f"{token.text} takes {'1 size' if sizes else 'a size'}", hint=example)
        shape = Shape(tuple(sizes), dtype)
        return Annotated[shape.annotation, shape]

    def _unknown(self, token: Token) -> SignatureError:
        known = [*KNOWN, *_SPECIAL, *_SHAPED, *self.names]
        return self.wrong(
            token,
            f"unknown type {token.text!r}; known: {', '.join(sorted(known))}",
            hint=did_you_mean(token.text, known) or f"bring your own: types={{{token.text!r}: {token.text}}}",
        )
