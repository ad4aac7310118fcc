"""What `execute` does when there is no room: an older answer, then a cheaper model, then a refusal with the wait."""

from __future__ import annotations

import pytest

import dspex as dx
from dspex import session
from dspex.bridge import lm as lm_bridge
from dspex.errors import OverloadedError
from dspex.records import Completion, Price, Usage
from dspex.reliability import Bulkhead, Load, Work

QA = dx.signature("question -> answer", "Answer briefly.", name="QA")
PRICES = {"a/cheap": Price(1.0, 2.0), "b/usual": Price(10.0, 20.0), "c/dear": Price(100.0, 200.0)}
USUAL_FIRST = dx.Objective(quality=1.0, speed=0.0, cheapness=0.0)


class Named:
    """A model that answers with its name."""

    def __init__(self, name):
        self.name = name
        self.calls = 0

    def answer(self, prompt):
        del prompt
        self.calls += 1
        text = f"[[ ## answer ## ]]\n{self.name} {self.calls}\n\n[[ ## completed ## ]]"
        return Completion(text, Usage(1, 100, 20, 0.0, 0.5))

    def state(self):
        return {}


@pytest.fixture
def configure():
    def made(*names, **options):
        runtime = session.configure(
            [lm_bridge.from_answerer(name, Named(name), PRICES[name]) for name in names],
            store="memory",
            objective=USUAL_FIRST,
            exploration=0.0,
            prices={name: PRICES[name] for name in names},
            **{"cache": False, "modules": ["Predict"], "adapters": "bridged", **options},
        )
        like("b/usual", 1.0)
        return runtime

    def like(model, quality):
        for number in range(20):
            pin = dx.Strategy(model, "Predict")
            dx.execute(QA, question=f"before {number}", pin=pin, cache=False).rate(quality)

    yield made
    session.current().close()


class Clock:
    """Seconds that pass when they are told to."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def full():
    """Take the only slot of a model, which is freed every four seconds; nobody may wait for it."""
    held = []

    def fill(runtime, model):
        clock = Clock()
        slots = Bulkhead(model, slots=1, waiting=0, clock=clock)
        with slots.slot():
            clock.now += 4.0
        runtime.protection.guards.of(model).slots = slots
        held.append(slots.slot())
        held[-1].__enter__()

    yield fill
    for each in held:
        each.__exit__(None, None, None)


def ask(question="?", **options):
    return dx.execute(QA, question=question, explore=False, **options)


def test_with_room_the_usual_one_answers(configure):
    """It is believed best, and neither a cheaper nor a dearer one is asked."""
    configure(*PRICES)
    result = ask()
    assert (result.answer.split()[0], result.fallback_reason) == ("b/usual", None)


def test_an_older_answer_comes_first(configure, full):
    """Though a cheaper model has room: the older answer costs nothing, and is marked as stale."""
    runtime = configure(*PRICES, cache=dx.Cache(ttl_s=1e-6))
    before = ask()
    full(runtime, "b/usual")
    result = ask()
    assert (result.is_cached, result.is_stale, dict(result)) == (True, True, dict(before))
    assert result.usage.calls == 0
    assert "stale" in repr(result)


def test_without_one_a_cheaper_model_answers(configure, full):
    """Not the dearer one, which may be believed better: it is the cheaper one where many can go."""
    runtime = configure(*PRICES, cache=dx.Cache(ttl_s=1e-6))
    for number in range(20):
        dx.execute(QA, question=f"{number}", pin=dx.Strategy("c/dear", "Predict"), cache=False).rate(0.95)
        dx.execute(QA, question=f"{number}", pin=dx.Strategy("a/cheap", "Predict"), cache=False).rate(0.1)
    full(runtime, "b/usual")
    result = ask()
    assert (result.answer.split()[0], result.decision.role) == ("a/cheap", "fallback")
    assert (result.is_stale, result.fallback_reason) == (False, "overload")
    assert "b/usual is overloaded: 0 are waiting for 1 slots, about 4.0 s" in repr(result)


def test_without_a_cheaper_one_another_answers(configure, full):
    """A dearer answer is better than none."""
    runtime = configure("b/usual", "c/dear")
    full(runtime, "b/usual")
    assert ask().answer.split()[0] == "c/dear"


@pytest.mark.parametrize("names", [["b/usual"], list(PRICES)])
def test_with_nobody_left_the_call_is_refused_with_the_wait(configure, full, names):
    """Nothing is made up: the error says how many wait, for what, and when to come back."""
    runtime = configure(*names)
    for name in names:
        full(runtime, name)
    with pytest.raises(
        OverloadedError, match=r"is overloaded: 0 are waiting for 1 slots, about 4\.0 s"
    ) as caught:
        ask()
    assert caught.value.retry_after_s == 4.0
    assert "ask again in 4.0 s" in caught.value.hint
    assert list(dx.history(len(names))["role"]) == ["refused"] * len(names)


def test_a_pinned_model_without_room_is_refused_with_the_wait(configure, full):
    """Who asks for one way gets that way, an older answer of it, or the wait."""
    runtime = configure(*PRICES)
    full(runtime, "b/usual")
    with pytest.raises(OverloadedError) as caught:
        ask(pin=dx.Strategy("b/usual", "Predict"))
    assert caught.value.retry_after_s == 4.0


def test_the_session_says_from_where_on_work_pauses(configure):
    """Half of the memory is calm as a rule; with thresholds of one's own it strains, and then degrades."""
    load = [Load(memory_percent=50)]
    thresholds = {
        "strained_at": Load(cpu_percent=70, memory_percent=40, queued=250),
        "degraded_at": Load(cpu_percent=80, memory_percent=60, queued=500),
    }
    reasoned = dx.Strategy("b/usual", "ChainOfThought")
    for given, paused in (({}, False), (thresholds, True)):
        settings = dx.Reliability(load=lambda queued: load[0], **given)
        runtime = configure("b/usual", modules=["Predict", "ChainOfThought"], reliability=settings)
        assert runtime.protection.degradation.allows(Work.OPTIMIZATION) is not paused
        assert runtime.protection.why_closed(reasoned) is None
    load[0] = Load(memory_percent=65)
    runtime.protection._looked_at = float("-inf")
    with pytest.raises(OverloadedError, match="complex reasoning pauses while the machine is degraded"):
        dx.execute(QA, question="?", pin=reasoned)
    with pytest.raises(OverloadedError, match="optimization pauses while the machine is degraded"):
        dx.optimize(QA, trainset=[{"question": "?", "answer": "!"}] * 4, metric=dx.metrics.exact_match)
    assert ask().answer
