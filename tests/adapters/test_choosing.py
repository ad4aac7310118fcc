"""Which adapter a call takes: by rule at first, by what was learned later, by the user's word always."""

import asyncio

import pytest

import dspex as dx
from dspex.adapters.conformance import QUESTION
from dspex.errors import DefinitionError, ExecutionError, UnavailableError
from dspex.records import Execution, Strategy, Usage

SEVERAL = "question -> answer: int, confidence: probability"


@pytest.fixture
def one():
    """Make a session with one model, that may choose its adapter."""
    from dspex import session

    yield session.configure(["sandbox/large"], store="memory", adapters="auto", exploration=0)
    session.current().close()


def chosen(spec, **inputs):
    return dx.explain(dx.signature(spec), inputs or {"question": "Why?"}).strategy.adapter


@pytest.mark.parametrize(
    ("spec", "inputs", "adapter"),
    [
        ("question -> answer", {"question": "Why?"}, "direct"),
        (SEVERAL, {"question": "Why?"}, "structured"),
        ("question -> answer: list[str]", {"question": "Why?"}, "structured"),
        ("question -> answer", {"question": "Why? " * 2_000}, "bridged"),
        ("question -> answer", {"question": "x" * 1_200}, "bridged"),
    ],
)
def test_requirements_choose_at_first(one, spec, inputs, adapter):
    """A schema is held to it, a short plain task is asked directly, everything else is DSPy's."""
    assert chosen(spec, **inputs) == adapter


def test_inputs_of_dspys_own_types_are_dspys():
    """What only DSPy knows how to send is left to it."""
    import dspy

    from dspex.orchestrator.analyze import suited_adapter

    task = dx.signature("picture: Image -> caption", types={"Image": dspy.Image})
    assert suited_adapter(task, "low") == "bridged"


def test_what_is_learned_overrides_the_rule(one):
    """An adapter that turns out slow is left for the one that is not, and comes back with a better record."""
    task = dx.signature("question -> answer")
    assert chosen("question -> answer") == "direct"
    asked = _requirements(task)
    slow, quick = (Strategy("sandbox/large", "Predict", name) for name in ("direct", "bridged"))
    one.orchestrator.replay(
        Execution(
            f"{strategy}{n}", float(n), asked, strategy, "policy", {}, True, Usage(1, 9, 9, 1e-5, seconds)
        )
        for n in range(30)
        for strategy, seconds in ((slow, 30.0), (quick, 0.2))
    )
    assert chosen("question -> answer") == "bridged"


def test_the_users_word_is_kept_to_and_written_down(one):
    """A call takes the adapter it was given; decision, trace and history say so."""
    for name in ("direct", "structured", "bridged"):
        result = dx.execute("question -> answer", question=QUESTION, adapter=name)
        assert result.decision.strategy.adapter == name
        assert result.decision.configuration == {"adapter": name}
        assert any(f"adapter='{name}'" in step.detail for step in result.trace)
    assert list(dx.history()["adapter"]) == ["bridged", "structured", "direct"]


def test_a_strategy_may_be_pinned_with_its_adapter(one):
    """A pin names the adapter too."""
    pin = Strategy("sandbox/large", "ChainOfThought", "structured")
    result = dx.execute(SEVERAL, question=QUESTION, pin=pin)
    assert result.decision.strategy == pin
    assert {"reasoning", "answer", "confidence"} == set(result)


def offered(spec="question -> answer"):
    return {str(each.strategy) for each in dx.explain(spec, question="Why?").alternatives}


def adapters_offered(spec="question -> answer"):
    return {each.strategy.adapter for each in dx.explain(spec, question="Why?").alternatives}


def test_without_a_word_every_adapter_may_be_chosen(runtime):
    """A session that says nothing chooses by rule, and writes no wish down that nobody had."""
    assert adapters_offered() == {"direct", "structured", "bridged"}
    result = dx.execute("question -> answer", question=QUESTION, explore=False)
    assert (result.decision.strategy.adapter, result.decision.configuration) == ("direct", {})


def test_a_session_may_stay_with_dspy():
    """The adapters that a session names are the ones there are, for streams too."""
    dx.configure(["sandbox/large"], store="memory", adapters="bridged")
    assert adapters_offered() == {"bridged"}
    assert len(list(dx.stream("question -> answer", question=QUESTION))) == 1
    assert dx.explain("question -> answer", question="?", adapter="direct").strategy.adapter == "direct"


def test_a_format_that_was_chosen_is_kept_to(runtime):
    """Who tells DSPy which adapter to use gets that one; to accelerate DSPy chooses nothing."""
    import dspy

    with dspy.context(adapter=dspy.JSONAdapter()):
        assert adapters_offered() == {"bridged"}
        assert dx.explain("q -> a", q="?", adapter="direct").strategy.adapter == "direct"
    with dx.accelerated():
        assert adapters_offered() == {"direct", "structured", "bridged"}
        with dspy.context(adapter=dspy.JSONAdapter()), dx.accelerated():
            assert adapters_offered() == {"bridged"}


def test_of_models_of_ones_own_nothing_is_taken_for_granted(runtime):
    """A class of one's own may speak DSPy's format alone; it is asked by other adapters when that is wanted."""
    from dspy.utils import DummyLM

    class Mine(DummyLM):
        pass

    dx.configure([Mine([{"answer": "Paris"}] * 3), "sandbox/large"], store="memory")
    assert {each for each in offered() if each.startswith("dummy")} == {
        "dummy · Predict",
        "dummy · ChainOfThought",
    }
    assert "sandbox/large · Predict · direct" in offered()
    pin = Strategy("dummy", "Predict")
    assert dx.execute("question -> answer", question="?", pin=pin).answer == "Paris"
    chosen = dx.explain("question -> answer", question="?", adapter="direct")
    assert "dummy · Predict · direct" in {str(each.strategy) for each in chosen.alternatives}


def test_a_module_that_is_only_called_like_dspys_runs_itself():
    """What a class of one's own does, no adapter can do in its place."""
    import dspy

    class Predict(dspy.Module):
        def __init__(self, signature):
            super().__init__()

        def forward(self, **inputs):
            return dspy.Prediction(answer="mine")

    dx.configure(["sandbox/large"], modules=[Predict], store="memory")
    assert offered() == {"sandbox/large · Predict"}
    assert dx.execute("question -> answer", question="?").answer == "mine"


def test_a_provider_that_fails_is_asked_again_by_the_same_adapter(server):
    """Another adapter of the same model is no way out of an outage: the guard waits and asks again."""
    import dspy

    lm = dspy.LM("openai/large", api_base=server.url, api_key="any", cache=False)
    dx.configure([lm], store="memory", exploration=0)
    server.set_faults([{"kind": "server_error", "calls": [0, 2]}])
    before = len(server.calls)
    result = dx.execute("question -> answer", question=QUESTION, explore=False)
    assert str(result.decision.strategy) == "openai/large · Predict · direct"
    assert len(server.calls) == before + 3
    assert list(dx.history()["ok"]) == [True]


def test_adapters_of_ones_own_are_asked_alone(runtime):
    """An adapter that is handed over answers, and is learned from like any other."""
    adapter = dx.adapters.scripted({"buttons": "265"}, model="mine")
    result = dx.execute("question -> answer", question=QUESTION, adapter=adapter)
    assert (result.answer, str(result.decision.strategy)) == ("265", "mine · Predict · scripted")
    assert len(adapter.calls) == 1


def test_an_adapter_that_fails_says_why(runtime):
    """What one's own adapter raises is in the error."""
    failing = dx.adapters.scripted(failure_rate=1, failures=[UnavailableError("the cat sat on it")])
    with pytest.raises(ExecutionError, match="the cat sat on it"):
        dx.execute("question -> answer", question="?", adapter=failing, timeout_s=0.5)


def test_unreadable_answers_do_not_count_against_the_provider(one):
    """A model that answers in another form is well: its breaker stays closed."""
    task = dx.signature("question -> answer: int")
    for _ in range(6):
        with pytest.raises(ExecutionError):
            dx.execute(task, question="Who are you?", adapter="direct")
    assert one.protection.guards.find("sandbox/large").refusal() is None


@pytest.mark.parametrize("adapter", ["direct", "structured"])
def test_programs_run_as_they_are(one, adapter):
    """A program takes its own way; with another adapter it would be another program."""
    import dspy

    with pytest.raises(DefinitionError, match="program"):
        dx.execute(dspy.Predict("question -> answer"), question="?", adapter=adapter)


def test_registries_need_dspys_programs(one):
    """Values of a registry are set on programs, so another adapter is refused with them."""
    registry = dx.Registry(dx.Space(temperature=dx.Float(0, 1, default=0.5)))
    with pytest.raises(DefinitionError, match="registry"):
        dx.execute("question -> answer", question="?", space=registry, adapter="direct")


def test_modules_that_no_lean_adapter_takes_are_said():
    """An adapter that can take none of the session's modules says which it takes."""
    from dspex import session

    session.configure(["sandbox/large"], store="memory", modules=["ChainOfThought"])
    with pytest.raises(DefinitionError, match="direct adapter takes Predict"):
        dx.execute("question -> answer", question="?", adapter="direct")
    session.current().close()


def test_another_draw_is_another_draw_by_every_adapter(one, monkeypatch):
    """The number of a draw reaches the model, however it is asked."""
    seen = []
    answerer = one.lm("sandbox/large").engine.answerer
    answer = answerer.answer
    monkeypatch.setattr(answerer, "answer", lambda prompt: seen.append(prompt.rollout) or answer(prompt))
    for name in ("direct", "structured", "bridged"):
        dx.execute("question -> answer", question=QUESTION, adapter=name, rollout_id=7)
    dx.execute("question -> answer", question=QUESTION, adapter="direct")
    assert seen[-1] == 0
    assert set(seen[:-1]) == {7}


# ── streams ─────────────────────────────────────────────────────────────────────────────────────


def test_streams_take_an_adapter_that_streams(runtime):
    """Without a word, a stream is direct for one text and structured for more; it brings what execute would."""
    plain = dx.stream("question -> answer", question=QUESTION)
    pieces = list(plain)
    assert len(pieces) > 1
    assert plain.result.answer == "".join(pieces)
    assert plain.result.decision.strategy.adapter == "direct"
    more = dx.stream(SEVERAL, question=QUESTION)
    assert more.result.decision.strategy.adapter == "structured"
    assert 0 <= more.result.confidence <= 1


def test_streams_are_for_event_loops_too(runtime):
    """Pieces arrive with ``async for``, and a module that DSPy runs brings its answer in one."""

    async def read(stream):
        return [piece async for piece in stream]

    stream = dx.stream("question -> answer", question=QUESTION, adapter="bridged")
    assert asyncio.run(read(stream)) == [stream.result.answer]


def test_another_model_streams_if_the_first_fails_at_once(server):
    """A provider that fails before its first piece is replaced, and nobody sees a thing."""
    import dspy

    from dspex import session

    broken = dspy.LM("openai/broken", api_base="http://127.0.0.1:9/v1", api_key="any")
    session.configure([broken, "sandbox/large"], store="memory")
    pin = Strategy("openai/broken", "Predict", "direct")
    stream = dx.stream("question -> answer", question=QUESTION, explore=False, adapter="direct")
    assert "".join(stream) == stream.result.answer
    with pytest.raises(ExecutionError):
        list(dx.stream("question -> answer", question=QUESTION, pin=pin, adapter="direct"))
    session.current().close()


def test_nothing_is_said_twice(server):
    """A provider that fails in the middle ends the stream: what was shown stays, and nobody else is asked."""
    import dspy

    from dspex import session

    lm = dspy.LM("openai/large", api_base=server.url, api_key="any")
    session.configure([lm, "sandbox/small"], store="memory", exploration=0)
    server.set_faults([{"kind": "cut"}])
    before = len(server.calls)
    pin = Strategy("openai/large", "Predict", "direct")
    stream = iter(dx.stream("question -> answer", question="Tell me a story", pin=pin, adapter="direct"))
    assert next(stream)
    with pytest.raises(ExecutionError, match="were shown"):
        list(stream)
    assert len(server.calls) == before + 1
    history = dx.history()
    assert (len(history), history["ok"][0]) == (1, False)
    assert "were shown" in history["error"][0]
    session.current().close()


def _requirements(task):
    from dspex.orchestrator.analyze import analyze

    return analyze(task, {"question": "Why?"})
