"""The types that a signature may name, and the parser that reads them."""

from __future__ import annotations

import ast
import datetime as dt
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Optional, Union

import annotated_types

from dspex.errors import SignatureError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

_UNIT_INTERVAL = Annotated[float, annotated_types.Ge(0), annotated_types.Le(1)]

KNOWN: dict[str, Any] = {
    "Any": Any,
    "None": None,
    "bool": bool,
    "bytes": bytes,
    "confidence": _UNIT_INTERVAL,
    "date": dt.date,
    "datetime": dt.datetime,
    "dict": dict,
    "float": float,
    "int": int,
    "list": list,
    "probability": _UNIT_INTERVAL,
    "set": set,
    "str": str,
    "tuple": tuple,
}
_GENERIC = {"dict": 2, "list": 1, "set": 1, "tuple": None}
_SPECIAL = ("Literal", "Optional", "Union")

_TOKEN = re.compile(
    r"""\s*(?:(?P<arrow>->)
          |(?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
          |(?P<number>-?\d+(?:\.\d+)?)
          |(?P<name>[A-Za-z_][\w.]*)
          |(?P<mark>[:,\[\]|?()])
          |(?P<bad>\S))""",
    re.VERBOSE,
)


class Token(NamedTuple):
    """One word of a spec and where it stands."""

    kind: str
    text: str
    position: int


def tokens_of(spec: str) -> list[Token]:
    """Cut a spec into words; a character that belongs to none is an error under a caret."""
    tokens: list[Token] = []
    for match in _TOKEN.finditer(spec):
        kind = match.lastgroup
        if kind is None:
            continue
        if kind == "bad":
            raise SignatureError.at(
                spec,
                match.start("bad"),
                f"a signature cannot hold {match['bad']!r} here",
                hint="write 'question: str -> answer: float'; describe fields with descriptions={...}",
            )
        tokens.append(Token(kind, match[kind], match.start(kind)))
    return tokens


@dataclass
class TypeReader:
    """Reads types off a list of tokens.

    Attributes
    ----------
    names
        Types that the caller brings along, such as pydantic models, by name.
    """

    spec: str
    tokens: list[Token]
    names: Mapping[str, Any]
    index: int = 0

    def peek(self) -> Token | None:
        """Look at the next word."""
        return self.tokens[self.index] if self.index < len(self.tokens) else None

    def take(self, text: str | None = None, *, expecting: str | None = None) -> Token:
        """Take the next word; it must be `text` if that is given."""
        token = self.peek()
        if token is None or (text is not None and token.text != text):
            what = expecting or repr(text)
            found = f"{token.text!r}" if token else "the end"
            position = token.position if token else len(self.spec)
            raise SignatureError.at(self.spec, position, f"expected {what}, found {found}")
        self.index += 1
        return token

    def accept(self, text: str) -> bool:
        """Take the next word if it is `text`."""
        token = self.peek()
        if token is not None and token.kind in {"mark", "arrow"} and token.text == text:
            self.index += 1
            return True
        return False

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
            raise SignatureError.at(self.spec, token.position, f"expected a type, found {token.text!r}")
        if token.text in _SPECIAL:
            return self._special(token)
        found = self.names.get(token.text, KNOWN.get(token.text, token))
        if found is token:
            raise self._unknown(token)
        if token.text in _GENERIC and self.accept("["):
            return self._generic(token, found)
        return found

    def _generic(self, token: Token, origin: Any) -> Any:
        arguments = self._arguments(self.read)
        wanted = _GENERIC[token.text]
        if wanted is not None and len(arguments) != wanted:
            raise SignatureError.at(
                self.spec, token.position, f"{token.text}[...] takes {wanted} type(s), got {len(arguments)}"
            )
        return origin[tuple(arguments) if len(arguments) > 1 else arguments[0]]

    def _special(self, token: Token) -> Any:
        self.take("[")
        if token.text == "Literal":
            return Literal[tuple(self._arguments(self._value))]
        arguments = self._arguments(self.read)
        if token.text == "Optional":
            if len(arguments) != 1:
                raise SignatureError.at(
                    self.spec, token.position, f"Optional[...] takes 1 type(s), got {len(arguments)}"
                )
            return Optional[arguments[0]]  # noqa: UP045  # built, not written
        return Union[tuple(arguments)]  # noqa: UP007  # built, not written

    def _arguments(self, read: Any) -> list[Any]:
        arguments = [read()]
        while self.accept(","):
            arguments.append(read())
        self.take("]")
        return arguments

    def _value(self) -> Any:
        token = self.take(expecting="a value")
        if token.kind == "string":
            return ast.literal_eval(token.text)
        if token.kind == "number":
            return float(token.text) if "." in token.text else int(token.text)
        if token.text in {"True", "False", "None"}:
            return {"True": True, "False": False, "None": None}[token.text]
        raise SignatureError.at(
            self.spec,
            token.position,
            f"Literal[...] takes quoted strings, numbers, True, False or None, found {token.text}",
            hint=f'did you mean "{token.text}" in quotes?',
        )

    def _unknown(self, token: Token) -> SignatureError:
        known = [*KNOWN, *_SPECIAL, *self.names]
        return SignatureError.at(
            self.spec,
            token.position,
            f"unknown type {token.text!r}; known: {', '.join(sorted(known))}",
            hint=did_you_mean(token.text, known) or f"bring your own: types={{{token.text!r}: {token.text}}}",
        )
