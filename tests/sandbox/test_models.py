import asyncio
import json
import pickle
import statistics
import subprocess
import sys
from collections import Counter

import dspy
import pytest
from dspy.utils.exceptions import AdapterParseError

from dspex import sandbox
from dspex.bridge.observe import metered
from dspex.errors import UnknownNameError
from dspex.records import Price, Prompt
from dspex.sandbox.writing import UNKNOWN

MESSAGE = "I was charged twice for the desk lamp, $20 each time."


def plain(text=MESSAGE, **settings):
    return Prompt("sandbox/small", "", (("user", text),), **settings)


def test_same_request_has_the_same_answer():
    """Asking again changes nothing, whatever was asked in between."""
    model = sandbox.SimulatedModel("small", seed=5)
    first = model.answer(plain(temperature=1.0))
    model.answer(plain("Where is my parcel?"))
    assert model.answer(plain(temperature=1.0)) == first


def test_other_processes_give_the_same_answers():
    """Answers do not depend on the process's hash seed."""
    code = (
        "from dspex import sandbox; from dspex.records import Prompt; model = sandbox.SimulatedModel('small', seed=5);"
        f"print([model.answer(Prompt('m', '', (('user', f'{MESSAGE} {{n}}'),))).text for n in range(20)])"
    )
    outputs = {
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
        for _ in range(2)
    }
    model = sandbox.SimulatedModel("small", seed=5)
    here = [model.answer(plain(f"{MESSAGE} {n}")).text for n in range(20)]
    assert outputs == {f"{here}\n"}
    assert set(here) > {"refund"}


def test_import_stays_light():
    """Importing the sandbox does not import DSPy."""
    code = "import dspex.sandbox, sys; dspex.sandbox.task('triage').optimum([{}]); assert 'dspy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_seed_is_another_model():
    """Models with different seeds are wrong about different things."""
    answers = [sandbox.SimulatedModel("small", seed=seed).answer(plain()).text for seed in range(20)]
    assert set(answers) == {"refund", "billing", "shipping"}


def test_resampling_draws_repeated_requests_anew():
    """With resample=True a repeated warm request varies; a cold one and the default do not."""
    fresh = sandbox.SimulatedModel("small", resample=True)
    assert len({fresh.answer(plain(temperature=1.0)).text for _ in range(20)}) > 1
    assert len({fresh.answer(plain(temperature=0.0)).text for _ in range(20)}) == 1


def test_wrong_answers_are_what_one_gets_without_a_rule(program_of):
    """Most mistakes about a double charge are the label that holds without the rule."""
    program = program_of(sandbox.task("triage"))
    counts = Counter()
    for seed in range(60):
        with dspy.context(lm=sandbox.lm("small", seed=seed, temperature=0.0)):
            counts[program(message=MESSAGE).label] += 1
    assert counts["billing"] > counts["shipping"] > 0
    assert counts["refund"] > 0


def test_reasoning_is_written_when_asked_for(program_of):
    """A chain of thought names what the message is about."""
    with dspy.context(lm=sandbox.lm("large", temperature=0.0)):
        answer = program_of(sandbox.task("triage"), "ChainOfThought")(message=MESSAGE)
    assert "The message is about billing." in answer.reasoning


@pytest.mark.parametrize("adapter", ["ChatAdapter", "JSONAdapter", "XMLAdapter"])
def test_unreadable_answers_occur_and_are_bounded(adapter, program_of):
    """Some answers break the format, more of them in heat, and every adapter notices."""
    task = sandbox.task("triage")
    options = {"use_json_adapter_fallback": False} if adapter != "JSONAdapter" else {}
    program, failed = program_of(task), Counter()
    with dspy.context(adapter=getattr(dspy, adapter)(**options)):
        for temperature in (0.0, 1.5):
            program.set_lm(sandbox.lm("small", temperature=temperature))
            failed[temperature] = sum(fails(program, example) for example in task.dev)
    assert 0 < failed[0.0] < 30
    assert failed[0.0] < failed[1.5] < 90


def is_right(task, program, example):
    return not fails(program, example) and task.metric(example, program(**example.inputs()))


def fails(program, example):
    try:
        program(**example.inputs())
    except AdapterParseError:
        return True
    return False


def test_adapters_share_most_mistakes(program_of):
    """An example that is hard in one format is mostly hard in another: luck belongs to the example."""
    task = sandbox.task("triage")
    program, rights = program_of(task), []
    for adapter in (dspy.ChatAdapter(), dspy.JSONAdapter()):
        with dspy.context(lm=sandbox.lm("medium", temperature=0.1), adapter=adapter):
            rights.append([is_right(task, program, example) for example in task.dev[:150]])
    agree = sum(one == other for one, other in zip(*rights, strict=True)) / 150
    assert agree > 0.8


@pytest.mark.parametrize("adapter", ["ChatAdapter", "JSONAdapter", "XMLAdapter"])
def test_unknown_texts_get_typed_answers(adapter):
    """A text of no task is answered with values of the right types, and text says that it is simulated."""
    program = dspy.Predict(
        "question -> name, n: int, share: float, ok: bool, kind: Literal['a', 'b'], parts: list[str]"
    )
    with dspy.context(lm=sandbox.lm("large"), adapter=getattr(dspy, adapter)()):
        answer = program(question="How are you?")
    assert answer.name == UNKNOWN
    assert 1 <= answer.n <= 9
    assert 0 <= answer.share <= 1
    assert isinstance(answer.ok, bool)
    assert answer.kind in ("a", "b")
    assert answer.parts == []


def test_other_field_names_are_understood():
    """A signature of one's own gets the answer in the field that can hold it."""
    program = dspy.Predict("ticket -> why, team: Literal['billing', 'refund', 'shipping'], confidence: float")
    with dspy.context(lm=sandbox.lm("large", temperature=0.0, seed=2)):
        answer = program(ticket=MESSAGE)
    assert answer.team in ("billing", "refund")
    assert 0 < answer.confidence < 1


def test_max_tokens_cut_the_answer():
    """An answer that is too long ends early and says so."""
    completion = sandbox.SimulatedModel("small").answer(plain("Hello", max_tokens=3))
    assert completion.text == UNKNOWN[:12]
    assert completion.finish_reason == "length"
    assert completion.usage.tokens_out == 3


def test_usage_follows_length_and_price():
    """Tokens are a quarter of the characters, and dollars follow from them."""
    usage = sandbox.SimulatedModel("large").answer(plain("x" * 400)).usage
    assert (usage.calls, usage.tokens_in) == (1, 100)
    assert usage.cost_usd == pytest.approx((100 * 3 + usage.tokens_out * 12) / 1e6)
    assert sandbox.price("sandbox/large") == Price(3.0, 12.0)


def test_latency_grows_with_the_model_and_the_answer(program_of):
    """Slower models and longer answers take longer; nobody waits for it."""
    task = sandbox.task("arithmetic")
    medians = {}
    for name in ("small", "large"):
        for module in ("Predict", "ChainOfThought"):
            program, seconds = program_of(task, module), []
            for example in task.dev[:40]:
                with dspy.context(lm=sandbox.lm(name, temperature=0.0)), metered() as meter:
                    program(**example.inputs())
                seconds.append(meter.usage.latency_s)
            medians[name, module] = statistics.median(seconds)
    assert (
        medians["small", "Predict"] < medians["small", "ChainOfThought"] < medians["large", "ChainOfThought"]
    )
    assert medians["large", "Predict"] == pytest.approx(sandbox.typical_latency_s("large"), rel=0.4)
    assert [sandbox.typical_latency_s(model) for model in sandbox.MODELS] == [0.4, 0.9, 2.2]


def test_real_latency_sleeps(monkeypatch):
    """real_latency=True waits for the simulated latency."""
    slept = []
    monkeypatch.setattr("time.sleep", slept.append)
    usage = sandbox.SimulatedModel("small", real_latency=True).answer(plain()).usage
    assert slept == [usage.latency_s]


def test_json_schema_requests_are_answered_in_json(program_of):
    """DSPy's JSON adapter gets an object with the signature's fields."""
    lm = sandbox.lm("large", temperature=0.0)
    with dspy.context(lm=lm, adapter=dspy.JSONAdapter()):
        program_of(sandbox.task("extraction"))(**sandbox.task("extraction").dev[0].inputs())
    assert list(json.loads(lm.history[-1]["outputs"][0])) == ["span"]


def test_async_and_streams_answer_alike(program_of):
    """Awaiting and streaming give what calling gives."""
    task = sandbox.task("extraction")
    program, example = program_of(task), task.dev[0]
    listener = dspy.streaming.StreamListener(signature_field_name="span")
    stream = dspy.streamify(program, stream_listeners=[listener])

    async def gather():
        awaited = await program.acall(**example.inputs())
        pieces = [piece async for piece in stream(**example.inputs())]
        return awaited, pieces

    with dspy.context(lm=sandbox.lm("large", temperature=0.0)):
        called = program(**example.inputs())
        awaited, pieces = asyncio.run(gather())
    assert called.span == awaited.span == pieces[-1].span
    assert "".join(piece.chunk for piece in pieces[:-1]) == called.span


def test_saved_model_comes_back_whole():
    """DSPy's own state, pickle and our state keep every option."""
    faults = sandbox.Faults(rate_limit=0.25, retry_after_s=1.5, outage=(900, 901), slow=(0.5, 3.0))
    lm = sandbox.lm("medium", seed=3, resample=True, faults=faults, temperature=0.4)
    state = json.loads(json.dumps(lm.dump_state()))
    loaded = dspy.LM.load_state(state, allow_custom_lm_class=True)
    wanted = {"name": "medium", "seed": 3, "resample": True, "real_latency": False, "faults": faults.state()}
    for copy in (loaded, pickle.loads(pickle.dumps(lm))):  # noqa: S301  # our own bytes
        answerer = copy._engine_spec.answerer
        assert answerer.state() == wanted
        assert answerer.faults == faults
        assert copy.kwargs["temperature"] == 0.4


def test_unknown_model_is_refused_with_the_nearest():
    """A misspelt model names the ones there are."""
    with pytest.raises(UnknownNameError, match="unknown sandbox model 'smal'"):
        sandbox.lm("smal")
