import json

import pytest

from dspex.sandbox.serving.requests import Refused, read

USER = {"role": "user", "content": "hi"}
CLOSED = {
    "type": "object",
    "properties": {"a": {"type": "string"}},
    "required": ["a"],
    "additionalProperties": False,
}


def request(**settings):
    return json.dumps({"model": "sandbox/small", "messages": [USER], **settings}).encode()


def schema(inner, *, strict=True):
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": inner, "strict": strict}}


def test_a_request_becomes_a_prompt():
    """System and developer messages are one system prompt; parts of text are put together."""
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": "c"},
        {"role": "user", "content": "d"},
    ]
    prompt = read(request(messages=messages, temperature=0.5, max_tokens=7)).prompt()
    assert prompt.system == "Be brief.\n\nBe kind."
    assert prompt.messages == (("user", "a\nb"), ("assistant", "c"), ("user", "d"))
    assert (prompt.model, prompt.temperature, prompt.max_tokens) == ("sandbox/small", 0.5, 7)
    assert prompt.response_schema is None


def test_what_tools_said_is_not_read():
    """A simulated model reads the conversation without its calls of tools."""
    messages = [
        USER,
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
        {"role": "tool", "content": "42", "tool_call_id": "1"},
    ]
    assert read(request(messages=messages)).prompt().messages == (("user", "hi"),)


def test_settings_that_change_nothing_are_taken():
    """OpenAI knows many settings; one that is not simulated is no error."""
    assert read(request(seed=3, top_p=0.5, user="me", metadata={"a": "b"})).short_model == "small"


@pytest.mark.parametrize(
    ("body", "status", "param", "code", "message"),
    [
        (b"{", 400, None, None, "We could not parse the JSON body of your request."),
        (b'{"model": "\xff"}', 400, None, None, "We could not parse the JSON body of your request."),
        (b"{}", 400, "model", "missing_required_parameter", "Missing required parameter: 'model'."),
        (request(messages=[]), 400, "messages", "invalid_value", "Invalid value for 'messages'"),
        (
            request(messages=[{"role": "me", "content": "hi"}]),
            400,
            "messages.0.role",
            "invalid_value",
            "Invalid value for 'messages.0.role'",
        ),
        (request(temperature=3), 400, "temperature", "invalid_value", "Invalid value for 'temperature'"),
        (request(n=0), 400, "n", "invalid_value", "Invalid value for 'n'"),
        (request(max_tokens=0), 400, "max_tokens", "invalid_value", "Invalid value for 'max_tokens'"),
        (request(model="gpt-4o"), 404, None, "model_not_found", "The model `gpt-4o` does not exist"),
        (
            request(messages=[{"role": "user", "content": "x" * 70_000}]),
            400,
            "messages",
            "context_length_exceeded",
            "This model's maximum context length is 16384 tokens. However, your messages resulted in 17500 tokens.",
        ),
        (
            request(response_format={"type": "json_object"}),
            400,
            "messages",
            None,
            "'messages' must contain the word 'json'",
        ),
        (
            request(response_format={"type": "json_schema"}),
            400,
            "response_format.json_schema",
            "missing_required_parameter",
            "Missing required parameter: 'response_format.json_schema'.",
        ),
        (
            request(response_format=schema({**CLOSED, "additionalProperties": True})),
            400,
            "response_format",
            None,
            (
                "Invalid schema for response_format 'answer': In context=(), 'additionalProperties' is required to be "
                "supplied and to be false."
            ),
        ),
        (
            request(response_format=schema({**CLOSED, "required": []})),
            400,
            "response_format",
            None,
            (
                "Invalid schema for response_format 'answer': In context=(), 'required' is required to be supplied and "
                "to be an array including every key in properties. Missing 'a'."
            ),
        ),
        (
            request(
                response_format=schema(
                    {**CLOSED, "properties": {"a": {"type": "array", "items": {"type": "object"}}}}
                )
            ),
            400,
            "response_format",
            None,
            "Invalid schema for response_format 'answer': In context=('properties', 'a', 'items'),",
        ),
    ],
)
def test_refusals_are_openais(body, status, param, code, message):
    """Status, parameter, code and message are those of OpenAI's API."""
    with pytest.raises(Refused) as caught:
        read(body)
    assert (caught.value.status, caught.value.param, caught.value.code) == (status, param, code)
    assert caught.value.message.startswith(message)


def test_schemas_that_are_taken():
    """A closed schema is taken strictly, and an open one without."""
    assert read(request(response_format=schema(CLOSED))).schema_wanted == CLOSED
    assert read(request(response_format=schema({"type": "object"}, strict=False))).schema_wanted == {
        "type": "object"
    }
    said = [{"role": "user", "content": "JSON please"}]
    assert read(request(messages=said, response_format={"type": "json_object"})).schema_wanted == {}
    assert read(request(response_format={"type": "text"})).schema_wanted is None
