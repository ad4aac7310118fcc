"""Answering a request: the simulated model's text, fitted to a schema, or the call of a tool."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from dspex.sandbox.models import SimulatedModel
from dspex.sandbox.plain import item_in
from dspex.sandbox.serving.requests import Refused, ToolChoice
from dspex.sandbox.writing import from_schema

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dspex.records import Completion
    from dspex.sandbox.serving.requests import ChatRequest, Tool

_CHARS_PER_TOKEN = 4
_LONGEST_ARGUMENT = 200


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a function, its arguments as JSON."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Answer:
    """One choice of a completion."""

    text: str | None
    calls: tuple[ToolCall, ...]
    finish_reason: Literal["stop", "length", "tool_calls"]
    tokens_in: int
    tokens_out: int
    latency_s: float
    """How long a model of its kind would take, in seconds."""


def answers(request: ChatRequest, *, seed: int = 0) -> list[Answer]:
    """Answer as often as `n` says: the first always the same, the others drawn anew if the request is warm.

    A request with tools is answered by calling one, unless the last message is what a tool returned: the
    one that `tool_choice` names, else the one whose name is in the text, else the first. Its arguments
    are the model's own answer if it must call one and the text is of a sandbox task, else the smallest that
    its schema allows, with the user's text in the first string.
    """
    model = SimulatedModel(request.short_model, seed=seed, resample=True)
    prompt, tool = request.prompt(), _tool_to_call(request)
    # A model that may choose calls a tool to learn something; one that must, to answer.
    is_known = request.tool_choice not in (None, "auto") and item_in(prompt) is not None
    if tool is not None and is_known:
        prompt = replace(prompt, response_schema=tool.function.parameters)
    made = [model.answer(prompt) for _ in range(request.n or 1)]
    if tool is not None:
        said = made[0].text if is_known and _is_object(made[0].text) else None
        call = ToolCall(tool.function.name, said or json.dumps(_arguments(tool, prompt.messages)))
        return [_calling(each, call) for each in made]
    schema = request.schema_wanted
    return [_telling(each) if schema is None else _fitted(each, schema, prompt.max_tokens) for each in made]


def _telling(made: Completion) -> Answer:
    usage = made.usage
    return Answer(made.text, (), made.finish_reason, usage.tokens_in, usage.tokens_out, usage.latency_s)


def _calling(made: Completion, call: ToolCall) -> Answer:
    spoken = _tokens(call.name + call.arguments)
    return replace(_telling(made), text=None, calls=(call,), finish_reason="tool_calls", tokens_out=spoken)


def _fitted(made: Completion, schema: Mapping[str, Any], max_tokens: int | None) -> Answer:
    """Hold an answer to a schema; one that is an object already, as DSPy's prompts ask for, stays as it is."""
    answer = _telling(made)
    if _is_object(made.text) or made.finish_reason == "length":
        return answer
    text = json.dumps(_placed(made.text, schema), ensure_ascii=False)
    kept = text if max_tokens is None else text[: max_tokens * _CHARS_PER_TOKEN]
    return replace(
        answer,
        text=kept,
        tokens_out=_tokens(kept),
        finish_reason="stop" if kept == text else "length",
    )


def _placed(text: str, schema: Mapping[str, Any]) -> Any:
    """Make the smallest value that a schema allows, with the text where it fits."""
    if not schema:
        return {"answer": text}
    value = from_schema(schema)
    for name, inner in schema.get("properties", {}).items():
        fitting = _as_typed(text, inner)
        if isinstance(value, dict) and name in value and fitting is not None:
            return {**value, name: fitting}
    return value


def _as_typed(text: str, schema: Mapping[str, Any]) -> Any:
    if "enum" in schema:
        return text if text in schema["enum"] else None
    try:
        number: float | None = float(text)
    except ValueError:
        number = None
    kind = schema.get("type")
    if kind == "number":
        return number
    if kind == "integer":
        return int(number) if number is not None and number == int(number) else None
    return text if kind == "string" else None


def _tool_to_call(request: ChatRequest) -> Tool | None:
    if not request.tools or request.tool_choice == "none" or request.messages[-1].role == "tool":
        return None
    by_name = {tool.function.name: tool for tool in request.tools}
    if isinstance(request.tool_choice, ToolChoice):
        wanted = request.tool_choice.function.name
        if wanted not in by_name:
            raise Refused(
                400,
                f"Tool choice '{wanted}' not found in 'tools' parameter.",
                param="tool_choice",
            )
        return by_name[wanted]
    text = request.messages[-1].text
    return next((tool for name, tool in by_name.items() if name in text), request.tools[0])


def _arguments(tool: Tool, messages: Sequence[tuple[str, str]]) -> Any:
    schema = {"type": "object", **tool.function.parameters}
    arguments = from_schema(schema)
    text = messages[-1][1][:_LONGEST_ARGUMENT] if messages else ""
    for name, inner in schema.get("properties", {}).items():
        if name in arguments and _as_typed(text, inner) is not None:
            return {**arguments, name: _as_typed(text, inner)}
    return arguments


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _tokens(text: str) -> int:
    return -(-len(text) // _CHARS_PER_TOKEN)
