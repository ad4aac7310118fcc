"""Studies measure in worker processes as they do on threads, and a crash there costs one row."""

from __future__ import annotations

import itertools
import os
import threading
import time

import dspy
import pytest
from spaces import SIGNATURE, SPACE, TRIAGE

import dspex as dx
from dspex import sandbox
from dspex.bridge import prices
from dspex.bridge.observe import Stopped
from dspex.errors import (
    DefinitionError,
    ExecutionError,
    ShippingError,
    UnknownNameError,
    WorkerCrashedError,
)
from dspex.optimizers import measure
from dspex.optimizers.measure import InWorkers, Recovering, here
from dspex.pools import named
from dspex.records import Price
from dspex.reliability import BreakerSettings

pytestmark = pytest.mark.usefixtures("runtime")


@pytest.fixture
def pool():
    yield dx.pools.define("examples", dx.pools.PoolSpec(workers=2, preload=("dspy",)))
    named.close("examples")
    del named._specs["examples"]


def begin(**changes):
    given = {
        "space": SPACE,
        "trainset": TRIAGE.train,
        "valset": TRIAGE.dev[:12],
        "metric": dx.metrics.exact_match,
        "budget": dx.Budget(trials=3),
        "optimizer": "random",
        "pool": "examples",
        **changes,
    }
    return dx.optimize(SIGNATURE, **given)


def test_a_study_is_the_same_wherever_it_is_measured(pool):
    """Scores, cost and calls are those of the same study on threads, and other processes have done it."""
    away = begin(name="away").wait()
    assert pool.stats().done == pool.stats().submitted == 36
    spent = dx.usage().set_index(["of", "name"])["cost_usd"]
    assert spent["session"].sum() == pytest.approx(away.usage.cost_usd)
    dx.configure(["sandbox/small", "sandbox/medium", "sandbox/large"], store="memory")
    at_home = begin(name="home", pool=None).wait()
    columns = ["phase", "score", "n_examples", "cost_usd", *SPACE]
    assert away.trials[columns].equals(at_home.trials[columns])
    assert away.usage.calls == at_home.usage.calls
    assert away.usage.cost_usd == pytest.approx(at_home.usage.cost_usd)  # summed in another order


def test_a_crash_costs_its_row_alone(pool):
    """A metric that ends its process scores 0 on that example, with the reason; the others are scored."""
    victim, home = TRIAGE.dev[3].message, os.getpid()  # a metric is tried here first

    def metric(example, prediction, trace=None):
        if example.message == victim and os.getpid() != home:
            os.abort()
        return 1.0

    study = begin(metric=metric, budget=dx.Budget(trials=1)).wait()
    assert study.best.score == pytest.approx(11 / 12)
    errors = [row.error for row in study._ledger.rows() if row.error]
    assert errors
    assert all("cost 2 workers, the last by abort" in each for each in errors)


def test_cancelling_stops_what_runs_there(pool, tmp_path):
    """A study that is cancelled ends at once, and so does what workers do for it; they stay."""
    began, home = tmp_path / "began", os.getpid()

    def metric(example, prediction, trace=None):
        if os.getpid() != home:
            began.touch()
            time.sleep(60)
        return 1.0

    study = begin(metric=metric)
    while not began.exists():
        assert not study.is_done
        threading.Event().wait(0.005)
    study.cancel()
    assert study.wait(timeout_s=30).state == "cancelled"
    while pool.stats().running:
        threading.Event().wait(0.005)
    assert pool.stats().crashed == pool.stats().stopped == 0


def test_an_example_that_takes_too_long_is_stopped_there(pool):
    """`timeout_s` frees the worker, too."""
    slow, home = TRIAGE.dev[0].message, os.getpid()

    def metric(example, prediction, trace=None):
        if example.message == slow and os.getpid() != home:
            time.sleep(60)
        return 1.0

    begin(budget=dx.Budget(trials=1), valset=TRIAGE.dev[2:4]).wait()  # a first task's imports take their time
    study = begin(metric=metric, timeout_s=5, budget=dx.Budget(trials=1), valset=TRIAGE.dev[:2]).wait()
    assert study.best.score == 0.5
    while pool.stats().running:
        threading.Event().wait(0.005)
    assert pool.stats().stopped == 0


def test_what_cannot_go_there_is_refused(pool):
    """Nothing has run when a metric cannot travel, a pool does not exist, or the optimizer evaluates by itself."""
    lock = threading.Lock()
    with pytest.raises(ShippingError, match=r"the metric cannot travel .*\.lock is a lock"):
        begin(metric=lambda example, prediction, trace=None: lock.locked())
    with pytest.raises(UnknownNameError, match="did you mean 'examples'"):
        begin(pool="example")
    with pytest.raises(DefinitionError, match="evaluates by itself, in threads of this process"):
        begin(optimizer="bootstrap", space=None)
    assert pool.stats().submitted == 0
    assert dx.runs().empty


def test_prices_and_the_adapter_go_along(pool, monkeypatch):
    """What was declared here holds there."""
    monkeypatch.setattr(prices, "_declared", {})
    lm, program = sandbox.lm("small"), dspy.Predict(TRIAGE.signature)
    prices.declare("sandbox/small", Price(1e6, 0.0))

    def metric(example, prediction, trace=None):
        return type(dspy.settings.adapter).__name__ == "JSONAdapter"

    with dspy.context(adapter=dspy.JSONAdapter()):
        away = InWorkers(pool)(program, lm, metric, TRIAGE.dev[0], None)
        assert away == here(program, lm, metric, TRIAGE.dev[0], None)
    assert (away.score, away.usage.calls) == (1.0, 1)
    assert away.usage.cost_usd == away.usage.tokens_in


@pytest.fixture
def broken():
    """Make a pool that is broken for so many seconds."""

    def make(seconds):
        settings = BreakerSettings(consecutive=1, cool_down_s=seconds, longest_cool_down_s=seconds)
        pool = dx.pools.define("examples", dx.pools.PoolSpec(workers=2, breaker=settings))
        with pytest.raises(WorkerCrashedError):
            pool.submit(os._exit, 3, idempotent=False).result(60)
        return pool

    yield make
    named.close("examples")
    del named._specs["examples"]


def measured(pool, stop=None):
    given = dspy.Predict(TRIAGE.signature), sandbox.lm("small"), dx.metrics.exact_match, TRIAGE.dev[0]
    return Recovering(InWorkers(pool))(*given, stop), here(*given, None)


def test_a_broken_pool_is_waited_for(broken, monkeypatch):
    """What a pool refuses scores nothing: it is measured when the pool is well again."""
    monkeypatch.setattr(measure, "_PROBED_S", 0.01)
    pool = broken(0.1)
    away, at_home = measured(pool)
    assert (away.score, away.error) == (at_home.score, None)
    assert pool.stats().refused >= 1


def test_a_pool_that_stays_broken_ends_the_study(broken, monkeypatch):
    """When it has been waited for long enough the study ends and says why; until then it can be cancelled."""
    pool = broken(100.0)
    asked = itertools.count()
    with pytest.raises(Stopped):
        measured(pool, stop=lambda: next(asked) > 2)
    monkeypatch.setattr(measure, "_PATIENCE_S", 0.0)
    study = begin(budget=dx.Budget(trials=1))
    with pytest.raises(ExecutionError, match="failed: pool 'examples' is not asked for"):
        study.wait()
    assert study.state == "failed"
    assert not study._ledger.rows()
