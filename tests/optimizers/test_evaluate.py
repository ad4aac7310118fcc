"""Evaluation: failures as data, time limits, and cancelling."""

from __future__ import annotations

import threading
import time

import dspy
import pytest

from dspex import sandbox
from dspex.errors import CancelledError, CircuitOpenError
from dspex.optimizers.evaluate import Evaluator
from dspex.optimizers.ledger import Ledger
from dspex.optimizers.measure import here
from dspex.pools import make_pool
from dspex.store import Store

TASK = sandbox.task("triage")
LM = sandbox.lm("small")


@pytest.fixture
def world():
    store, pool = Store("memory"), make_pool("inline", 2)
    yield store, pool
    pool.close()
    store.close()


def evaluator(world, metric=TASK.metric, **options):
    store, pool = world
    given = {"stopped": lambda: False, "announce": lambda score: None, **options}
    return Evaluator(metric, Ledger("s", store, "m"), pool, **given)


class Hangs(dspy.Module):
    """Answers everything but some messages, on which it waits for ever."""

    def __init__(self, messages, release):
        super().__init__()
        self.label = dspy.Predict(TASK.signature)
        self._messages, self._release = messages, release

    def deepcopy(self):
        return self

    def forward(self, message):
        if message in self._messages:
            self._release.wait(60)
        return self.label(message=message)


def test_a_hanging_example_costs_only_its_timeout(world):
    """Three of six hang, on two workers: each is a failure that says so, the others are scored."""
    release, examples = threading.Event(), TASK.dev[:6]
    program = Hangs({each.message for each in examples[:3]}, release)
    began = time.perf_counter()
    rows, _ = evaluator(world, timeout_s=0.2).evaluate(program, LM, "c", examples)
    took = time.perf_counter() - began
    release.set()
    assert [row.error for row in rows[:3]] == ["TimeoutError: the example took longer than 0.2 s"] * 3
    assert [row.usage.latency_s for row in rows[:3]] == [0.2] * 3
    assert all(row.error is None and row.usage.calls for row in rows[3:])
    assert took < 10


def test_waiting_for_a_broken_pool_is_no_examples_time(world):
    """A pool that was broken for longer than an example may take has cost no example its score."""
    refused = []

    def broken_at_first(*given):
        if not refused:
            refused.append(given)
            raise CircuitOpenError("pool 'p' is not asked", provider="pool 'p'", retry_after_s=0.6)
        return here(*given)

    rows, _ = evaluator(world, timeout_s=0.5, measure=broken_at_first).evaluate(
        dspy.Predict(TASK.signature), LM, "c", TASK.dev[:1]
    )
    assert [row.error for row in rows] == [None]
    assert len(refused) == 1


def test_what_answers_in_time_is_scored_as_without_a_limit(world):
    """A limit that nobody reaches changes nothing."""
    program = dspy.Predict(TASK.signature)
    limited, _ = evaluator(world, timeout_s=30).evaluate(program, LM, "c", TASK.dev[:8])
    free, _ = evaluator((Store("memory"), world[1])).evaluate(program, LM, "c", TASK.dev[:8])
    assert [row.score for row in limited] == [row.score for row in free]
    assert [row.usage.calls for row in limited] == [row.usage.calls for row in free]


def test_failures_come_with_their_tracebacks(world):
    """The program's and the metric's alike; the others are scored."""
    broken = TASK.dev[0].message

    def metric(example, prediction, trace=None):
        if example.message == broken:
            raise LookupError("no such thing")
        return 1.0

    rows, _ = evaluator(world, metric).evaluate(dspy.Predict(TASK.signature), LM, "c", TASK.dev[:4])
    assert "LookupError: no such thing" in rows[0].error
    assert rows[0].usage.calls == 1
    assert [row.score for row in rows] == [0.0, 1.0, 1.0, 1.0]


def test_a_metric_that_speaks_is_written_down(world):
    """What it says about an answer stands beside the score."""

    def metric(example, prediction, trace=None):
        return dspy.Prediction(score=0.5, feedback=f"It is {example.label}.")

    rows, _ = evaluator(world, metric).evaluate(dspy.Predict(TASK.signature), LM, "c", TASK.dev[:1])
    assert (rows[0].score, rows[0].feedback) == (0.5, f"It is {TASK.dev[0].label}.")
    assert len(rows[0].execution_id) == 32


def test_an_example_that_is_there_twice_is_evaluated_once(world):
    """It is scored for both places, and announced once."""
    announced = []
    rows, spent = evaluator(world, announce=announced.append).evaluate(
        dspy.Predict(TASK.signature), LM, "c", [TASK.dev[0], TASK.dev[0]]
    )
    assert rows[0] is rows[1]
    assert len(announced) == 1
    assert spent.calls == rows[0].usage.calls


def test_cancelling_does_not_wait_for_what_hangs(world):
    """Less than half a second, whatever the timeout is."""
    release, cancelled = threading.Event(), threading.Event()
    program = Hangs({TASK.dev[0].message}, release)
    threading.Timer(0.1, cancelled.set).start()
    began = time.perf_counter()
    with pytest.raises(CancelledError):
        evaluator(world, stopped=cancelled.is_set).evaluate(program, LM, "c", TASK.dev[:1])
    took = time.perf_counter() - began
    release.set()
    assert took < 0.6
