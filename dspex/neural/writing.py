"""Writing: one answer as it grows, token by token, into text that can be shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dspex.records import Completion, Usage

if TYPE_CHECKING:
    from dspex.records import Prompt

_UNFINISHED = "\N{REPLACEMENT CHARACTER}"
"""What a tokenizer gives for the first bytes of a character whose last ones are still to come."""


class Answer:
    """One answer that is being written.

    Parameters
    ----------
    decode
        Turns tokens into text.
    ends
        Tokens that end an answer.
    stops
        Texts before which it ends.
    """

    def __init__(
        self,
        prompt: Prompt,
        decode: Any,
        *,
        n_prompt: int,
        room: int,
        ends: frozenset[int],
        stops: tuple[str, ...],
    ) -> None:
        self.prompt = prompt
        self.text = ""
        self.tokens: list[int] = []
        self.is_over = False
        self.finish_reason: Any = "length"
        self._decode = decode
        self._n_prompt = n_prompt
        self._room = room
        self._ends = ends
        self._stops = stops
        self._from = 0
        """The first token of the last piece, before which text no longer changes …"""
        self._to = 0
        """… and the first that is not in `text` yet."""
        self._given = 0

    def add(self, token: int) -> None:
        """Take the next token."""
        self.tokens.append(token)
        if token in self._ends:
            self._end("stop")
            return
        self._read()
        found = [at for stop in self._stops if (at := self.text.find(stop)) >= 0]
        if found:
            self.text = self.text[: min(found)]
            self._end("stop")
        elif len(self.tokens) >= self._room:
            self._end("length")

    def _read(self) -> None:
        """Decode what is new. A tokenizer writes some tokens differently after others, so the last piece goes along."""
        before = self._decode(self.tokens[self._from : self._to])
        text = self._decode(self.tokens[self._from :])
        if len(text) > len(before) and not text.endswith(_UNFINISHED):
            self.text += text[len(before) :]
            self._from, self._to = self._to, len(self.tokens)

    def _end(self, reason: str) -> None:
        self.is_over, self.finish_reason = True, reason

    def piece(self) -> str:
        """Return what is new and sure: an end that may become a stop is held back until it is known."""
        sure = len(self.text) if self.is_over else len(self.text) - self._suspicious()
        piece = self.text[self._given : sure]
        self._given = max(self._given, sure)
        return piece

    def _suspicious(self) -> int:
        """Count how much of the end could be the beginning of a stop."""
        return max(
            (k for stop in self._stops for k in range(1, len(stop)) if self.text.endswith(stop[:k])),
            default=0,
        )

    def completion(self) -> Completion:
        """Return the whole."""
        usage = Usage(calls=1, tokens_in=self._n_prompt, tokens_out=len(self.tokens))
        return Completion(self.text, usage, self.finish_reason)
