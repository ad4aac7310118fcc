"""The direct adapter: short prompts, plain answers, and bounds on what comes back."""

import asyncio

import pytest

import dspex as dx
from dspex import sandbox
from dspex.adapters.conformance import QUESTION
from dspex.errors import (
    AuthenticationError,
    BadResponseError,
    DefinitionError,
    ModelNotFoundError,
    TimedOutError,
    UnavailableError,
    UnreadableAnswerError,
)
from dspex.reliability import within

TYPED = "question -> answer: int"


class Said:
    """A client that answers what it is told to, and keeps what it was asked."""

    name, streams, schemas = "openai/said", False, ("format", "tool")

    def __init__(self, *texts):
        self.texts, self.prompts = list(texts), []

    def complete(self, prompt):
        from dspex.records import Completion, Usage

        self.prompts.append(prompt)
        text = self.texts.pop(0)
        if isinstance(text, Exception):
            raise text
        return Completion(text, Usage(1, 10, 5, 0.001, 0.1))

    def stream(self, prompt):
        done = self.complete(prompt)
        yield from (done.text[:3], done.text[3:], done)

    def close(self):
        pass


def asking(*texts, **settings):
    from dspex.adapters.direct import DirectAdapter

    client = Said(*texts)
    return DirectAdapter(client, **settings), client


def at(server, model="openai/large", **settings):
    return dx.adapters.direct(model, api_base=server.url, api_key="any", **settings)


@pytest.mark.parametrize(
    ("spec", "inputs", "system", "user"),
    [
        ("question -> answer", {"question": "Why?"}, "", "Why?"),
        (TYPED, {"question": "Why?"}, "Answer with a whole number and nothing else.", "Why?"),
        ("text -> ok: bool", {"text": "x"}, "Answer with true or false and nothing else.", "x"),
        ('text -> kind: Literal["a", "b"]', {"text": "x"}, "Answer with exactly one of: a, b.", "x"),
        ("a, b -> c", {"a": "1", "b": "2"}, "", "a: 1\nb: 2"),
        ("numbers: list[int] -> sum", {"numbers": [1, 2]}, "", "[1,2]"),
    ],
)
def test_prompts_are_as_short_as_they_can_be(spec, inputs, system, user):
    """One input stands alone, several have their names; what is wanted is said only where it is not any text."""
    values = {"answer": "1", "ok": "true", "kind": "a", "c": "x", "sum": "3"}
    task = dx.signature(spec)
    adapter, client = asking(values[task.outputs[0]])
    adapter.generate(task, inputs)
    assert client.prompts[0].system == system
    assert client.prompts[0].messages == (("user", user),)


def test_instructions_and_templates_are_the_users_own():
    """Instructions go before what is wanted; a template writes the inputs."""
    task = dx.signature(TYPED, "Count well.")
    adapter, client = asking("7", template=dx.template("Q: {{ question }}"), temperature=0.3, max_tokens=9)
    adapter.generate(task, question="How many?")
    prompt = client.prompts[0]
    assert prompt.system == "Count well.\nAnswer with a whole number and nothing else."
    assert prompt.messages == (("user", "Q: How many?"),)
    assert (prompt.temperature, prompt.max_tokens) == (0.3, 9)


@pytest.mark.parametrize(
    ("spec", "text", "value"),
    [
        ("q -> a: int", " 1,234. ", 1234),
        ("q -> a: float", "`2.5`", 2.5),
        ("q -> a: bool", "True.", True),
        ('q -> a: Literal["spam", "ham"]', '"Ham"', "ham"),
        ("q -> a", " any text \n", "any text"),
        ("q -> a: list[int]", 'Here: {"a": [1, 2]}', [1, 2]),
    ],
)
def test_plain_answers_are_read_with_sense(spec, text, value):
    """Quotes, full stops and thousands do not matter; the value has the field's type."""
    adapter, _ = asking(text)
    assert adapter.generate(dx.signature(spec), q="?")["a"] == value


@pytest.mark.parametrize(
    ("spec", "text"),
    [("q -> a: int", "seven"), ('q -> a: Literal["x", "y"]', "z"), ("q -> a: list[int]", "no")],
)
def test_what_cannot_be_read_is_an_error(spec, text):
    """An answer in another form says what was wanted and what was written; nothing is asked again."""
    adapter, client = asking(text)
    with pytest.raises(UnreadableAnswerError, match=text):
        adapter.generate(dx.signature(spec), q="?")
    assert len(client.prompts) == 1


def test_thinking_comes_first():
    """ChainOfThought asks for the reasoning before the outputs, and returns it."""
    adapter, client = asking('{"reasoning": "so", "answer": 7}', module="ChainOfThought")
    assert dict(adapter.generate(dx.signature(TYPED), question="?").output) == {
        "reasoning": "so",
        "answer": 7,
    }
    assert '"reasoning"' in client.prompts[0].system


def test_other_modules_are_named_to_whom_can():
    """A module whose steps the adapter cannot take is refused when it is made."""
    with pytest.raises(DefinitionError, match="ReAct"):
        dx.adapters.direct(sandbox.lm("small"), module="ReAct")


def test_it_costs_a_fraction_of_the_tokens():
    """The same question is put to the model with far fewer tokens than DSPy's format takes."""
    lm, task = sandbox.lm("small"), dx.signature("question -> answer")
    plain = dx.adapters.direct(lm).generate(task, question="Why?").usage
    dspys = dx.adapters.bridged("Predict", lm).generate(task, question="Why?").usage
    assert 10 * plain.tokens_in < dspys.tokens_in


def test_usage_is_priced_and_told_to_who_listens(server):
    """Tokens are the provider's, dollars the price table's, and the meter in charge hears of each call."""
    from dspex.bridge import observe, prices
    from dspex.records import Price

    prices.declare("openai/large", Price(1.0, 2.0))
    with observe.metered() as meter, at(server) as adapter:
        usage = adapter.generate(dx.signature(TYPED), question=QUESTION).usage
    assert usage.cost_usd == pytest.approx((usage.tokens_in + 2 * usage.tokens_out) / 1e6)
    assert (meter.usage.calls, meter.usage.tokens_in) == (1, usage.tokens_in)


def test_connections_are_kept(server):
    """Calls one after the other share a connection."""
    with at(server) as adapter:
        for _ in range(3):
            adapter.generate(dx.signature(TYPED), question=QUESTION)
        stats = adapter.client._client().transport._transport.pool_stats()
    assert stats["total_opened"] == 1


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ({"kind": "server_error"}, UnavailableError),
        ({"kind": "drop"}, UnavailableError),
        ({"kind": "malformed"}, BadResponseError),
        ({"kind": "bad_utf8"}, BadResponseError),
        ({"kind": "huge"}, BadResponseError),
        ({"kind": "endless"}, TimedOutError),
        ({"kind": "hang"}, TimedOutError),
    ],
)
@pytest.mark.parametrize("awaited", [False, True])
def test_what_goes_wrong_on_the_wire_is_ours(server, fault, kind, awaited):
    """Whatever a provider sends or does not send, threads and event loops get the same error, in time."""
    timeout_s = 0.5 if kind is TimedOutError else 60
    adapter, task = at(server, timeout_s=timeout_s), dx.signature("question -> answer")
    server.set_faults([fault])
    ask = (lambda: asyncio.run(_asked(adapter, task))) if awaited else lambda: _ask(adapter, task)
    with pytest.raises(kind) as caught:
        ask()
    adapter.close()
    assert "openai/large" in str(caught.value)
    assert len(str(caught.value).splitlines()) < 25


def _ask(adapter, task):
    return adapter.generate(task, question="?")


async def _asked(adapter, task):
    async with adapter:
        return await adapter.agenerate(task, question="?")


def test_a_stream_of_too_much_is_a_bad_answer(server):
    """A stream whose lines never end is the provider's bad answer, not its absence."""
    server.set_faults([{"kind": "huge"}])
    with at(server) as adapter, pytest.raises(BadResponseError, match="exceeds limit"):
        list(adapter.stream(dx.signature("question -> answer"), question="?"))


def test_the_deadline_in_force_bounds_an_answer(server):
    """An answer may take no longer than the deadline leaves, and none is asked for after it."""
    adapter, task = at(server), dx.signature("question -> answer")
    server.set_faults([{"kind": "hang"}])
    with within(0.2), pytest.raises(TimedOutError):
        adapter.generate(task, question="?")
    seen = len(server.calls)
    with within(0), pytest.raises(TimedOutError) as caught:
        adapter.generate(task, question="?")
    assert len(server.calls) == seen
    assert not caught.value.possibly_billed
    adapter.close()


def test_wrong_keys_models_and_providers_are_said(monkeypatch):
    """A missing or wrong key, and a model or provider that is not there, each say what to do."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    task = dx.signature("question -> answer")
    with sandbox.serve(api_key="sk-right-0123456789") as server:
        with pytest.raises(AuthenticationError, match="OPENAI_API_KEY"):
            dx.adapters.direct("openai/large", api_base=server.url).generate(task, question="?")
        with (
            dx.adapters.direct("openai/large", api_base=server.url, api_key="sk-wrong-0123456789") as wrong,
            pytest.raises(AuthenticationError) as caught,
        ):
            wrong.generate(task, question="?")
        assert "sk-wrong" not in str(caught.value)
        with (
            dx.adapters.direct("openai/nope", api_base=server.url, api_key="sk-right-0123456789") as nobody,
            pytest.raises(ModelNotFoundError, match="nope"),
        ):
            nobody.generate(task, question="?")
    with pytest.raises(dx.DspexError, match="nobody/model"):
        dx.adapters.direct("nobody/model")


def test_a_gateway_in_the_environment_is_kept_to(server, monkeypatch):
    """A key that is meant for a gateway goes to the gateway."""
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    with dx.adapters.direct("openai/large") as adapter:
        assert adapter.generate(dx.signature(TYPED), question=QUESTION)["answer"] in (220, 265)


@pytest.mark.parametrize("settings", [{"timeout_s": 0}, {"concurrency": 0}, {"max_bytes": -1}])
def test_settings_out_of_range_are_refused(settings):
    """A setting that cannot work is refused when the adapter is made."""
    with pytest.raises(DefinitionError, match=next(iter(settings))):
        dx.adapters.direct("openai/gpt-4o-mini", api_key="any", **settings)


def test_a_spec_is_not_a_prompt():
    """A spec with inputs is told how to become a signature."""
    with pytest.raises(DefinitionError, match=r"dspex\.signature"):
        dx.adapters.direct(sandbox.lm("small")).generate("question -> answer", question="?")
