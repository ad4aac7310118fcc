"""What stands between a call and its answer: fallback, deadline, breakers, load, cache and budgets, joined."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import dspy
import pytest

import dspex as dx
from dspex import session
from dspex.bridge import lm as lm_bridge
from dspex.errors import (
    BudgetError,
    CircuitOpenError,
    DefinitionError,
    ExhaustedError,
    OverloadedError,
    RateLimitedError,
    TimedOutError,
    UnavailableError,
)
from dspex.events import AttemptFailed, BreakerTurned, LoadLevelChanged, TrialFinished
from dspex.records import Completion, Price, Usage
from dspex.reliability import Level, Load

QA = dx.signature("question -> answer", "Answer briefly.", name="QA")


class Scripted:
    """A model that does what it is told, one instruction a call; then it answers with the number of the call.

    It writes DSPy's format whatever it is asked, so that only DSPy's programs understand it.
    """

    def __init__(self, *script):
        self.script = list(script)
        self.prompts = []

    def answer(self, prompt):
        self.prompts.append(prompt)
        does = self.script.pop(0) if self.script else None
        if callable(does):
            does()
        if isinstance(does, BaseException):
            raise does
        text = f"[[ ## answer ## ]]\nanswer {len(self.prompts)}\n\n[[ ## completed ## ]]"
        return Completion(text, Usage(1, 100, 20, 0.0, 0.5))

    def state(self):
        return {}


def lm_of(name, *script, **settings):
    return lm_bridge.from_answerer(name, Scripted(*script), Price(1.0, 2.0), **settings)


def asked(lm):
    """How often a scripted model was asked."""
    return len(lm.engine.answerer.prompts)


@pytest.fixture
def configure():
    def made(*models, **options):
        return session.configure(
            list(models),
            **{"modules": ["Predict"], "adapters": "bridged", "store": "memory", "cache": False, **options},
        )

    yield made
    session.current().close()


# ── failing over ────────────────────────────────────────────────────────────────────────────────


def test_a_timeout_falls_back_once_and_says_why(configure):
    """The second model answers; the reason is in the result, and one success is recorded, billed once."""
    slow, well = lm_of("a/slow", TimedOutError("late")), lm_of("b/well")
    runtime = configure(slow, well, exploration=0.0, prices={"b/well": Price(9.0, 9.0)})
    failed = []
    runtime.events.subscribe(lambda event: failed.append(event) if isinstance(event, AttemptFailed) else None)
    result = dx.execute(QA, question="?", explore=False)
    assert (result.answer, result.fallback_reason) == ("answer 1", "availability")
    assert result.decision.strategy.model == "b/well"
    assert [each.model for each in failed] == ["a/slow"]
    assert list(dx.history()["ok"]) == [True, False]
    assert asked(slow) == asked(well) == 1


def test_a_model_that_speaks_one_format_is_asked_in_it_at_last(configure):
    """What cannot be read is asked for by another adapter of the same model; soon that one is asked first."""
    stubborn = lm_of("a/stubborn")
    configure(stubborn, adapters=["structured", "bridged"], exploration=0.0)
    task = dx.signature("question -> answer, source", name="Two")
    does = "[[ ## answer ## ]]\nParis\n\n[[ ## source ## ]]\na map\n\n[[ ## completed ## ]]"
    stubborn.engine.answerer.answer = lambda _: Completion(does, Usage(1, 100, 20, 0.0, 0.5))
    first = dx.execute(task, question="?", explore=False)
    assert (first.fallback_reason, first.decision.strategy.adapter) == ("response", "bridged")
    assert list(dx.history()["adapter"]) == ["bridged", "structured"]
    for _ in range(5):
        last = dx.execute(task, question="?", explore=False)
    assert (last.fallback_reason, last.decision.strategy.adapter) == (None, "bridged")


def test_a_model_that_keeps_failing_is_left_alone(configure):
    """After three failures in a row its breaker opens: routing leaves it out, and says so in the reason."""
    down, well = lm_of("a/down", *[UnavailableError("down")] * 99), lm_of("b/well")
    runtime = configure(down, well, exploration=1.0)
    turned = []
    runtime.events.subscribe(lambda event: turned.append(event) if isinstance(event, BreakerTurned) else None)
    while not turned:
        dx.execute(QA, question="?")
    assert (turned[0].model, turned[0].after, turned[0].reason) == ("a/down", "open", "3 failures in a row")
    for _ in range(20):
        result = dx.execute(QA, question="?")
    assert asked(down) == 3
    assert "not asked: a/down · Predict (its breaker is open)" in result.decision.reason


def test_with_nobody_left_to_ask_the_error_says_when_to_come_back(configure):
    """One model, its breaker open: no call is made, the attempt is kept as refused and teaches nothing."""
    down = lm_of("a/down", *[UnavailableError("down")] * 99)
    runtime = configure(down)
    for _ in range(3):
        with pytest.raises(ExhaustedError, match="a/down is not available"):
            dx.execute(QA, question="?")
    learned = runtime.orchestrator.beliefs.n_observations
    with pytest.raises(
        ExhaustedError, match=r"a/down is not asked for \d\.\d s: 3 failures in a row"
    ) as caught:
        dx.execute(QA, question="?")
    assert isinstance(caught.value.failures[0], CircuitOpenError)
    assert asked(down) == 3
    assert dx.history(1)["role"].iloc[0] == "refused"
    assert runtime.orchestrator.beliefs.n_observations == learned


def test_a_deadline_is_used_to_ask_again(configure):
    """With time left, a model that recovers is asked until it answers; without a deadline it is not waited for."""
    shaky = lm_of("a/shaky", UnavailableError("down"), UnavailableError("down"))
    configure(shaky)
    assert dx.execute(QA, question="?", timeout_s=60).answer == "answer 3"
    again = lm_of("a/shaky", UnavailableError("down"))
    configure(again)
    with pytest.raises(ExhaustedError):
        dx.execute(QA, question="?")


def test_a_rate_limit_is_waited_out_and_trips_nothing(configure):
    """A 429 closes the window for the time it names; the breaker stays closed, whatever the number of them."""
    busy = lm_of("a/busy", *[RateLimitedError("later", retry_after_s=0.05)] * 5)
    runtime = configure(busy)
    assert dx.execute(QA, question="?", timeout_s=60).answer == "answer 6"
    assert runtime.protection.guards.find("a/busy").breaker.state == "closed"


def test_without_reliability_everything_is_asked_at_once(configure):
    """`reliability=False` leaves the breaker out: the model that fails is asked each time."""
    down = lm_of("a/down", *[UnavailableError("down")] * 99)
    configure(down, reliability=False)
    for _ in range(6):
        with pytest.raises(ExhaustedError):
            dx.execute(QA, question="?")
    assert asked(down) == 6


def test_settings_of_reliability_are_kept_to(configure):
    """A breaker that opens on the first failure asks once."""
    down = lm_of("a/down", *[UnavailableError("down")] * 99)
    breaker = dx.reliability.BreakerSettings(consecutive=1)
    configure(down, reliability=dx.Reliability(breaker=breaker))
    for message in ("a/down is not available", "a/down is not asked for"):
        with pytest.raises(ExhaustedError, match=message):
            dx.execute(QA, question="?")
    assert asked(down) == 1
    with pytest.raises(DefinitionError, match="timeout_s must be above 0, got 0"):
        dx.Reliability(timeout_s=0)


# ── load ────────────────────────────────────────────────────────────────────────────────────────


def test_a_machine_with_too_much_to_do_goes_on_with_simple_work(configure):
    """At 500 waiting calls search and complex reasoning pause, simple work goes on; after a calm it is over."""
    load = [Load(queued=500)]
    settings = dx.Reliability(load=lambda queued: load[0], calm_s=0.0)
    runtime = configure(lm_of("a/well"), modules=["Predict", "ChainOfThought"], reliability=settings)
    changes = []
    runtime.events.subscribe(lambda e: changes.append(e) if isinstance(e, LoadLevelChanged) else None)
    result = dx.execute(QA, question="?", explore=False)
    assert result.decision.strategy.module == "Predict"
    assert [each.strategy.module for each in result.decision.alternatives] == ["Predict"]
    with pytest.raises(OverloadedError, match="complex reasoning pauses while the machine is degraded"):
        dx.execute(QA, question="?", pin=dx.Strategy("a/well", "ChainOfThought"))
    task = dx.sandbox.task("triage")
    with pytest.raises(OverloadedError, match="optimization pauses"):
        dx.optimize(QA, trainset=task.train[:4], metric=dx.metrics.exact_match)
    assert len(dx.explain(QA, question="?").alternatives) == 1
    load[0] = Load()
    for _ in range(2):
        runtime.protection._looked_at = float("-inf")
        runtime.protection.look()
    assert [(each.before, each.after) for each in changes] == [
        ("normal", "degraded"),
        ("degraded", "strained"),
        ("strained", "normal"),
    ]
    assert len(dx.explain(QA, question="?").alternatives) == 2


def test_a_study_that_runs_pauses_and_goes_on(runtime):
    """While the machine has too much to do it begins nothing; then it ends as it would have; a paused one can be cancelled."""
    load = [Load()]
    settings = dx.Reliability(load=lambda queued: load[0], calm_s=0.0)
    runtime = session.configure(["sandbox/small"], store="memory", reliability=settings)
    task = dx.sandbox.task("triage")
    signature = dx.signature(task.signature, task.instructions, name="Triage")
    given = {"space": dx.Space(temperature=dx.Float(0, 1, default=0.5)), "trainset": task.train[:6]}
    given |= {"metric": dx.metrics.exact_match, "budget": dx.Budget(trials=4)}

    def strain(event):
        if isinstance(event, TrialFinished):
            load[0] = Load(queued=999)
            runtime.protection._looked_at = float("-inf")

    stop_straining = runtime.events.subscribe(strain)
    study = dx.optimize(signature, **given)
    while runtime.protection.degradation.level is Level.NORMAL:
        pass
    assert not study.is_done
    assert study.pause == "waits for a calmer machine"
    assert study.pause in repr(study)
    stop_straining()
    load[0] = Load()
    assert len(study.wait().trials) >= 4
    runtime.events.subscribe(strain)
    paused = dx.optimize(signature, **{**given, "trainset": task.train[6:12]})
    while runtime.protection.degradation.level is Level.NORMAL:
        pass
    paused.cancel()
    assert paused.wait().state == "cancelled"


def test_a_flood_is_queued_and_answered(configure):
    """A hundred calls at once on four slots: all are answered, none is turned away, some have waited."""
    model = lm_of("a/well")
    runtime = configure(model, reliability=dx.Reliability(slots=4), workers=32)
    gate = threading.Event()
    model.engine.answerer.script = [gate.wait] * 4

    async def flood():
        calls = [asyncio.ensure_future(dx.aexecute(QA, question=str(n), timeout_s=60)) for n in range(100)]
        while runtime.protection.guards.waiting == 0:  # noqa: ASYNC110  # until somebody queues behind the first four
            await asyncio.sleep(0)
        gate.set()
        return await asyncio.gather(*calls)

    assert len(asyncio.run(flood())) == 100
    assert runtime.protection.guards.find("a/well").slots.deepest > 0


def test_where_there_is_no_room_an_older_answer_is_given(configure):
    """An answer past its time is not given, but it is better than none, and is marked as stale."""
    model = lm_of("a/well")
    runtime = configure(model, cache=dx.Cache(ttl_s=1e-6))
    assert dx.execute(QA, question="?").answer == "answer 1"
    assert dx.execute(QA, question="?").answer == "answer 2"
    model.engine.answerer.script = [UnavailableError("down")] * 9
    result = dx.execute(QA, question="?")
    assert (result.answer, result.is_cached, result.is_stale) == ("answer 2", True, True)
    assert "stale" in repr(result)
    with pytest.raises(ExhaustedError):
        dx.execute(QA, question="another")
    assert len(runtime.cache) == 1


# ── the cache ───────────────────────────────────────────────────────────────────────────────────


def test_the_same_is_asked_once(configure):
    """The second call costs nothing, says so, is no execution of its own, and can be rated."""
    model = lm_of("a/well")
    configure(model, cache=True)
    first, second = dx.execute(QA, question="?"), dx.execute(QA, {"question": "?"})
    assert (first.is_cached, second.is_cached) == (False, True)
    assert dict(first) == dict(second)
    assert second.usage == Usage()
    assert "cached" in repr(second)
    assert [step.kind for step in second.trace] == ["recall"]
    assert (asked(model), len(dx.history())) == (1, 1)
    assert second.execution_id == first.execution_id
    assert dx.usage().set_index("of").loc["session", "calls"] == 1


def test_whatever_changes_the_answer_is_another_request(configure):
    """Inputs and their types, instructions, pins, rollouts, settings of the model and the format are in the key."""
    model = lm_of("a/well", temperature=0.5)
    configure(model, cache=True)
    typed = dx.signature("n -> answer", name="Typed")

    def calls():
        dx.execute(QA, question="?")
        dx.execute(QA, question="!")
        dx.execute(QA.with_instructions("Answer at length."), question="?")
        dx.execute(QA, question="?", pin=dx.Strategy("a/well", "Predict"))
        dx.execute(QA, question="?", rollout_id=1)
        dx.execute(QA, question="?", rollout_id=2)
        dx.execute(typed, n=1)
        dx.execute(typed, n=True)
        dx.execute(typed, n=1.0)
        dx.execute(typed, n="1")

    calls()
    assert asked(model) == 10
    calls()
    assert asked(model) == 10
    model.kwargs["temperature"] = 0.7
    dx.execute(QA, question="?")
    assert asked(model) == 11
    with dspy.context(adapter=dspy.JSONAdapter()), pytest.raises(ExhaustedError):
        dx.execute(QA, question="?")
    assert asked(model) > 11


def test_a_bypass_asks_in_any_case(configure):
    """`cache=False` asks again and keeps nothing; a call with a registry is never cached, since it teaches."""
    model = lm_of("a/well")
    configure(model, cache=True)
    dx.execute(QA, question="?")
    assert dx.execute(QA, question="?", cache=False).answer == "answer 2"
    assert dx.execute(QA, question="?").answer == "answer 1"
    registry = dx.Registry(dx.Space(temperature=dx.Float(0, 1, default=0.5)))
    for _ in range(2):
        dx.execute(QA, question="?", space=registry)
    assert asked(model) == 4
    with pytest.raises(DefinitionError, match="calls with a registry teach it"):
        dx.execute(QA, question="?", space=registry, cache=True)


def test_simulated_models_are_asked_each_time_unless_told(runtime):
    """They are there to be learned from; real ones are cached by default."""
    strategy = dx.Strategy("sandbox/small", "Predict")
    for cache, rows in ((None, 2), (True, 3)):
        for _ in range(2):
            dx.execute(QA, question="?", pin=strategy, cache=cache)
        assert len(dx.history()) == rows
    assert not runtime.cache.settings.ttl_s


def test_real_models_are_cached_by_default(configure):
    """A model that is not the sandbox's is asked once for the same."""
    model = lm_of("a/well")
    configure(model, cache=None)
    dx.execute(QA, question="?")
    assert dx.execute(QA, question="?").is_cached
    configure(model, cache=False)
    dx.execute(QA, question="?")
    assert not dx.execute(QA, question="?").is_cached


def test_a_program_is_cached_only_if_somebody_vouches_for_it(configure):
    """It may depend on anything; with `cache=True` its prompts and demos are its key."""
    model = lm_of("a/well")
    configure(model, cache=None)
    program = dspy.Predict("question -> answer")
    for _ in range(2):
        dx.execute(program, question="?")
    assert asked(model) == 2
    for _ in range(2):
        dx.execute(program, question="?", cache=True)
    assert asked(model) == 3
    program.demos = [dspy.Example(question="a", answer="b")]
    dx.execute(program, question="?", cache=True)
    assert asked(model) == 4


def test_a_wrong_answer_is_not_given_again(configure):
    """One rated below a half is forgotten, in memory and in the store; a good one stays."""
    model = lm_of("a/well")
    configure(model, cache=True)
    dx.execute(QA, question="?").rate(1.0)
    assert dx.execute(QA, question="?").is_cached
    dx.execute(QA, question="?").rate(0.0)
    assert not dx.execute(QA, question="?").is_cached


def test_the_next_session_recalls(configure, tmp_path):
    """Answers outlive the process in the store; other settings of the model do not find them."""
    store = str(tmp_path / "runs.db")
    model = lm_of("a/well")
    configure(model, cache=True, store=store)
    first = dx.execute(QA, question="?")
    configure(model, cache=True, store=store)
    second = dx.execute(QA, question="?")
    assert (second.answer, second.is_cached) == (first.answer, True)
    assert second.execution_id == first.execution_id
    configure(lm_of("a/well", temperature=0.9), cache=True, store=store)
    assert not dx.execute(QA, question="?").is_cached
    configure(model, cache=dx.Cache(stored=False), store=store)
    assert not dx.execute(QA, question="?").is_cached


def test_await_and_call_share_it(configure):
    """What a call was answered an awaited one recalls, and the other way round."""
    model = lm_of("a/well")
    configure(model, cache=True)
    dx.execute(QA, question="?")

    async def both():
        return await dx.aexecute(QA, question="?"), await dx.aexecute(QA, question="!")

    recalled, fresh = asyncio.run(both())
    assert (recalled.is_cached, fresh.is_cached) == (True, False)
    assert dx.execute(QA, question="!").is_cached


def test_equal_requests_at_the_same_time_are_one(configure):
    """Eight threads ask the same: the model is asked once."""
    model = lm_of("a/well")
    runtime = configure(model, cache=True, workers=8)
    gate = threading.Event()
    model.engine.answerer.script = [gate.wait]
    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(dx.execute, QA, question="?") for _ in range(8)]
        while asked(model) == 0:
            pass
        gate.set()
        assert {call.result().answer for call in calls} == {"answer 1"}
    assert asked(model) == 1
    assert len(runtime.cache) == 1


# ── budgets ─────────────────────────────────────────────────────────────────────────────────────


def test_a_session_spends_what_it_may_and_no_more(configure):
    """The call after the limit is refused with what was spent; what is cached is recalled all the same."""
    model = lm_of("a/well")
    configure(model, cache=True, budget=dx.Budget(calls=2))
    dx.execute(QA, question="1")
    dx.execute(QA, question="2")
    with pytest.raises(BudgetError, match=r"this session may spend 2 calls, and has spent \$0.00") as caught:
        dx.execute(QA, question="3")
    assert "on 2 call(s) and " in caught.value.spent
    assert asked(model) == 2
    assert dx.execute(QA, question="1").is_cached
    with pytest.raises(BudgetError):
        dx.optimize(QA, trainset=[{"question": "a", "answer": "b"}] * 3, metric=dx.metrics.exact_match)


def test_calls_under_way_are_counted_too(configure):
    """Thirty at once on eight threads, with a budget of ten calls: ten are made, whoever is first."""
    model = lm_of("a/well")
    configure(model, budget=dx.Budget(calls=10), workers=8)

    def call(number):
        try:
            return dx.execute(QA, question=str(number)).answer
        except BudgetError:
            return None

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(call, range(30)))
    assert asked(model) == 10
    assert sum(answer is not None for answer in answers) == 10


def test_the_trace_tells_of_retries(configure):
    """It says that the model was asked again, and after what."""
    configure(lm_of("a/shaky", UnavailableError("down")), reliability=dx.Reliability(attempts=2))
    runtime = session.current()
    guard = runtime.protection.guards.of("a/shaky")  # as of a model that does not run in this process
    assert guard.retry.attempts == 2
    result = dx.execute(QA, question="?")
    monitored = next(step.detail for step in result.trace if step.kind == "monitor")
    assert "when asked again after UnavailableError: a/shaky is not available: down" in monitored


def test_money_is_counted_at_the_price_that_was_declared(configure):
    """Dollars follow `prices`; a budget of dollars is reached by them."""
    model = lm_of("a/well")
    configure(model, prices={"a/well": Price(1e4, 0.0)}, cache=False, budget=0.5)
    result = dx.execute(QA, question="1")
    tokens = result.usage.tokens_in
    assert result.usage.cost_usd == pytest.approx(tokens * 1e-2)
    with pytest.raises(BudgetError, match=r"may spend \$0\.5"):
        dx.execute(QA, question="2")


def test_a_call_has_a_budget_of_its_own(configure):
    """A fallback is not begun once the call has spent what it may."""
    bad, well = lm_of("a/bad"), lm_of("b/well")
    bad.engine.answerer.answer = lambda prompt: Completion("not readable", Usage(1, 100, 20, 0.0, 0.5))
    configure(bad, well, prices={"a/bad": Price(1e4, 1e4), "b/well": Price(1e5, 1e5)}, exploration=0.0)
    with pytest.raises(BudgetError, match=r"this call may spend \$0\.01, and has spent"):
        dx.execute(QA, question="?", explore=False, budget=0.01)
    assert asked(well) == 0


def test_a_session_limits_only_what_it_spends(configure):
    """Trials are a study's; a session has no such thing."""
    with pytest.raises(DefinitionError, match="limits usd, calls or tokens, got trials"):
        configure(lm_of("a/well"), budget=dx.Budget(trials=3))


def test_a_study_gets_what_the_session_has_left(runtime):
    """Its own budget is narrowed to that, and its calls count for the session."""
    dx.configure(["sandbox/small"], store="memory", budget=dx.Budget(calls=30), modules=["Predict"])
    task = dx.sandbox.task("triage")
    signature = dx.signature(task.signature, task.instructions, name="Triage")
    space = dx.Space(temperature=dx.Float(0, 1, default=0.5))
    study = dx.optimize(signature, space=space, trainset=task.train[:5], metric=dx.metrics.exact_match).wait()
    assert 0 < study.usage.calls <= 30
    spent = dx.usage().set_index(["of", "name"])["calls"]
    assert spent["study", study.name] == spent["session", ""] == study.usage.calls


def test_totals_are_the_sum_of_the_calls(configure):
    """On eight threads, by model and by strategy, what is told is what history holds."""
    configure(lm_of("a/one"), lm_of("b/two"), exploration=1.0, workers=8)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: dx.execute(QA, question=str(n)), range(80)))
    history, usage = dx.history(), dx.usage()
    for of in ("session", "model", "strategy"):
        rows = usage[usage["of"] == of]
        for column in ("calls", "tokens_in", "tokens_out", "cost_usd"):
            assert rows[column].sum() == pytest.approx(history[column].sum())
    by_model = usage[usage["of"] == "model"].set_index("name")["calls"].to_dict()
    assert by_model == history.groupby("model")["calls"].sum().to_dict()
