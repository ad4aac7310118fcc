"""Anthropic's and Gemini's wires: what they take, and how replies, streams and refusals are written."""

import httpx
import pytest

QUESTION = "Julia has 220 buttons. On Wednesday 45 more are found. How many buttons are there now?"
SCHEMA = {"type": "object", "properties": {"answer": {"type": "integer"}}, "required": ["answer"]}


def anthropic(server, key, **more):
    body = {"model": "large", "max_tokens": 99, "messages": [{"role": "user", "content": QUESTION}], **more}
    return httpx.post(f"{server.url}/messages", json=body, headers={"x-api-key": key})


def gemini(server, key, verb="generateContent", model="large", **more):
    body = {"contents": [{"role": "user", "parts": [{"text": QUESTION}]}], **more}
    base = server.url.removesuffix("/v1")
    return httpx.post(f"{base}/v1beta/models/{model}:{verb}", json=body, headers={"x-goog-api-key": key})


def test_a_message_is_anthropics(server, key):
    """A reply has Anthropic's blocks, its reason to stop, and its count of tokens."""
    message = anthropic(server, key, system="Answer with a whole number.").json()
    assert (message["type"], message["role"], message["stop_reason"]) == ("message", "assistant", "end_turn")
    assert message["content"][0]["type"] == "text"
    assert message["content"][0]["text"] in ("220", "265")
    assert message["usage"]["input_tokens"] > 0


def test_anthropics_schemas_and_tools_are_kept_to(server, key):
    """An output format and a forced tool both bring the object."""
    formed = anthropic(server, key, output_config={"format": {"type": "json_schema", "schema": SCHEMA}})
    assert formed.json()["content"][0]["text"].startswith('{"answer": 2')
    tool = {"name": "answer", "input_schema": SCHEMA}
    called = anthropic(server, key, tools=[tool], tool_choice={"type": "any"}).json()
    assert called["stop_reason"] == "tool_use"
    assert called["content"][0]["input"]["answer"] in (220, 265)


def test_anthropics_streams_have_their_events(server, key):
    """A stream opens, brings its deltas, says why it stopped, and ends."""
    said = anthropic(server, key, stream=True).text
    events = [line.removeprefix("event: ") for line in said.splitlines() if line.startswith("event: ")]
    assert events[:2] == ["message_start", "content_block_start"]
    assert events[-3:] == ["content_block_stop", "message_delta", "message_stop"]


def test_a_reply_is_geminis(server, key):
    """A reply has a candidate with parts, why it finished, and its count of tokens."""
    reply = gemini(server, key, generationConfig={"temperature": 0.0}).json()
    candidate = reply["candidates"][0]
    assert (candidate["content"]["role"], candidate["finishReason"]) == ("model", "STOP")
    assert candidate["content"]["parts"][0]["text"] in ("220", "265")
    assert reply["usageMetadata"]["promptTokenCount"] > 0


def test_geminis_schemas_and_functions_are_kept_to(server, key):
    """A response schema and a forced function both bring the object."""
    settings = {"responseMimeType": "application/json", "responseJsonSchema": SCHEMA}
    formed = gemini(server, key, generationConfig=settings).json()
    assert formed["candidates"][0]["content"]["parts"][0]["text"].startswith('{"answer": 2')
    tools = [{"functionDeclarations": [{"name": "answer", "parametersJsonSchema": SCHEMA}]}]
    forced = {"functionCallingConfig": {"mode": "ANY"}}
    called = gemini(server, key, tools=tools, toolConfig=forced).json()
    assert called["candidates"][0]["content"]["parts"][0]["functionCall"]["args"]["answer"] in (220, 265)


def test_geminis_streams_end_with_a_reason(server, key):
    """Only the last event of a stream says why it finished."""
    said = gemini(server, key, "streamGenerateContent").text
    assert said.count("data: ") >= 1
    assert said.count("finishReason") == 1


@pytest.mark.parametrize("ask", [anthropic, gemini])
def test_each_refuses_in_its_own_words(server, key, ask):
    """A wrong key, an unknown model and a rate limit are written as that provider writes them."""
    assert ask(server, "wrong").status_code == 401
    missing = ask(server, key, model="nope")
    assert missing.status_code == 404
    assert "nope" in missing.json()["error"]["message"]
    server.set_faults([{"kind": "rate_limit", "retry_after_s": 2}])
    limited = ask(server, key)
    assert (limited.status_code, limited.headers["retry-after"]) == (429, "2")
    error = limited.json()["error"]
    assert "rate_limit_error" in error.values() or "RESOURCE_EXHAUSTED" in error.values()


@pytest.mark.parametrize(
    ("ask", "broken"),
    [(anthropic, {"messages": 3}), (anthropic, {"max_tokens": "x"}), (gemini, {"contents": 3})],
)
def test_what_cannot_be_read_is_refused(server, key, ask, broken):
    """A request in another shape is the client's error."""
    assert ask(server, key, **broken).status_code == 400


def test_calls_are_counted_like_any_other(server, key):
    """Calls over each wire are seen, and meet the same faults."""
    before = len(server.calls)
    anthropic(server, key)
    gemini(server, key)
    assert [call.model for call in server.calls[before:]] == ["large", "large"]
