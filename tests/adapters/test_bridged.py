"""The bridged adapter: modules by name, class, factory or program, in this thread or in a pool."""

import os
import threading
import time

import dspy
import pytest

import dspex as dx
from dspex import sandbox
from dspex.adapters.conformance import QUESTION
from dspex.bridge import prices
from dspex.errors import (
    BudgetError,
    DefinitionError,
    DspexError,
    ExecutionError,
    UnknownNameError,
    UnreadableAnswerError,
)
from dspex.pools import make_pool, named
from dspex.records import Price
from dspex.reliability import remaining_s

TASK = dx.signature("question -> answer: int")
TEXT = dx.signature("question -> answer")


class Twice(dspy.Module):
    """A program of one's own."""

    def __init__(self):
        super().__init__()
        self.first = dspy.Predict("question -> answer: int")

    def forward(self, question):
        found = self.first(question=question)
        return dspy.Prediction(answer=2 * found.answer)


@pytest.mark.parametrize(
    "module",
    ["Predict", "ChainOfThought", dspy.ChainOfThought, lambda task: dspy.ReAct(task, tools=[], max_iters=1)],
)
def test_any_module_will_do(module):
    """A name, a class and a function each make a program for the task."""
    answer = dx.adapters.bridged(module, sandbox.lm("large")).generate(TASK, question=QUESTION)
    assert isinstance(answer["answer"], int)
    assert answer.usage.calls == answer.attempts >= 1


def test_a_program_runs_as_it_is():
    """One's own program answers for itself."""
    single = dx.adapters.bridged("Predict", sandbox.lm("large")).generate(TASK, question=QUESTION)
    double = dx.adapters.bridged(Twice(), sandbox.lm("large")).generate(TASK, question=QUESTION)
    assert double["answer"] == 2 * single["answer"]


def test_a_program_takes_no_plain_prompt():
    """A program has inputs of its own, so a text is not enough."""
    with pytest.raises(DefinitionError, match="signature"):
        dx.adapters.bridged(Twice(), sandbox.lm("large")).generate(QUESTION)


def test_a_pool_runs_it_elsewhere():
    """With a pool, the program runs where the pool's work runs."""
    seen = []

    class Where(Twice):
        def forward(self, question):
            seen.append(threading.current_thread())
            return super().forward(question)

    pool = make_pool("inline", 1)
    dx.adapters.bridged(Where(), sandbox.lm("large"), pool=pool).generate(TASK, question=QUESTION)
    pool.close()
    assert seen[0] is not threading.current_thread()


@pytest.mark.parametrize(("pool", "rule"), [("genral", "did you mean 'general'"), (3, "or its name, got 3")])
def test_what_is_no_pool_is_refused_at_once(pool, rule):
    """Before any call: by the nearest name, or by what a pool is."""
    with pytest.raises(DspexError, match=rule):
        dx.adapters.bridged("Predict", sandbox.lm("large"), pool=pool)


class Dawdles(dspy.Module):
    """Says how much time it has, and asks a model twice, or takes for ever."""

    def __init__(self, seconds=0.0):
        super().__init__()
        self.seconds, self.ask = seconds, dspy.Predict("question -> answer")

    def forward(self, question):
        time.sleep(self.seconds)
        left = remaining_s()
        answers = {self.ask(question=question).answer for _ in range(2)}
        adapter = type(dspy.settings.adapter).__name__
        return dspy.Prediction(answer=f"{os.getpid()} {left:.0f} {adapter} {len(answers)}")


@pytest.fixture
def workers():
    yield dx.pools.define("programs", dx.pools.PoolSpec(workers=1, preload=("dspy",)))
    named.close("programs")
    del named._specs["programs"]


def test_a_worker_has_the_callers_settings_and_the_caller_its_bill(workers, runtime):
    """Deadline, format and prices arrive in the other process; calls and dollars count in this one's session."""
    lm = sandbox.lm("large")
    runtime.lm(lm.model)
    prices.declare(lm.model, Price(1_000.0, 1_000.0))
    asks = dx.adapters.bridged(Dawdles(), lm, pool=workers)
    with dspy.context(adapter=dspy.JSONAdapter()):
        result = dx.execute(TEXT, question=QUESTION, adapter=asks, timeout_s=90)
    pid, left, adapter, _ = result.answer.split()
    assert int(pid) != os.getpid()
    assert 30 < int(left) <= 90
    assert adapter == "JSONAdapter"
    assert result.usage.calls == 2
    assert result.usage.cost_usd == pytest.approx(
        (result.usage.tokens_in + result.usage.tokens_out) / 1_000, rel=1e-6
    )
    spent = dx.usage().set_index(["of", "name"])
    assert spent.loc[("session", "")]["calls"] == spent.loc[("model", lm.model)]["calls"] == 2
    assert spent.loc[("session", "")]["cost_usd"] == pytest.approx(result.usage.cost_usd)


def test_a_budget_counts_what_workers_spend(workers):
    """The session that may make two calls makes no third one, wherever they are made."""
    dx.configure(["sandbox/large"], store="memory", budget=dx.Budget(calls=2))
    asks = dx.adapters.bridged(Dawdles(), sandbox.lm("large"), pool=workers)
    dx.execute(TEXT, question=QUESTION, adapter=asks)
    with pytest.raises(BudgetError, match="2 call"):
        dx.execute(TEXT, question=QUESTION, adapter=asks)


def test_a_deadline_frees_the_worker(workers):
    """What takes longer than the call may is stopped in its process, which goes on to the next."""
    asks = dx.adapters.bridged(Dawdles(60.0), sandbox.lm("large"), pool=workers)
    with pytest.raises(ExecutionError):
        dx.execute(TEXT, question=QUESTION, adapter=asks, timeout_s=1.0)
    assert workers.submit(os.getpid).result(30) == workers.submit(os.getpid).result(30)
    assert workers.stats().running == 0


def test_a_failure_there_is_ours_here_and_paid_for(workers, server, runtime):
    """An answer that DSPy cannot read is the same error from another process, and its call is on the bill."""
    lm = dspy.LM("openai/large", api_base=server.url, api_key="any", cache=False, max_tokens=1)
    asks = dx.adapters.bridged("Predict", lm, pool=workers)
    with pytest.raises(UnreadableAnswerError, match="DSPy cannot read"):
        asks.generate(TASK, question=QUESTION)
    assert runtime.spending.total.calls > 0


def test_what_dspy_cannot_read_is_one_of_ours(server):
    """An answer in no format of DSPy's says what was written."""
    lm = dspy.LM("openai/large", api_base=server.url, api_key="any", cache=False, max_tokens=1)
    with pytest.raises(UnreadableAnswerError, match="DSPy cannot read"):
        dx.adapters.bridged("Predict", lm).generate(TASK, question=QUESTION)


def test_unknown_modules_and_models_are_named():
    """A module that DSPy does not have, and what is no model, are refused when it is made."""
    with pytest.raises(UnknownNameError, match="Predict"):
        dx.adapters.bridged("Predit", sandbox.lm("large"))
    with pytest.raises(DefinitionError, match=r"dspy\.LM"):
        dx.adapters.bridged("Predict", 3)
    for make in (
        dx.adapters.direct,
        dx.adapters.structured,
        lambda name: dx.adapters.bridged("Predict", name),
    ):
        with pytest.raises(DefinitionError, match=r"simulated(.|\n)*dspex\.sandbox\.lm\('large'\)"):
            make("sandbox/large")
    with pytest.raises(DefinitionError, match="concurrency"):
        dx.adapters.bridged("Predict", sandbox.lm("large"), concurrency=0)
