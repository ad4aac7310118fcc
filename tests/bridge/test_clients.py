"""Clients: which one asks a model as it was configured, and how tokens are counted on each wire."""

import dspy
import pytest
from dspy import lm15

from dspex import sandbox
from dspex.bridge import clients, direct, wire
from dspex.errors import BadResponseError
from dspex.records import Prompt


def lm(model="openai/gpt-4o-mini", **settings):
    return dspy.LM(model, api_key="any", **settings)


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        (sandbox.lm("small"), clients.AnswererClient),
        ("openai/gpt-4o-mini", direct.HttpClient),
        (lm(), direct.HttpClient),
        (lm(temperature=0.2, max_tokens=9, timeout=5), direct.HttpClient),
        (lm("anthropic/claude-sonnet-4-5"), direct.HttpClient),
        (lm(top_p=0.5), clients.LmClient),
        (lm(headers={"x": "y"}), clients.LmClient),
        (lm("mistral/some-model"), clients.LmClient),
    ],
)
def test_each_model_gets_the_leanest_client_that_keeps_to_its_settings(model, kind):
    """Simulated models answer in process, plain ones over HTTP; with settings that DSPy alone knows, DSPy asks."""
    assert type(clients.client_of(model)) is kind


def test_sampling_parameters_are_the_models():
    """What a model was given is what its client asks with."""
    assert clients.sampling_of(lm(temperature=0.2, max_tokens=9)) == {"temperature": 0.2, "max_tokens": 9}
    assert clients.sampling_of("openai/gpt-4o-mini") == {}


@pytest.mark.parametrize(
    ("name", "reported", "counted"),
    [
        ("openai/x", lm15.Usage(input_tokens=10, output_tokens=5, cache_read_tokens=8), (10, 5)),
        ("anthropic/x", lm15.Usage(input_tokens=10, output_tokens=5, cache_read_tokens=8), (18, 5)),
        ("gemini/x", lm15.Usage(input_tokens=10, output_tokens=5, total_tokens=40), (10, 30)),
        ("openai/x", None, (0, 0)),
    ],
)
def test_tokens_are_counted_as_they_are_billed(name, reported, counted):
    """Each provider leaves something else out of its counts."""
    usage = wire.usage_of(reported, name, 0.5)
    assert (usage.tokens_in, usage.tokens_out) == counted
    assert (usage.calls, usage.latency_s) == (1, 0.5)


@pytest.mark.parametrize(
    ("schema", "is_strict"),
    [
        ({"type": "object", "properties": {"a": {}}, "required": ["a"], "additionalProperties": False}, True),
        ({"type": "object", "properties": {"a": {}}, "required": ["a"]}, False),
        ({"type": "object", "properties": {"a": {}}, "required": [], "additionalProperties": False}, False),
        ({"anyOf": [{"type": "object", "additionalProperties": {"type": "string"}}]}, False),
    ],
)
def test_only_closed_schemas_are_strict(schema, is_strict):
    """OpenAI takes strict schemas only if every object in them is closed and complete."""
    request = wire.request_of(Prompt("m", "", (("user", "?"),), response_schema=schema), "m")
    assert request.config.response_format["strict"] is is_strict


def test_an_answer_without_text_is_said():
    """A reply that holds neither text nor a call of a tool is no answer."""
    image = lm15.ImagePart(media_type="image/png", data="aaaa")
    reply = lm15.Response(
        id="1",
        model="m",
        message=lm15.Message(role="assistant", parts=(image,)),
        finish_reason="stop",
        usage=lm15.Usage(),
    )
    with pytest.raises(BadResponseError, match="without text"):
        wire.completion_of(reply, "openai/m", 0.1)


def test_an_answer_that_is_handed_over_as_data_is_read():
    """DSPy's client takes an object with a yes or a choice in it apart; beside thoughts it is the answer."""
    parts = (lm15.ThinkingPart(text="hm"), lm15.DataPart(value={"label": "größer", "sure": True}))
    reply = lm15.Response(
        id="1",
        model="m",
        message=lm15.Message(role="assistant", parts=parts),
        finish_reason="stop",
        usage=lm15.Usage(),
    )
    assert wire.completion_of(reply, "openai/m", 0.1).text == '{"label": "größer", "sure": true}'
