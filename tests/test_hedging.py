"""Hedging through `execute`: over a real socket, and where it must not be."""

from __future__ import annotations

import threading

import dspy
import pytest

import dspex as dx
from dspex import session
from dspex.bridge import lm as lm_bridge
from dspex.events import AttemptFailed, ExecutionFinished, HedgeBegun
from dspex.orchestrator import hedging
from dspex.records import Completion, Price, Usage

TRIAGE = dx.sandbox.task("triage")
SIGNATURE = dx.signature(TRIAGE.signature, TRIAGE.instructions, name="Triage")
MESSAGE = TRIAGE.dev[0].message
CHEAP, DEAR = "openai/sandbox/small", "openai/sandbox/large"
CHEAPEST_FIRST = dx.Objective(quality=0.0, speed=0.0, cheapness=1.0)
LATE = [{"kind": "late", "delay_s": 2.0}]
WAIT_S = 60.0


def _own_module(signature):
    return dspy.Predict(signature)


class Heard:
    """What a runtime tells, and a signal for each attempt that has ended."""

    def __init__(self, runtime):
        self.events = []
        self.ended = threading.Semaphore(0)
        runtime.events.subscribe(self)

    def __call__(self, event):
        self.events.append(event)
        if isinstance(event, ExecutionFinished):
            self.ended.release()

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]

    def wait_for(self, count):
        for _ in range(count):
            assert self.ended.acquire(timeout=WAIT_S)


@pytest.fixture
def servers():
    with dx.sandbox.serve(faults=LATE) as slow, dx.sandbox.serve() as well:
        yield slow, well


@pytest.fixture
def configure(servers):
    slow, well = servers

    def made(**options):
        models = [
            dspy.LM(CHEAP, api_base=slow.url, api_key="none", cache=False),
            dspy.LM(DEAR, api_base=well.url, api_key="none", cache=False),
        ]
        settings = {"reliability": dx.Reliability(hedge_after_s=0.05), "cache": False, "modules": ["Predict"]}
        return session.configure(
            models,
            store="memory",
            exploration=0.0,
            objective=CHEAPEST_FIRST,
            prices={CHEAP: Price(1.0, 2.0), DEAR: Price(100.0, 200.0)},
            **{**settings, **options},
        )

    yield made
    session.current().close()


def ask(task=SIGNATURE, **options):
    return dx.execute(task, message=MESSAGE, explore=False, **options)


@pytest.mark.parametrize("adapter", ["bridged", "direct"])
def test_the_quick_one_answers_and_the_slow_one_is_paid_for(configure, servers, adapter):
    """One call, one result, two requests on the wire; the other attempt is in history and usage once it ends."""
    heard = Heard(configure())
    result = ask(adapter=adapter)
    assert (result.decision.strategy.model, result.fallback_reason) == (DEAR, "slow")
    assert result.usage.calls == 1
    assert f"{DEAR} · Predict" in next(step.detail for step in result.trace if step.kind == "monitor")
    heard.wait_for(2)
    assert [len(server.calls) for server in servers] == [1, 1]
    history = dx.history().set_index("model")
    assert len(history) == 2
    assert history["overtaken"].to_dict() == {CHEAP: True, DEAR: False}
    assert history["role"].to_dict() == {CHEAP: "policy", DEAR: "hedge"}
    assert history.loc[DEAR, "id"] == result.execution_id
    assert history.loc[DEAR, "parent_id"] == history.loc[CHEAP, "id"]
    assert history.loc[CHEAP, "latency_s"] >= 2.0
    assert history.loc[CHEAP, "cost_usd"] > 0
    usage = dx.usage().set_index(["of", "name"])
    assert usage.loc[("session", ""), "calls"] == 2
    assert usage.loc[("session", ""), "cost_usd"] == pytest.approx(history["cost_usd"].sum())
    assert usage.loc[("model", CHEAP), "calls"] == 1
    (begun,) = heard.of(HedgeBegun)
    assert (begun.slow.model, begun.hedge.model, begun.after_s) == (CHEAP, DEAR, 0.05)
    assert heard.of(AttemptFailed) == []


def test_a_slow_one_that_never_answers_may_be_billed(configure, servers):
    """Its time is up after the answer has come: it has failed, and is marked as what may be paid for."""
    servers[0].set_faults([{"kind": "hang"}])
    runtime = configure(reliability=dx.Reliability(hedge_after_s=0.05, shortest_attempt_s=2.0, timeout_s=60))
    runtime.protection.guards.of(CHEAP).p95_s = 0.1
    heard = Heard(runtime)
    assert ask(timeout_s=4).decision.strategy.model == DEAR
    heard.wait_for(2)
    (failed,) = heard.of(AttemptFailed)
    assert (failed.model, failed.possibly_billed) == (CHEAP, True)
    lost = dx.history().set_index("model").loc[CHEAP]
    assert (bool(lost["ok"]), bool(lost["overtaken"])) == (False, True)
    assert "TimedOutError" in lost["error"]


def test_the_answer_is_remembered_and_can_be_rated(configure):
    """The cache holds the hedge's answer; a rating judges who gave it."""
    configure(cache=True)
    first, again = ask(), ask()
    assert again.is_cached
    assert again.decision.strategy.model == first.decision.strategy.model == DEAR
    first.rate(1.0)
    assert dx.history().set_index("model").loc[DEAR, "quality"] == 1.0


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        ({"reliability": True}, {}),
        ({"reliability": False}, {}),
        ({}, {"pin": dx.Strategy(CHEAP, "Predict")}),
        ({}, {"task": dspy.Predict(SIGNATURE.to_dspy())}),
        ({"modules": [_own_module]}, {}),
        ({}, {"budget": dx.Budget(calls=1)}),
        ({}, {"budget": 1e-7}),
        ({"budget": dx.Budget(calls=1)}, {}),
        ({"reliability": dx.Reliability(hedge_after_s=60)}, {}),
    ],
    ids=[
        "the default",
        "without reliability",
        "a pinned strategy",
        "a program",
        "a module that may do anything",
        "a call that may be made once",
        "a call with too little money",
        "a session that may call once",
        "an answer in time",
    ],
)
def test_what_is_not_hedged(configure, servers, settings, options):
    """The slow one is waited for, and nobody else is asked."""
    servers[0].set_faults([{"kind": "late", "delay_s": 0.5}])
    heard = Heard(configure(**settings))
    assert ask(**options).decision.strategy.model == CHEAP
    assert heard.of(HedgeBegun) == []
    assert [len(server.calls) for server in servers] == [1, 0]


def test_a_stream_is_never_hedged(configure, servers):
    """What has been shown could not be taken back."""
    heard = Heard(configure())
    stream = dx.stream(SIGNATURE, message=MESSAGE, explore=False, adapter="direct")
    assert "".join(stream)
    assert (stream.result.decision.strategy.model, heard.of(HedgeBegun)) == (CHEAP, [])
    assert len(servers[1].calls) == 0


def test_where_it_is_off_no_thread_is_begun(configure, monkeypatch):
    """The default costs nothing: the code that begins attempts beside each other is not reached."""
    monkeypatch.setattr(hedging, "_Running", None)
    configure(reliability=True)
    assert ask().label


class _Answerer:
    """A model of this process."""

    def answer(self, prompt):
        del prompt
        return Completion("[[ ## answer ## ]]\nyes\n\n[[ ## completed ## ]]", Usage(1, 10, 5, 0.0, 9.0))

    def state(self):
        return {}


@pytest.mark.parametrize("simulated", [True, False])
def test_models_of_this_process_are_never_hedged(monkeypatch, simulated):
    """They share its processors: two of them take longer than one."""
    monkeypatch.setattr(hedging, "_Running", None)
    models = (
        ["sandbox/small", "sandbox/large"]
        if simulated
        else [lm_bridge.from_answerer(name, _Answerer(), Price(1.0, 2.0)) for name in ("a/one", "b/two")]
    )
    runtime = session.configure(models, store="memory", reliability=dx.Reliability(hedge_after_s=1e-9))
    assert dx.execute("question -> answer", question="2 + 3?").answer
    assert "None" not in repr(runtime)
    runtime.close()


def test_an_attempt_that_ends_after_the_session_tells_nobody(configure, caplog):
    """What was overtaken may outlive its runtime; the store is closed by then."""
    runtime = configure()
    ended = threading.Event()
    assert ask().decision.strategy.model == DEAR
    runtime.events.subscribe(lambda _: ended.set())
    runtime.close()
    assert ended.wait(WAIT_S)
    assert "failed on" not in caplog.text
