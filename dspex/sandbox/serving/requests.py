"""Reading OpenAI's chat completion requests, and refusing them as OpenAI does."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dspex.records import Prompt
from dspex.sandbox.world import MODELS, PREFIX

CONTEXT_WINDOW = {"small": 16_384, "medium": 65_536, "large": 131_072}
"""How many tokens, prompt and answer together, each simulated model takes."""
_CHARS_PER_TOKEN = 4


class Refused(Exception):  # noqa: N818  # what it becomes is a reply, not a failure of ours
    """A request that is answered with an error; `code` is OpenAI's."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.kind, self.param, self.code = status, message, kind, param, code


class _Lenient(BaseModel):
    # OpenAI takes many more settings than change anything here.
    model_config = ConfigDict(extra="allow")


class Function(_Lenient):
    """A function that the model may call."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] = Field(default_factory=dict)


class Tool(_Lenient):
    """A tool that the model may call."""

    type: Literal["function"]
    function: Function


class NamedFunction(_Lenient):
    """A function's name."""

    name: str


class ToolChoice(_Lenient):
    """The tool that the model must call."""

    type: Literal["function"]
    function: NamedFunction


class Part(_Lenient):
    """A part of a message; only its text is read."""

    type: str
    text: str = ""


class Message(_Lenient):
    """A message of the conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[Part] | None = None
    tool_calls: list[dict[str, Any]] | None = None

    @property
    def text(self) -> str:
        """Everything it says."""
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content if part.type == "text")
        return self.content or ""


class JsonSchema(_Lenient):
    """A schema that the answer must follow."""

    name: str
    schema_: dict[str, Any] = Field(default_factory=dict, alias="schema")
    strict: bool | None = None


class ResponseFormat(_Lenient):
    """The form of the answer."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class StreamOptions(_Lenient):
    """What a stream tells besides the text."""

    include_usage: bool = False


class ChatRequest(_Lenient):
    """A request for a chat completion."""

    model: str
    messages: list[Message] = Field(min_length=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    n: int | None = Field(default=None, ge=1, le=128)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    response_format: ResponseFormat | None = None
    tools: list[Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @property
    def short_model(self) -> str:
        """The simulated model's short name."""
        return self.model.removeprefix(PREFIX)

    @property
    def schema_wanted(self) -> dict[str, Any] | None:
        """The schema that the answer must follow; ``{}`` for any object, None for text."""
        if self.response_format is None or self.response_format.type == "text":
            return None
        wanted = self.response_format.json_schema
        return {} if wanted is None else wanted.schema_

    def prompt(self) -> Prompt:
        """Return what a simulated model reads: no tools, and nothing that was said to or by them."""
        said = [
            (each.role, each.text)
            for each in self.messages
            if each.role in ("user", "assistant") and not each.tool_calls
        ]
        return Prompt(
            model=PREFIX + self.short_model,
            system="\n\n".join(each.text for each in self.messages if each.role in ("system", "developer")),
            messages=tuple(said),
            temperature=self.temperature,
            max_tokens=self.max_completion_tokens or self.max_tokens,
            response_schema=self.schema_wanted,
        )


def read(body: bytes) -> ChatRequest:
    """Read a request.

    Raises
    ------
    Refused
        If OpenAI would not take it, with what it would say.
    """
    try:
        request = ChatRequest.model_validate_json(body)
    except ValidationError as error:
        raise _refusal(error) from None
    if request.short_model not in CONTEXT_WINDOW:
        raise Refused(
            404,
            f"The model `{request.model}` does not exist or you do not have access to it. "
            f"There are: {', '.join(MODELS)}.",
            code="model_not_found",
        )
    _check_length(request)
    _check_format(request)
    return request


def _refusal(error: ValidationError) -> Refused:
    first = error.errors(include_url=False, include_input=False)[0]
    if first["type"] == "json_invalid":
        return Refused(400, "We could not parse the JSON body of your request.")
    place = ".".join(str(step) for step in first["loc"])
    if first["type"] == "missing":
        return Refused(
            400, f"Missing required parameter: '{place}'.", param=place, code="missing_required_parameter"
        )
    return Refused(400, f"Invalid value for '{place}': {first['msg']}.", param=place, code="invalid_value")


def _check_length(request: ChatRequest) -> None:
    window = CONTEXT_WINDOW[request.short_model]
    tokens = sum(len(message.text) for message in request.messages) // _CHARS_PER_TOKEN
    if tokens > window:
        raise Refused(
            400,
            f"This model's maximum context length is {window} tokens. However, your messages resulted in "
            f"{tokens} tokens. Please reduce the length of the messages.",
            param="messages",
            code="context_length_exceeded",
        )


def _check_format(request: ChatRequest) -> None:
    wanted = request.response_format
    if wanted is None or wanted.type == "text":
        return
    if wanted.type == "json_object":
        if not any("json" in message.text.lower() for message in request.messages):
            raise Refused(
                400,
                "'messages' must contain the word 'json' in some form, to use 'response_format' of type "
                "'json_object'.",
                param="messages",
            )
        return
    if wanted.json_schema is None:
        raise Refused(
            400,
            "Missing required parameter: 'response_format.json_schema'.",
            param="response_format.json_schema",
            code="missing_required_parameter",
        )
    broken = _broken_rule(wanted.json_schema.schema_, ()) if wanted.json_schema.strict else None
    if broken is not None:
        raise Refused(
            400,
            f"Invalid schema for response_format '{wanted.json_schema.name}': {broken}",
            param="response_format",
        )


def _broken_rule(schema: Any, place: tuple[str, ...]) -> str | None:
    """Find what a strict schema may not leave open: every object closed, every property required."""
    if not isinstance(schema, dict):
        return None
    if schema.get("type") == "object":
        if schema.get("additionalProperties") is not False:
            return f"In context={place}, 'additionalProperties' is required to be supplied and to be false."
        missing = sorted(set(schema.get("properties", {})) - set(schema.get("required", ())))
        if missing:
            return (
                f"In context={place}, 'required' is required to be supplied and to be an array including "
                f"every key in properties. Missing '{missing[0]}'."
            )
    nested = [
        ((*place, group, name), inner)
        for group in ("properties", "$defs")
        for name, inner in schema.get(group, {}).items()
    ]
    nested += [((*place, "items"), schema.get("items"))]
    nested += [((*place, "anyOf", str(n)), inner) for n, inner in enumerate(schema.get("anyOf", ()))]
    return next((found for at, inner in nested if (found := _broken_rule(inner, at)) is not None), None)
