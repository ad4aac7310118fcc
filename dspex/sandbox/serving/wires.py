"""The wires that the server speaks: how each reads a request, and writes a reply, a stream and an error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from dspex.sandbox.serving import replies
from dspex.sandbox.serving.requests import read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from dspex.sandbox.serving.answers import Answer
    from dspex.sandbox.serving.requests import ChatRequest, Refused


class Wire(NamedTuple):
    """One provider's wire format."""

    read: Callable[[bytes], ChatRequest]
    whole: Callable[[replies.Envelope, Sequence[Answer]], dict[str, Any]]
    stream: Callable[[replies.Envelope, Sequence[Answer], bool], Iterator[bytes]]
    """Takes too whether usage is wanted."""
    piece: Callable[[replies.Envelope, str], bytes]
    """One more piece of text within a stream."""
    refusal: Callable[[Refused], dict[str, Any]]
    text_begins: bytes
    """What stands before the text of a whole reply."""


def _openai_stream(
    envelope: replies.Envelope, answers: Sequence[Answer], with_usage: bool
) -> Iterator[bytes]:
    return replies.stream(envelope, answers, with_usage=with_usage)


OPENAI = Wire(
    read, replies.completion, _openai_stream, replies.piece, replies.refusal, text_begins=b'"content": "'
)
