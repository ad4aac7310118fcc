"""Gemini's generateContent: requests read as chat completions, replies, streams and errors as Gemini writes them."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

from dspex.sandbox.serving.replies import event, pieces
from dspex.sandbox.serving.requests import Refused, read
from dspex.sandbox.serving.wires import Wire

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dspex.sandbox.serving.answers import Answer
    from dspex.sandbox.serving.replies import Envelope
    from dspex.sandbox.serving.requests import ChatRequest

_STOPPED = {"stop": "STOP", "length": "MAX_TOKENS", "tool_calls": "STOP"}
_KINDS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    504: "DEADLINE_EXCEEDED",
}
_ROLES = {"user": "user", "model": "assistant"}
_CHOICES = {"AUTO": "auto", "ANY": "required", "NONE": "none"}


def wire_for(model: str, *, streams: bool) -> Wire:
    """Return Gemini's wire; the model and whether to stream stand in the address there."""
    return Wire(
        partial(read_contents, model=model, streams=streams),
        content,
        stream,
        piece,
        refusal,
        text_begins=b'"text": "',
    )


def read_contents(body: bytes, *, model: str, streams: bool) -> ChatRequest:
    """Read a request for content.

    Raises
    ------
    Refused
        If Gemini would not take it.
    """
    try:
        chat = _as_chat(json.loads(body), model, streams=streams)
    except (ValueError, TypeError, AttributeError, KeyError):
        raise Refused(400, "Invalid JSON payload received.") from None
    return read(json.dumps(chat).encode())


def _as_chat(given: dict[str, Any], model: str, *, streams: bool) -> dict[str, Any]:
    settings = given.get("generationConfig", {})
    system = _text(given.get("systemInstruction", {}))
    chat: dict[str, Any] = {
        "model": model,
        "messages": [
            *([{"role": "system", "content": system}] if system else []),
            *(
                {"role": _ROLES[each.get("role", "user")], "content": _text(each)}
                for each in given["contents"]
            ),
        ],
        "max_tokens": settings.get("maxOutputTokens"),
        "temperature": settings.get("temperature"),
        "stream": streams,
    }
    schema = settings.get("responseJsonSchema") or settings.get("responseSchema")
    if schema:
        form = {"name": "answer", "schema": schema}
        chat["response_format"] = {"type": "json_schema", "json_schema": form}
    declared = [each for tool in given.get("tools", ()) for each in tool.get("functionDeclarations", ())]
    if declared:
        chat["tools"] = [_tool(each) for each in declared]
        choice = given.get("toolConfig", {}).get("functionCallingConfig", {}).get("mode", "AUTO")
        chat["tool_choice"] = _CHOICES[choice]
    return chat


def _tool(given: dict[str, Any]) -> dict[str, Any]:
    schema = given.get("parametersJsonSchema") or given.get("parameters") or {}
    return {"type": "function", "function": {"name": given["name"], "parameters": schema}}


def _text(given: dict[str, Any]) -> str:
    return "\n".join(part["text"] for part in given.get("parts", ()) if "text" in part)


def content(envelope: Envelope, answers: Sequence[Answer]) -> dict[str, Any]:
    """Write a whole reply."""
    answer = answers[0]
    return _reply(envelope, answer, _parts(answer), answer.finish_reason)


def stream(envelope: Envelope, answers: Sequence[Answer], _with_usage: bool) -> Iterator[bytes]:
    """Write a reply as server-sent events; only the last one says how it ended."""
    answer = answers[0]
    whole = _parts(answer) if answer.calls else [{"text": part} for part in pieces(answer.text or "")]
    for index, part in enumerate(whole):
        finish = answer.finish_reason if index == len(whole) - 1 else None
        yield event(_reply(envelope, answer, [part], finish))


def piece(envelope: Envelope, text: str) -> bytes:
    """Write one more piece of text as a server-sent event."""
    return event(_reply(envelope, None, [{"text": text}], None))


def refusal(refused: Refused) -> dict[str, Any]:
    """Write an error."""
    kind = _KINDS.get(refused.status, "UNAVAILABLE")
    return {"error": {"code": refused.status, "message": refused.message, "status": kind}}


def _parts(answer: Answer) -> list[dict[str, Any]]:
    calls: list[dict[str, Any]] = [
        {"functionCall": {"name": call.name, "args": json.loads(call.arguments)}} for call in answer.calls
    ]
    return calls or [{"text": answer.text or ""}]


def _reply(
    envelope: Envelope, answer: Answer | None, parts: list[dict[str, Any]], finish: str | None
) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": parts}, "index": 0}
    if finish is not None:
        candidate["finishReason"] = _STOPPED[finish]
    reply: dict[str, Any] = {
        "candidates": [candidate],
        "modelVersion": envelope.model,
        "responseId": envelope.id,
    }
    if answer is not None:
        reply["usageMetadata"] = {
            "promptTokenCount": answer.tokens_in,
            "candidatesTokenCount": answer.tokens_out,
            "totalTokenCount": answer.tokens_in + answer.tokens_out,
        }
    return reply
