"""Local models as `dspy.LM`: asked by DSPy, by dspex, one by one and many at once."""

from __future__ import annotations

import asyncio
import copy
import pickle

import dspy
import pytest
from dspy.utils.exceptions import ContextWindowExceededError, LMUnsupportedFeatureError

import dspex as dx
from dspex import errors
from dspex.errors import DefinitionError, UnknownNameError
from dspex.neural.models import LocalModel
from dspex.records import Prompt

TIMEOUT_S = 60


@pytest.fixture
def talk(talker, pool):
    return dx.local_lm(talker, pool=pool.name)


@pytest.fixture
def answer(plain, pool):
    return dx.local_lm(plain, pool=pool.name)


def ask(text, **options):
    return Prompt("local/talker", "", (("user", text),), **options)


def test_a_folder_answers(talk):
    """It is called by its folder's name, costs nothing, and counts its tokens."""
    assert talk.model == "local/talker"
    assert talk("xyzuv") == ["wxyz"]
    usage = talk.history[-1]["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (5, 5)
    assert dx.local_lm(talk._engine_spec.generator._state["path"], name="mine/own").model == "mine/own"


def test_settings_reach_the_model(talk):
    """Temperature, seed, length and stops, from the model's own settings or a call's."""
    assert talk("a", max_tokens=3) == ["bcd"]
    assert talk("a", stop=["hi"]) == ["bcdefg"]
    tosses = [talk("?", temperature=1.0, seed=3, max_tokens=30) for _ in range(2)]
    assert tosses[0] == tosses[1] != talk("?", temperature=1.0, seed=4, max_tokens=30)
    assert talk.copy(max_tokens=2)("a") == ["bc"]


def test_predict_runs_on_it(answer):
    """A DSPy module finds its fields in what the model writes."""
    with dspy.context(lm=answer):
        assert dspy.Predict("question -> answer")(question="2 + 2?").answer == "four"


def test_execute_runs_on_it(answer):
    """A dspex session takes it as any model."""
    runtime = dx.configure([answer], adapters="bridged", store="memory")  # it has learned DSPy's format alone
    result = dx.execute("question -> answer", question="2 + 2?")
    runtime.close()
    assert (result.answer, result.decision.strategy.model) == ("four", "local/plain")


def test_adapters_ask_it_plainly(talk, pool):
    """A plain prompt reaches it as it is, whole and in pieces, for threads and event loops; what it took is counted."""
    runtime = dx.configure([talk], store="memory")
    with dx.adapters.direct(talk) as asks:
        answer = asks.generate("xyzuv")
        assert (answer.text, answer.usage.tokens_in, answer.usage.calls) == ("wxyz", 5, 1)
        assert "".join(each.text for each in asks.stream("a")) == ("bcdefghijklmnopqrstuvwxyz")
        assert asyncio.run(asks.agenerate("x")).text == "yz"
        with pytest.raises(errors.ContextWindowExceededError, match="600 tokens"):
            asks.generate("a" * 600)
        pieces = asks.stream("?")
        next(pieces)
        pieces.close()
        assert asks.generate("x").text == "yz"
    assert runtime.spending.total.calls == 4
    assert pool.stats().running == 0
    runtime.close()


def test_execute_asks_it_plainly_too(talk):
    """Without a word about adapters a short task goes to it directly, and streams as it is written."""
    runtime = dx.configure([talk], modules=["Predict"], store="memory")
    stream = dx.stream("question -> answer", question="a")
    assert "".join(stream) == stream.result.answer
    assert stream.result.decision.strategy.adapter == "direct"
    runtime.close()


def test_concurrent_prompts_are_answered_together(talk, pool):
    """Many awaiting callers meet in few batches, and each gets his own answer."""

    async def ask_all():
        letters = "abcdefghijklmnopqrstuvwxy" * 2
        return letters, await asyncio.gather(*(talk.acall(f"say {each}", max_tokens=1) for each in letters))

    before = pool.stats().done
    letters, found = asyncio.run(ask_all())
    assert [each[0] for each in found] == [chr(ord(letter) + 1) for letter in letters]
    assert pool.stats().done - before < 10


def test_words_come_as_they_are_written(talk):
    """A stream gives pieces, and the usage at its end, with and without `await`."""
    engine = talk._engine_spec
    request = dspy.lm15.Request(model="local/talker", messages=(dspy.lm15.Message.user("a"),))
    events = list(engine.stream(request))
    assert [each.type for each in events] == ["start", *["delta"] * 25, "end"]
    assert "".join(each.delta.text for each in events[1:-1]) == "bcdefghijklmnopqrstuvwxyz"
    assert (events[-1].finish_reason, events[-1].usage.output_tokens) == ("stop", 26)

    async def later():
        return [each.type async for each in talk._async_engine_spec.stream(request)]

    assert asyncio.run(later()) == [each.type for each in events]


def test_dspy_streams_it(answer):
    """`dspy.streamify` shows an answer's field while it is written."""
    listen = dspy.streaming.StreamListener(signature_field_name="answer")
    program = dspy.streamify(
        dspy.Predict("question -> answer"), stream_listeners=[listen], async_streaming=False
    )
    with dspy.context(lm=answer):
        *pieces, whole = program(question="2 + 2?")
    assert "".join(each.chunk for each in pieces) == whole.answer == "four"


def test_a_stream_that_is_left_stops_the_model(talk, pool):
    """Whoever stops reading stops the writing: the next call is answered."""
    request = dspy.lm15.Request(model="local/talker", messages=(dspy.lm15.Message.user("?"),))
    pieces = talk._engine_spec.stream(request)
    next(pieces), next(pieces)
    pieces.close()
    assert talk("x") == ["yz"]
    assert pool.stats().running == 0


def test_what_it_cannot_do_is_said_in_dspys_words(talk):
    """A prompt that is too long, and tools, are refused with errors that DSPy knows."""
    with pytest.raises(ContextWindowExceededError, match="600 tokens"):
        talk("a" * 600)
    function = {
        "type": "function",
        "function": {"name": "f", "parameters": {"type": "object", "properties": {}}},
    }
    with pytest.raises(LMUnsupportedFeatureError, match="is not given tools"):
        talk("a", tools=[function])


def test_a_program_with_it_is_saved_and_loaded(answer, tmp_path):
    """What is saved is where the model is; a copy, and one that was pickled, share its worker."""
    program = dspy.Predict("question -> answer")
    program.lm = answer
    program.save(tmp_path / "program.json")
    loaded = dspy.Predict("question -> answer")
    loaded.load(tmp_path / "program.json", allow_unsafe_lm_state=True)
    assert loaded(question="2 + 2?").answer == "four"
    assert copy.deepcopy(program)(question="2 + 2?").answer == "four"
    model = pickle.loads(pickle.dumps(answer._engine_spec.generator))  # noqa: S301  # our own
    assert model.state() == answer._engine_spec.generator.state()


def test_a_folder_that_has_gone_is_said(talker):
    """A saved program that names a folder which is not there says so when it is loaded."""
    with pytest.raises(DefinitionError, match="there is no folder"):
        LocalModel.from_state({"path": str(talker / "gone")})
    with pytest.raises(UnknownNameError, match="unknown pool 'nueral'"):
        dx.local_lm(talker, pool="nueral")


def test_the_model_is_loaded_once_and_again_after_a_loss(talk, pool):
    """It stays in its worker; when that dies, the next question loads it anew."""
    talk("x")
    (session,) = [each for name, each in pool.sessions.items() if name.endswith("talker auto")]
    lost = session.stats.lost
    pool.submit(_die, idempotent=False, session=session).exception(TIMEOUT_S)
    assert talk("x") == ["yz"]
    assert session.stats.lost == lost + 1


def _die(_):
    import os

    os._exit(1)


def test_replicas_answer_at_the_same_time(talker, pool):
    """With two replicas two workers have the model, and two batches are under way."""
    model = LocalModel(str(talker), pool=pool.name, replicas=2, max_batch=1)
    futures = [model.submit(ask("?", max_tokens=200, temperature=1.0)) for _ in range(8)]
    assert {len(each.result(TIMEOUT_S).text) for each in futures} == {200}
    session = pool.sessions[f"model {talker} auto x2"]
    assert sum(session.key in slot.sessions for slot in pool._engine.slots) == 2
