import json

import pytest

from dspex import sandbox
from dspex.sandbox.serving.answers import answers
from dspex.sandbox.serving.requests import ChatRequest, Refused

CHARGED = "I was charged twice for the desk lamp, $20 each time."
SUM = sandbox.task("arithmetic").dev[0].question
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"days": {"type": "integer", "minimum": 1}, "city": {"type": "string"}},
            "required": ["days", "city"],
        },
    },
}
MAIL = {"type": "function", "function": {"name": "mail"}}


def ask(text=CHARGED, **settings):
    messages = settings.pop("messages", [{"role": "user", "content": text}])
    return answers(ChatRequest(model="small", messages=messages, **settings))


def shaped(properties):
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


def test_choices_vary_only_when_warm():
    """The first choice is the same every time; further ones differ at a temperature, and not without."""
    warm = [each.text for each in ask(n=20, temperature=1.0)]
    assert warm == [each.text for each in ask(n=20, temperature=1.0)]
    assert warm[0] == ask(temperature=1.0)[0].text
    assert len(set(warm)) > 1
    assert len({each.text for each in ask(n=20, temperature=0.0)}) == 1


def test_an_answer_is_cut_at_max_tokens():
    """An answer that is too long ends early and says so."""
    (answer,) = ask("Hello", max_tokens=3)
    assert (len(answer.text), answer.tokens_out, answer.finish_reason) == (12, 3, "length")
    (answer,) = ask(max_tokens=3, response_format=shaped({"note": {"type": "string"}}))
    assert (len(answer.text), answer.tokens_out, answer.finish_reason) == (12, 3, "length")


@pytest.mark.parametrize(
    ("text", "properties"),
    [
        (CHARGED, {"team": {"enum": ["shipping", "billing", "refund"]}}),
        (CHARGED, {"n": {"type": "number"}, "why": {"type": "string"}}),
        (SUM, {"n": {"type": "integer"}, "ok": {"type": "boolean"}}),
        (SUM, {"why": {"enum": ["a", "b"]}, "n": {"type": "number"}}),
    ],
)
def test_an_answer_follows_its_schema(text, properties):
    """The object has every required property, and the answer in the first one that can hold it."""
    plain = ask(text)[0].text
    value = json.loads(ask(text, response_format=shaped(properties))[0].text)
    assert list(value) == list(properties)
    assert plain in [str(each).removesuffix(".0") for each in value.values()]


def test_any_object_will_do():
    """Without a schema the answer is an object all the same."""
    (answer,) = ask(response_format={"type": "json_object"})
    assert json.loads(answer.text) == {"answer": ask()[0].text}


@pytest.mark.parametrize(
    ("settings", "called"),
    [
        ({}, "weather"),
        ({"tool_choice": "required"}, "weather"),
        ({"tool_choice": {"type": "function", "function": {"name": "mail"}}}, "mail"),
        ({"tool_choice": "none"}, None),
    ],
)
def test_a_tool_is_called(settings, called):
    """A request with tools calls one, unless it must not."""
    (answer,) = ask("Is it sunny?", tools=[WEATHER, MAIL], **settings)
    assert [call.name for call in answer.calls] == ([] if called is None else [called])
    assert (answer.text is None, answer.finish_reason == "tool_calls") == (called is not None,) * 2


def test_a_tool_is_chosen_by_its_name_and_gets_the_text():
    """The tool that the text names is called, and its first string holds the text."""
    (answer,) = ask("Send a mail about the weather", tools=[MAIL])
    assert answer.calls[0].name == "mail"
    (answer,) = ask("Is it sunny?", tools=[MAIL, WEATHER], tool_choice="auto")
    assert answer.calls[0].name == "mail"
    (answer,) = ask("weather in Oslo", tools=[MAIL, WEATHER])
    assert (answer.calls[0].name, json.loads(answer.calls[0].arguments)) == (
        "weather",
        {"days": 1, "city": "weather in Oslo"},
    )


def test_after_a_tool_the_answer_is_text():
    """What a tool returned is not answered by calling it again."""
    messages = [
        {"role": "user", "content": CHARGED},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
        {"role": "tool", "content": "sunny", "tool_call_id": "1"},
    ]
    (answer,) = ask(messages=messages, tools=[WEATHER])
    assert (answer.text, answer.calls) == (ask()[0].text, ())


def test_an_unknown_tool_choice_is_refused():
    """A tool that is not offered cannot be chosen."""
    with pytest.raises(Refused, match="Tool choice 'fly' not found"):
        ask(tools=[MAIL], tool_choice={"type": "function", "function": {"name": "fly"}})
