import asyncio
import json
import threading
from dataclasses import dataclass
from typing import Any

import dspy
import pytest

from dspex.bridge import lm as bridge
from dspex.bridge import prices
from dspex.bridge.observe import metered
from dspex.errors import DefinitionError, RateLimitedError, UnavailableError
from dspex.records import Completion, Price, Prompt, Usage


@dataclass
class Parrot:
    """Answers with a text of its own, or raises; remembers what it was asked."""

    text: str = "polly"
    error: Any = None
    finish: str = "stop"

    def __post_init__(self):
        self.asked: list[Prompt] = []

    def answer(self, prompt):
        self.asked.append(prompt)
        if self.error is not None:
            raise self.error
        return Completion(self.text, Usage(1, 100, 20, 0.5, 2.5), self.finish)

    def state(self):
        return {"text": self.text}

    @classmethod
    def from_state(cls, state):
        return cls(**state)


@pytest.fixture(autouse=True)
def own_prices(monkeypatch):
    monkeypatch.setattr(prices, "_declared", {})


def lm_of(parrot, **settings):
    return bridge.from_answerer("parrot/one", parrot, Price(10, 100), **settings)


# ── answering ───────────────────────────────────────────────────────────────────────────────────


def test_answers_through_dspy():
    """The model answers DSPy's calls; cache and retries are off, its price is declared."""
    parrot = Parrot()
    lm = lm_of(parrot)
    assert lm("hello") == ["polly"]
    assert lm("hello") == ["polly"]
    assert len(parrot.asked) == 2
    assert (lm.model, lm.cache, lm.num_retries) == ("parrot/one", False, 0)
    assert prices.price_of("parrot/one") == Price(10, 100)


def test_the_prompt_is_plain_data():
    """System text, messages, sampling settings and the model's name arrive as a record."""
    parrot = Parrot()
    lm = lm_of(parrot)
    said = (dspy.lm15.Message.user("hello"), dspy.lm15.Message.assistant("hi"), dspy.lm15.Message.user("bye"))
    config = dspy.lm15.Config(temperature=0.25, max_tokens=50)
    lm(dspy.lm15.Request(model="parrot/one", system="Be kind.", messages=said, config=config))
    assert parrot.asked == [
        Prompt(
            "parrot/one",
            "Be kind.",
            (("user", "hello"), ("assistant", "hi"), ("user", "bye")),
            temperature=0.25,
            max_tokens=50,
        )
    ]


def test_settings_of_the_model_reach_the_prompt():
    """Sampling settings of the model are part of each prompt."""
    parrot = Parrot()
    lm_of(parrot, temperature=0.25, max_tokens=50)("hello")
    assert (parrot.asked[0].temperature, parrot.asked[0].max_tokens) == (0.25, 50)


def test_settings_left_out_are_none():
    """What the caller does not say is left to the model."""
    parrot = Parrot()
    lm_of(parrot)("hello")
    assert (parrot.asked[0].temperature, parrot.asked[0].max_tokens, parrot.asked[0].response_schema) == (
        None,
    ) * 3


def test_settings_may_ask_for_the_cache():
    """Settings that are given win over ours."""
    lm = lm_of(Parrot(), cache=True, num_retries=2)
    assert (lm.cache, lm.num_retries) == (True, 2)


SCHEMA = {"type": "object", "properties": {"x": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("asked", "schema"),
    [
        ({"type": "json_object"}, {}),
        ({"type": "json_schema", "json_schema": {"name": "X", "schema": SCHEMA}}, SCHEMA),
    ],
)
def test_a_schema_is_passed_on(asked, schema):
    """An answer in JSON is asked for with its schema, or with none for any object."""
    parrot = Parrot(text='{"x": 3}')
    lm_of(parrot)("hello", response_format=asked)
    assert parrot.asked[0].response_schema == schema


def test_usage_and_finish_reason_are_told(caplog):
    """DSPy learns how many tokens an answer took, and that it was cut off."""
    lm = lm_of(Parrot(finish="length"), max_tokens=5)
    lm("hello")
    usage = lm.history[-1]["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (100, 20)
    assert "truncated" in caplog.text


def test_async_answers_are_the_same_and_leave_the_loop_free():
    """`acall` gives the same answer; several wait side by side."""
    meeting = threading.Barrier(5, timeout=10)

    class Guest(Parrot):
        def answer(self, prompt):
            meeting.wait()  # none leaves before all five are asked
            return super().answer(prompt)

    async def both():
        lm = lm_of(Guest())
        return await asyncio.gather(*(lm.acall("hello") for _ in range(5)))

    assert asyncio.run(both()) == [["polly"]] * 5


def test_async_calls_are_metered():
    """The seconds that an async answer pretends to take reach the meter of the caller."""

    async def ask():
        with metered() as meter:
            await lm_of(Parrot()).acall("hello")
        return meter.usage

    usage = asyncio.run(ask())
    assert usage == Usage(1, 100, 20, pytest.approx(100 * 10e-6 + 20 * 100e-6), 2.5)


@pytest.mark.parametrize("text", ["The answer is forty-two, and that is that.", "a", ""])
def test_streamed_pieces_make_the_answer(text):
    """A streamed answer comes in a few pieces that join to the whole."""
    lm = lm_of(Parrot(text=text))
    engine = lm._engine_spec
    request = dspy.lm15.Request(model="parrot/one", messages=(dspy.lm15.Message.user("hello"),))
    events = list(engine.stream(request))
    deltas = [event.delta.text for event in events if isinstance(event, dspy.lm15.StreamDeltaEvent)]
    assert "".join(deltas) == text
    assert len(deltas) <= 8
    assert isinstance(events[0], dspy.lm15.StreamStartEvent)
    assert isinstance(events[-1], dspy.lm15.StreamEndEvent)


def test_dspy_can_stream_it():
    """`dspy.streamify` gives pieces of the field and then the prediction."""
    text = "[[ ## answer ## ]]\none two three four five six seven eight nine ten\n\n[[ ## completed ## ]]"
    predict = dspy.streamify(
        dspy.Predict("question -> answer"),
        stream_listeners=[dspy.streaming.StreamListener(signature_field_name="answer")],
    )

    async def listen():
        with dspy.context(lm=lm_of(Parrot(text=text))):
            return [piece async for piece in predict(question="?")]

    pieces = asyncio.run(listen())
    assert pieces[-1].answer == "one two three four five six seven eight nine ten"
    chunks = [piece.chunk for piece in pieces[:-1] if isinstance(piece, dspy.streaming.StreamResponse)]
    assert len(chunks) > 1
    assert "".join(chunks).strip() == pieces[-1].answer


# ── failures ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("error", "kind", "wait_s"),
    [
        (RateLimitedError("slow down", retry_after_s=2.5), dspy.LMRateLimitError, 2.5),
        (RateLimitedError("slow down"), dspy.LMRateLimitError, None),
        (UnavailableError("it is down"), dspy.LMServerError, None),
    ],
)
@pytest.mark.parametrize("way", ["call", "acall"])
def test_failures_become_dspys(error, kind, wait_s, way):
    """A rate limit and an outage are DSPy's own errors, with the wait and the message."""
    lm = lm_of(Parrot(error=error))
    with pytest.raises(kind, match=error.message) as caught:
        lm("hello") if way == "call" else asyncio.run(lm.acall("hello"))
    assert caught.value.retry_after == wait_s
    assert caught.value.model == "parrot/one"


def test_bugs_of_an_answerer_stay_visible():
    """An answerer's own mistake is not dressed up as a provider's failure."""
    with pytest.raises(Exception, match="a bug") as caught:
        lm_of(Parrot(error=ZeroDivisionError("a bug")))("hello")
    assert not isinstance(caught.value, (dspy.LMRateLimitError, dspy.LMServerError))


# ── saving and loading ──────────────────────────────────────────────────────────────────────────


def test_a_saved_program_brings_its_model_along(tmp_path):
    """A program that is tied to an answerer is saved and loaded with it, once that is allowed."""
    program = dspy.Predict("question -> answer")
    text = "[[ ## answer ## ]]\nhi\n\n[[ ## completed ## ]]"
    program.lm = lm_of(Parrot(text=text), temperature=0.5)
    path = tmp_path / "program.json"
    program.save(path)
    loaded = dspy.Predict("question -> answer")
    with pytest.raises(ValueError, match="allow_unsafe_lm_state"):
        loaded.load(path)
    loaded.load(path, allow_unsafe_lm_state=True)
    assert loaded(question="?").answer == "hi"
    assert (loaded.lm.model, loaded.lm.kwargs["temperature"], loaded.lm.cache) == ("parrot/one", 0.5, False)


def test_state_goes_round():
    """`dump_state` is JSON, and loading it makes a model that answers the same, also to `await`."""
    lm = lm_of(Parrot(text="squawk"))
    state = json.loads(json.dumps(lm.dump_state()))
    loaded = dspy.BaseLM.load_state(state, allow_custom_lm_class=True)
    assert loaded("hello") == ["squawk"]
    assert asyncio.run(loaded.acall("hello")) == ["squawk"]
    assert loaded.dump_state() == lm.dump_state()


def test_copies_share_the_answerer():
    """A copy under other settings asks the same answerer."""
    parrot = Parrot()
    lm_of(parrot).copy(temperature=0.9)("hello")
    assert parrot.asked[0].temperature == 0.9


class Aviary:
    class Parrot(Parrot):
        """An answerer within a class."""


def test_a_nested_answerer_can_be_loaded():
    """An answerer defined within another class is importable too."""
    engine = bridge.AnswererEngine(Aviary.Parrot("hi"))
    assert bridge.AnswererEngine.load_state(engine.dump_state()).answerer.text == "hi"


# ── names ───────────────────────────────────────────────────────────────────────────────────────


def test_a_model_by_name():
    """A DSPy model string makes DSPy's model, with its settings."""
    lm = bridge.from_name("openai/gpt-4o-mini", temperature=0.5, api_key="test")
    assert bridge.is_lm(lm)
    assert (lm.model, lm.kwargs["temperature"]) == ("openai/gpt-4o-mini", 0.5)
    assert not bridge.is_lm("openai/gpt-4o-mini")


@pytest.mark.parametrize("name", ["", "gpt-4o-mini", "openai/", "/gpt", "/"])
def test_bad_names(name):
    """A name without provider or model is refused with examples."""
    with pytest.raises(DefinitionError) as caught:
        bridge.from_name(name)
    assert str(caught.value) == (
        f"a model is written provider/name, got {name!r}\n"
        "  → for example 'openai/gpt-4o-mini', 'ollama_chat/llama3.2' or 'sandbox/small'"
    )


def test_models_are_found_by_whoever_the_session_says(monkeypatch):
    """By name through the session; without one, an object is its own answer and a name is refused."""
    lm = bridge.from_name("openai/x")
    monkeypatch.setattr(bridge, "_find", None)
    assert bridge.named(lm) is lm
    with pytest.raises(DefinitionError, match="there is no session yet that knows the model 'openai/x'"):
        bridge.named("openai/x")
    bridge.find_with(lambda name: lm)
    assert bridge.named("openai/y") is lm
