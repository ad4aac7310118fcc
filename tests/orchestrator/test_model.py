"""Beliefs are a fold over executions, and can be taken apart again."""

from __future__ import annotations

import numpy as np
import pytest
from worlds import ASKED, FAST, SLOW, execution

from dspex.orchestrator.model import HEADS, BeliefModel, features
from dspex.records import Price, Usage


def test_learns_what_it_sees():
    """After a hundred executions each head is near the truth it was shown."""
    beliefs = BeliefModel()
    for number in range(100):
        fast = execution(number, FAST, usage=Usage(1, 100, 20, 1e-4, 0.5))
        slow = execution(number, SLOW, usage=Usage(1, 100, 20, 1e-2, 5.0), ok=number % 2 == 0)
        for each, quality in ((fast, 0.9), (slow, 0.2)):
            beliefs.learn(each)
            beliefs.learn_quality(each, quality)
    assert beliefs.belief("latency", ASKED, FAST).mean == pytest.approx(0.5, rel=0.1)
    assert beliefs.belief("latency", ASKED, SLOW).mean == pytest.approx(5.0, rel=0.1)
    assert beliefs.belief("cost", ASKED, SLOW).mean == pytest.approx(1e-2, rel=0.1)
    assert beliefs.belief("success", ASKED, SLOW).mean == pytest.approx(0.5, abs=0.1)
    assert beliefs.belief("quality", ASKED, FAST).mean == pytest.approx(0.9, abs=0.05)
    assert beliefs.belief("quality", ASKED, SLOW).mean == pytest.approx(0.2, abs=0.05)


@pytest.mark.parametrize("head", HEADS)
def test_terms_add_up_to_the_prediction(head):
    """What `belief` shows as reasons is the whole prediction, not a story about it."""
    beliefs = BeliefModel()
    for number in range(20):
        beliefs.learn(execution(number, FAST))
        beliefs.learn_quality(execution(number, FAST), 0.7)
    belief = beliefs.belief(head, ASKED, FAST)
    mean = float(beliefs.predict(ASKED, [FAST])[head].mean[0])
    assert sum(belief.terms.values()) == pytest.approx(mean, abs=1e-9)
    assert "this signature" in belief.terms


def test_replaying_gives_the_same_beliefs():
    """Beliefs depend on the log and on nothing else."""
    log = [execution(number, (FAST, SLOW)[number % 2]) for number in range(50)]
    one, two = BeliefModel(), BeliefModel()
    for beliefs in (one, two):
        for each in log:
            beliefs.learn(each)
    for head in HEADS:
        assert np.array_equal(
            one.predict(ASKED, [FAST, SLOW])[head].mean, two.predict(ASKED, [FAST, SLOW])[head].mean
        )


def test_rank_one_steps_stay_near_the_full_solution():
    """Between two refreshes the cheap step drifts only by what was to be forgotten."""
    stepped, refreshed = BeliefModel(), BeliefModel()
    for number in range(47):  # 47 is not a multiple of the refresh
        each = execution(number, (FAST, SLOW)[number % 2], usage=Usage(1, 1, 1, 1e-4, 0.5 + number % 3))
        stepped.learn(each)
        refreshed.learn(each)
    head = refreshed._heads["latency"]
    head.covariance = np.linalg.inv(head.precision)
    head.weights = head.covariance @ head.moment
    cheap = stepped.belief("latency", ASKED, FAST).mean
    assert cheap == pytest.approx(refreshed.belief("latency", ASKED, FAST).mean, rel=0.05)


def test_prices_and_latencies_are_the_first_guess():
    """Before anything has run, a model is expected to cost what its price says."""
    beliefs = BeliefModel({"fast": Price(0.1, 0.4), "slow": Price(3, 12)}, {"fast": 0.4, "slow": 2.2})
    assert beliefs.belief("cost", ASKED, SLOW).mean > 20 * beliefs.belief("cost", ASKED, FAST).mean
    assert beliefs.belief("latency", ASKED, SLOW).mean > 4 * beliefs.belief("latency", ASKED, FAST).mean


def test_a_failure_teaches_success_only():
    """How long a failed call took says nothing about how long an answer takes."""
    beliefs = BeliefModel()
    before = beliefs.belief("latency", ASKED, FAST).mean
    beliefs.learn(execution(0, FAST, ok=False, usage=Usage(1, 0, 0, 0.0, 30.0)))
    assert beliefs.belief("latency", ASKED, FAST).mean == before
    assert beliefs.belief("success", ASKED, FAST).mean < BeliefModel().belief("success", ASKED, FAST).mean


def test_features_are_named_after_what_a_strategy_is_made_of():
    """An explanation speaks of models and modules."""
    assert {"base", "model=fast", "module=Predict"} <= set(features(ASKED, FAST))
