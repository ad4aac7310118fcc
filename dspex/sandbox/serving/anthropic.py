"""Anthropic's Messages: requests read as chat completions, replies, streams and errors as Anthropic writes them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from dspex.sandbox.serving.replies import pieces
from dspex.sandbox.serving.requests import Refused, read
from dspex.sandbox.serving.wires import Wire

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dspex.sandbox.serving.answers import Answer
    from dspex.sandbox.serving.replies import Envelope
    from dspex.sandbox.serving.requests import ChatRequest

_STOPPED = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}
_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
    529: "overloaded_error",
}
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


def read_messages(body: bytes) -> ChatRequest:
    """Read a request for a message.

    Raises
    ------
    Refused
        If Anthropic would not take it.
    """
    try:
        given = json.loads(body)
        if "max_tokens" not in given:
            raise Refused(400, "max_tokens: Field required")
        return read(json.dumps(_as_chat(given)).encode())
    except (ValueError, TypeError, AttributeError, KeyError):
        raise Refused(400, "The request body is not valid JSON.") from None


def _as_chat(given: dict[str, Any]) -> dict[str, Any]:
    system = [{"role": "system", "content": _text(given["system"])}] if given.get("system") else []
    chat: dict[str, Any] = {
        "model": given.get("model"),
        "messages": [
            *system,
            *({"role": each["role"], "content": _text(each["content"])} for each in given["messages"]),
        ],
        "max_tokens": given["max_tokens"],
        "stream": given.get("stream"),
        "temperature": given.get("temperature"),
    }
    form = given.get("output_config", {}).get("format")
    if form is not None:
        schema = {"name": "answer", "schema": form["schema"]}
        chat["response_format"] = {"type": "json_schema", "json_schema": schema}
    if given.get("tools"):
        chat["tools"] = [_tool(each) for each in given["tools"]]
        chat["tool_choice"] = _choice(given.get("tool_choice", {"type": "auto"}))
    return chat


def _tool(given: dict[str, Any]) -> dict[str, Any]:
    function = {"name": given["name"], "parameters": given["input_schema"]}
    return {"type": "function", "function": function}


def _choice(given: dict[str, Any]) -> Any:
    if given["type"] == "tool":
        return {"type": "function", "function": {"name": given["name"]}}
    return _CHOICES[given["type"]]


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(part.get("text", "") for part in content if part.get("type") == "text")


def message(envelope: Envelope, answers: Sequence[Answer]) -> dict[str, Any]:
    """Write a whole message."""
    answer = answers[0]
    return {
        **_opening(envelope, answer),
        "content": [
            {
                "type": "tool_use",
                "id": f"toolu_{envelope.id}",
                "name": call.name,
                "input": json.loads(call.arguments),
            }
            for call in answer.calls
        ]
        or [{"type": "text", "text": answer.text or ""}],
        "stop_reason": _STOPPED[answer.finish_reason],
        "usage": {"input_tokens": answer.tokens_in, "output_tokens": answer.tokens_out},
    }


def _opening(envelope: Envelope, answer: Answer) -> dict[str, Any]:
    return {
        "id": f"msg_{envelope.id}",
        "type": "message",
        "role": "assistant",
        "model": envelope.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": answer.tokens_in, "output_tokens": 0},
    }


def stream(envelope: Envelope, answers: Sequence[Answer], _with_usage: bool) -> Iterator[bytes]:
    """Write a message as server-sent events."""
    answer = answers[0]
    yield _event("message_start", message=_opening(envelope, answer))
    if answer.calls:
        call = answer.calls[0]
        block = {"type": "tool_use", "id": f"toolu_{envelope.id}", "name": call.name, "input": {}}
        deltas = [{"type": "input_json_delta", "partial_json": part} for part in pieces(call.arguments)]
    else:
        block = {"type": "text", "text": ""}
        deltas = [{"type": "text_delta", "text": part} for part in pieces(answer.text or "")]
    yield _event("content_block_start", index=0, content_block=block)
    for delta in deltas:
        yield _event("content_block_delta", index=0, delta=delta)
    yield _event("content_block_stop", index=0)
    yield _event(
        "message_delta",
        delta={"stop_reason": _STOPPED[answer.finish_reason], "stop_sequence": None},
        usage={"output_tokens": answer.tokens_out, "input_tokens": answer.tokens_in},
    )
    yield _event("message_stop")


def piece(_envelope: Envelope, text: str) -> bytes:
    """Write one more piece of text as a server-sent event."""
    return _event("content_block_delta", index=0, delta={"type": "text_delta", "text": text})


def refusal(refused: Refused) -> dict[str, Any]:
    """Write an error."""
    kind = _KINDS.get(refused.status, "api_error")
    said = (
        "prompt is too long: " + refused.message
        if refused.code == "context_length_exceeded"
        else refused.message
    )
    return {"type": "error", "error": {"type": kind, "message": said}}


def _event(kind: str, **rest: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **rest}, ensure_ascii=False)}\n\n".encode()


ANTHROPIC = Wire(read_messages, message, stream, piece, refusal, text_begins=b'"text": "')
