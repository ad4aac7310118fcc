"""Writing OpenAI's replies: completions, streams of chunks, lists of models, and errors."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dspex.sandbox.world import MODELS, world

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dspex.sandbox.serving.answers import Answer
    from dspex.sandbox.serving.requests import Refused

_PIECE = 16
"""How many characters a chunk of a stream holds."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """What every chunk of one completion repeats."""

    id: str
    created: int
    model: str

    def of(self, kind: str, **rest: Any) -> dict[str, Any]:
        """Put something into it."""
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": world().version,
            **rest,
        }


def completion(envelope: Envelope, answers: Sequence[Answer]) -> dict[str, Any]:
    """Write a whole completion."""
    choices = [
        {
            "index": index,
            "message": {
                "role": "assistant",
                "content": answer.text,
                "refusal": None,
                **_calls(answer, envelope),
            },
            "logprobs": None,
            "finish_reason": answer.finish_reason,
        }
        for index, answer in enumerate(answers)
    ]
    return envelope.of("chat.completion", choices=choices, usage=usage(answers))


def usage(answers: Sequence[Answer]) -> dict[str, Any]:
    """Count tokens: the prompt once, every answer."""
    tokens_in, tokens_out = answers[0].tokens_in, sum(answer.tokens_out for answer in answers)
    return {
        "prompt_tokens": tokens_in,
        "completion_tokens": tokens_out,
        "total_tokens": tokens_in + tokens_out,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


def stream(envelope: Envelope, answers: Sequence[Answer], *, with_usage: bool) -> Iterator[bytes]:
    """Write a completion as server-sent events."""
    for index, answer in enumerate(answers):
        for delta in _deltas(envelope, answer):
            yield event(_chunk(envelope, index, delta, None, with_usage=with_usage))
        yield event(_chunk(envelope, index, {}, answer.finish_reason, with_usage=with_usage))
    if with_usage:
        yield event(envelope.of("chat.completion.chunk", choices=[], usage=usage(answers)))
    yield b"data: [DONE]\n\n"


def piece(envelope: Envelope, text: str) -> bytes:
    """Write one more piece of text as a server-sent event."""
    return event(_chunk(envelope, 0, {"content": text}, None, with_usage=False))


def event(value: Any) -> bytes:
    """Write a server-sent event."""
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n".encode()


def models() -> dict[str, Any]:
    """List the simulated models."""
    return {
        "object": "list",
        "data": [{"id": name, "object": "model", "created": 0, "owned_by": "sandbox"} for name in MODELS],
    }


def refusal(refused: Refused) -> dict[str, Any]:
    """Write an error."""
    return {
        "error": {
            "message": refused.message,
            "type": refused.kind,
            "param": refused.param,
            "code": refused.code,
        }
    }


def _chunk(
    envelope: Envelope, index: int, delta: dict[str, Any], finish_reason: str | None, *, with_usage: bool
) -> dict[str, Any]:
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    rest = {"usage": None} if with_usage else {}
    return envelope.of("chat.completion.chunk", choices=[choice], **rest)


def _deltas(envelope: Envelope, answer: Answer) -> Iterator[dict[str, Any]]:
    if answer.calls:
        yield {"role": "assistant", "content": None}
        for index, call in enumerate(_calls(answer, envelope)["tool_calls"]):
            arguments = call["function"]["arguments"]
            opened = {**call, "function": {**call["function"], "arguments": ""}}
            yield {"tool_calls": [{"index": index, **opened}]}
            for part in pieces(arguments):
                yield {"tool_calls": [{"index": index, "function": {"arguments": part}}]}
        return
    yield {"role": "assistant", "content": "", "refusal": None}
    for part in pieces(answer.text or ""):
        yield {"content": part}


def pieces(text: str) -> list[str]:
    """Cut a text as a stream sends it."""
    return [text[start : start + _PIECE] for start in range(0, len(text), _PIECE)]


def _calls(answer: Answer, envelope: Envelope) -> dict[str, Any]:
    if not answer.calls:
        return {}
    return {
        "tool_calls": [
            {
                "id": f"call_{envelope.id.removeprefix('chatcmpl-')}_{index}",
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for index, call in enumerate(answer.calls)
        ]
    }
