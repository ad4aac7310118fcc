"""The ledger: nothing is paid for twice, by one study or by several."""

from __future__ import annotations

import threading
from dataclasses import replace

import dspy
import pytest
from spaces import SIGNATURE, SPACE, TRIAGE

import dspex as dx
from dspex.optimizers.ledger import Flights, Ledger
from dspex.records import Score, ScoreKey, Usage
from dspex.store import Store

ROW = Score("c", "e", 1.0, Usage(1, 2, 3, 0.5, 0.1), None, "t", "m", 0, "Right.", "x")


@pytest.fixture
def store():
    store = Store("memory")
    yield store
    store.close()


def begin(**changes):
    given = {
        "trainset": TRIAGE.train[:20],
        "valset": TRIAGE.dev[:20],
        "metric": dx.metrics.exact_match,
        "budget": dx.Budget(trials=2),
        **changes,
    }
    return dx.optimize(SIGNATURE, **given)


def test_a_row_is_found_and_kept_once(store):
    """It is in the store with every column, and adding it again says that it was there."""
    ledger = Ledger("s", store, "m")
    assert ledger.add(ROW)
    assert not ledger.add(ROW)
    assert ledger.find(ROW.key) == ROW
    assert len(ledger) == 1
    assert store.scores("s") == [ROW]


def test_another_studys_row_costs_nothing(store):
    """Same program, configuration, example and metric: the row comes over, its price does not."""
    Ledger("one", store, "m").add(ROW)
    two = Ledger("two", store, "m")
    assert two.find_all("t", "c", ["e", "f"]) == {
        "e": Score("c", "e", 1.0, Usage(), None, *ROW.key[:1], "m", 0, "Right.", "x")
    }
    assert [row.usage for row in store.scores("two")] == [Usage()]


@pytest.mark.parametrize(
    "asked",
    [("other", "m", "c"), ("t", "other", "c"), ("t", "m", "other")],
    ids=["text", "metric", "configuration"],
)
def test_a_row_of_anything_else_is_not_taken(store, asked):
    """Another text, metric or configuration is another evaluation."""
    Ledger("one", store, "m").add(ROW)
    text_key, metric_key, configuration_key = asked
    assert Ledger("two", store, metric_key).find_all(text_key, configuration_key, ["e"]) == {}


def test_failures_and_other_draws_are_not_shared(store):
    """A failure may have been the network's, and another draw is another answer."""
    one = Ledger("one", store, "m")
    one.add(Score("c", "e", 0.0, error="Traceback", text_key="t", metric_key="m"))
    one.add(Score("c", "f", 1.0, text_key="t", metric_key="m", repetition=2))
    assert Ledger("two", store, "m").find_all("t", "c", ["e", "f"]) == {}


def test_rows_of_older_databases_still_count(store):
    """They knew no texts: within their own study the configuration and the example name them."""
    old = Score("c", "e", 0.5)
    ledger = Ledger("s", store, "m", [old])
    assert ledger.find(ScoreKey("t", "c", "e", "m")) == replace(old, metric_key="m")
    assert ledger.find(ScoreKey("t", "c", "f", "m")) is None


def test_whoever_asks_for_what_is_under_way_waits_for_it():
    """One evaluates, the other gets the same row, also a little later; after a failure another may try."""
    flights = Flights()
    assert flights.join(ROW.key) is None
    waiting = flights.join(ROW.key)
    assert not waiting.done()
    flights.land(ROW.key, None)
    assert waiting.result() is None
    assert flights.join(ROW.key) is None
    flights.land(ROW.key, ROW)
    assert flights.join(ROW.key).result() == ROW


@pytest.mark.usefixtures("runtime")
def test_two_studies_of_one_program_pay_once():
    """A second study of the same space, program and metric finds every row of the default."""
    one = begin(space=SPACE).wait()
    two = begin(space=SPACE).wait()
    assert one.usage.calls > 0
    assert two.usage.calls == 0
    found = [study.scores.set_index(["program", "example"])["score"].sort_index() for study in (one, two)]
    assert found[0].equals(found[1])


@pytest.mark.usefixtures("runtime")
def test_another_metric_is_evaluated_anew():
    """The same name is not enough: a metric is what it computes."""

    def make(right):
        def metric(example, prediction, trace=None):
            return right * (example.label == prediction.label)

        return metric

    assert begin(space=SPACE, metric=make(1.0)).wait().usage.calls > 0
    assert begin(space=SPACE, metric=make(0.5)).wait().usage.calls > 0
    assert begin(space=SPACE, metric=make(0.5)).wait().usage.calls == 0


@pytest.mark.usefixtures("runtime")
def test_two_optimizers_pay_once_for_what_both_try():
    """A random search of demonstrations and COPRO both score the program as it was given."""
    one = begin(optimizer="bootstrap_rs", budget=None).wait()
    fresh = begin(
        optimizer=dx.optimizers.COPRO(breadth=2, depth=1), trainset=TRIAGE.dev[:20], budget=None
    ).wait()
    plain = dspy.Predict(SIGNATURE.to_dspy())
    default = [row for row in fresh._ledger.rows() if row.text_key == one._ledger.rows()[0].text_key]
    assert plain.demos == []
    assert fresh.usage.calls < len(fresh.scores)
    assert all(row.usage.calls == 0 for row in default)


GATE = threading.Event()


def waiting_metric(example, prediction, trace=None):
    if threading.current_thread() is not threading.main_thread():
        GATE.wait(10)
    return float(example.label == prediction.label)


@pytest.mark.usefixtures("runtime")
def test_two_studies_at_once_pay_once():
    """Started together, neither evaluates what the other is evaluating."""
    GATE.clear()
    space = dx.Space(temperature=dx.Choice([0.5]))
    one, two = (begin(space=space, metric=waiting_metric) for _ in range(2))
    GATE.set()
    assert one.wait().best.score == two.wait().best.score
    paid = sum(row.usage.calls > 0 for study in (one, two) for row in study._ledger.rows())
    assert paid == 20
