"""Our prompts as the requests that DSPy's client sends, and its responses as our completions."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, Literal

from dspy import lm15
from dspy.clients.backend_selection import CLIENT_KEYS

from dspex.bridge.prices import price_of
from dspex.errors import BadResponseError
from dspex.records import Completion, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dspex.records import Prompt

_TOOL = "answer"
_NOT_SAID = CLIENT_KEYS | {"n", "num_generations", "prompt_cache", "rollout_id"}
"""Settings of a `dspy.LM` that are no part of a request for one answer."""
_ANTHROPIC = "anthropic"


def request_of(prompt: Prompt, model: str) -> lm15.Request:
    """Write a prompt as a request; `model` is what the provider calls it."""
    schema, tools = prompt.response_schema, list[lm15.FunctionTool]()
    settings: dict[str, Any] = {"temperature": prompt.temperature, "max_tokens": prompt.max_tokens}
    if schema is not None and prompt.schema_by == "tool":
        tools.append(lm15.FunctionTool(name=_TOOL, description="Give the answer.", parameters=dict(schema)))
        settings["tool_choice"] = lm15.ToolChoice(mode="required")
    elif schema is not None:
        settings["response_format"] = _format_of(dict(schema))
    return lm15.Request(
        model=model,
        system=prompt.system or None,
        messages=tuple(
            lm15.Message(role=role, parts=(lm15.TextPart(text=text),)) for role, text in prompt.messages
        ),
        tools=tuple(tools),
        config=lm15.Config(**settings),
    )


def with_settings(request: lm15.Request, settings: Mapping[str, Any]) -> lm15.Request:
    """Add what a `dspy.LM` was given, as DSPy would; what the request itself asks for comes first."""
    given = {name: value for name, value in settings.items() if name not in _NOT_SAID and value is not None}
    said = {"model": request.model, "messages": [{"role": "user", "content": "?"}], **given}
    theirs, unset = lm15.request_from_openai_chat(said).config, lm15.Config()
    ours = {
        each.name: value
        for each in fields(request.config)
        if (value := getattr(request.config, each.name)) != getattr(unset, each.name)
    }
    return replace(request, config=replace(theirs, **ours))


def _format_of(schema: dict[str, Any]) -> dict[str, Any]:
    if not schema:
        return {"type": "json_object"}
    return {"type": "json_schema", "name": _TOOL, "schema": schema, "strict": is_strict(schema)}


def is_strict(schema: Any) -> bool:
    """Whether every object in a schema is closed and requires all it has, as OpenAI's strict mode wants."""
    if isinstance(schema, list):
        return all(is_strict(each) for each in schema)
    if not isinstance(schema, dict):
        return True
    is_open = schema.get("type") == "object" and (
        schema.get("additionalProperties") is not False
        or set(schema.get("properties", {})) != set(schema.get("required", ()))
    )
    return not is_open and all(is_strict(each) for each in schema.values())


def completion_of(response: lm15.Response, name: str, latency_s: float) -> Completion:
    """Read a response.

    Raises
    ------
    BadResponseError
        If it holds no text and calls no tool.
    """
    calls = response.tool_calls
    text = json.dumps(calls[0].input, ensure_ascii=False) if calls else _text_of(response)
    if text is None:
        raise BadResponseError(
            f"{name} answered without text", provider=name, hint="ask it for text, or use another model"
        )
    finish: Literal["stop", "length"] = "length" if response.finish_reason == "length" else "stop"
    return Completion(text, usage_of(response.usage, name, latency_s), finish)


def _text_of(response: lm15.Response) -> str | None:
    """Return what was written; the client hands over an object with a yes or a choice among its fields as data."""
    data = [part.value for part in response.message.parts if isinstance(part, lm15.DataPart)]
    return json.dumps(data[0], ensure_ascii=False) if data else response.text


def usage_of(usage: lm15.Usage | None, name: str, latency_s: float) -> Usage:
    """Count tokens as they are billed, and price them."""
    if usage is None:
        return Usage(1, latency_s=latency_s)
    tokens_in, tokens_out = usage.input_tokens or 0, usage.output_tokens or 0
    if name.startswith(_ANTHROPIC):
        # Anthropic alone counts what its cache gave or took apart from the rest.
        tokens_in += (usage.cache_read_tokens or 0) + (usage.cache_write_tokens or 0)
    elif usage.total_tokens is not None and name.startswith(("gemini", "xai")):
        # These two count reasoning apart; it is billed as output.
        tokens_out = max(tokens_out, usage.total_tokens - tokens_in)
    cost_usd = price_of(name).cost_usd(tokens_in, tokens_out)
    return Usage(1, tokens_in, tokens_out, cost_usd, latency_s)
