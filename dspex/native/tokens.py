"""Words: cutting a spec into them, and reading them off one by one."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from dspex.errors import SignatureError

_TOKEN = re.compile(
    r"""\s*(?:(?P<arrow>->)
          |(?P<string>"(?:[^"\\]|\\[\s\S])*"|'(?:[^'\\]|\\[\s\S])*')
          |(?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
          |(?P<name>[A-Za-z_]\w*(?:\.\w+)*)
          |(?P<mark>>=|<=|\.\.|[:,\[\]{}|?()=<>*])
          |(?P<bad>\S))""",
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|([\\\"'ntr]))")
# What would end the text, begin an escape, break the line, or not travel as UTF-8.
_TO_ESCAPE = re.compile(r'["\\\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]')
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r"}
_CONSTANTS = {"True": True, "False": False, "None": None}
_GLUED = {",", "]", ")", "}", "?", "..", "[", "(", ":"}
_SPACED_AFTER = {"in", "len"}


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
                hint="write 'question: str -> answer: float \"what it is about\"'",
            )
        tokens.append(Token(kind, match[kind], match.start(kind)))
    return tokens


def unquoted(text: str) -> str:
    r"""Return what a quoted text says.

    The escapes are ``\n \t \r \\ \" \' \xhh \uhhhh``; any other backslash stands for itself, so that a
    regular expression can be written as one is used to.

    Examples
    --------
    >>> unquoted(r'"say \"hi\" to \d+"')
    'say "hi" to \\d+'
    """

    def said(match: re.Match[str]) -> str:
        if match[3]:
            return _ESCAPED.get(match[3], match[3])
        return chr(int(match[1] or match[2], 16))

    return _ESCAPE.sub(said, text[1:-1])


def quoted(text: str) -> str:
    r"""Write a text so that `unquoted` gives it back.

    Examples
    --------
    >>> quoted('a "b"\n')
    '"a \\"b\\"\\n"'
    """
    return f'"{_TO_ESCAPE.sub(_escape, text)}"'


def _escape(match: re.Match[str]) -> str:
    found = match[0]
    return _ESCAPES.get(found) or (f"\\x{ord(found):02x}" if ord(found) <= 0xFF else f"\\u{ord(found):04x}")  # noqa: PLR2004  # one byte


def written_value(value: Any) -> str:
    """Write a literal as a spec would hold it."""
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, list | tuple):
        inner = ", ".join(map(written_value, value))
        if isinstance(value, list):
            return f"[{inner}]"
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    if isinstance(value, dict):
        pairs = (f"{written_value(key)}: {written_value(each)}" for key, each in value.items())
        return "{" + ", ".join(pairs) + "}"
    return repr(value)


def joined(tokens: list[Token]) -> str:
    """Write words the one way they are always written, whatever the spaces were.

    Examples
    --------
    >>> joined(tokens_of("list [ str|int ]  len 1 .. 5"))
    'list[str | int] len 1..5'
    """
    text, before = "", ""
    for token in tokens:
        tight = token.text in _GLUED and token.kind == "mark" and before not in _SPACED_AFTER
        text += token.text if not text or tight or before in {"[", "(", "{", ".."} else f" {token.text}"
        before = token.text
    return text


@dataclass
class Reader:
    """Takes words off a spec, one after the other."""

    spec: str
    tokens: list[Token] = field(init=False)
    index: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.tokens = tokens_of(self.spec)

    def peek(self) -> Token | None:
        """Look at the next word."""
        return self.tokens[self.index] if self.index < len(self.tokens) else None

    def take(self, text: str | None = None, *, expecting: str | None = None) -> Token:
        """Take the next word; it must be `text` if that is given."""
        token = self.peek()
        if token is None or (text is not None and token.text != text):
            found = f"{token.text!r}" if token else "the end"
            raise self.wrong(token, f"expected {expecting or repr(text)}, found {found}")
        self.index += 1
        return token

    def accept(self, text: str) -> bool:
        """Take the next word if it is `text`."""
        token = self.peek()
        if token is not None and token.kind in {"mark", "arrow"} and token.text == text:
            self.index += 1
            return True
        return False

    def accept_string(self) -> str | None:
        """Take the next word if it is a quoted text, and return what it says."""
        token = self.peek()
        if token is None or token.kind != "string":
            return None
        self.index += 1
        return unquoted(token.text)

    def wrong(self, token: Token | None, message: str, *, hint: str | None = None) -> SignatureError:
        """Make an error with a caret under a word, or under the end."""
        return SignatureError.at(self.spec, token.position if token else len(self.spec), message, hint=hint)

    def read_number(self) -> float:
        """Read a number."""
        token = self.peek()
        if token is None or token.kind != "number":
            found = f"{token.text!r}" if token else "the end"
            raise self.wrong(token, f"expected a number, found {found}")
        self.index += 1
        return self._number(token)

    def read_scalar(self, otherwise: str, *, hint: str | None = None) -> Any:
        """Read a quoted text, a number, True, False or None; `otherwise` says what was expected."""
        token = self.take(expecting="a value")
        if token.kind == "string":
            return unquoted(token.text)
        if token.kind == "number":
            return self._number(token)
        if token.text in _CONSTANTS:
            return _CONSTANTS[token.text]
        if token.kind == "name":
            hint = f'did you mean "{token.text}" in quotes?'
        raise self.wrong(token, f"{otherwise}, found {token.text}", hint=hint)

    def read_value(self) -> Any:
        """Read a literal: a scalar, ``[...]``, ``(...)`` or ``{key: value}``."""
        if self.accept("["):
            return self._until("]", self.read_value)
        if self.accept("("):
            return tuple(self._until(")", self.read_value))
        if self.accept("{"):
            return dict(self._until("}", self._pair))
        token = self.peek()
        hint = None
        if token is not None and token.text in {"<", ">"}:
            hint = f"did you mean '{token.text}='?"
        return self.read_scalar(
            "a default is a quoted text, a number, True, False, None, [...] or {...}", hint=hint
        )

    def _pair(self) -> tuple[Any, Any]:
        key = self.read_scalar("a key is a quoted text, a number, True, False or None")
        self.take(":")
        return key, self.read_value()

    def _until(self, end: str, read: Any) -> list[Any]:
        values: list[Any] = []
        while not self.accept(end):
            values.append(read())
            if not self.accept(","):
                self.take(end)
                break
        return values

    def _number(self, token: Token) -> float:
        number = int(token.text) if token.text.lstrip("-").isdigit() else float(token.text)
        if not math.isfinite(number):
            raise self.wrong(token, f"{token.text} is too large a number")
        return number
