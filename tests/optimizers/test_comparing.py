"""Comparisons from the public call: on the holdout, paired, and rarely wrong when nothing differs."""

from __future__ import annotations

import random

import pytest
from spaces import SIGNATURE, SPACE, TRIAGE

import dspex as dx
from dspex.errors import DataError, UnknownNameError
from dspex.optimizers.comparing import between


def begin(runtime, **changes):
    given = {
        "space": SPACE,
        "trainset": TRIAGE.train,
        "valset": TRIAGE.dev[:40],
        "metric": dx.metrics.exact_match,
        "budget": dx.Budget(trials=6),
        **changes,
    }
    return runtime.optimize(SIGNATURE, **given)


def test_comparing_a_program_with_itself_rarely_declares_a_winner():
    """A/A: of 1000 comparisons of equal programs at most 5 % have a winner."""
    rng = random.Random(0)
    keys = [f"example {k}" for k in range(40)]
    winners = 0
    for _ in range(1000):
        one, other = ({key: float(rng.random() < 0.7) for key in keys} for _ in range(2))
        winners += between(one, other, names=("one", "other"), on="holdout").winner is not None
    assert winners <= 50


def test_the_holdout_tells_how_much_was_gained(experiment):
    """n, interval, p and effect are there, the interval holds the true gain, and the best wins."""
    found = experiment.comparison
    assert (found.on, found.n, found.winner) == ("holdout", 60, "best")
    best = dx.sandbox.expected_score(experiment.program, TRIAGE.test)
    default = dx.sandbox.expected_score(experiment.definition.bind(SPACE.default()), TRIAGE.test)
    assert found.low <= best - default <= found.high
    assert found.difference == pytest.approx(found.first_score - found.second_score)
    assert found.p_value < 0.01
    assert found.effect > 0.4


def test_the_winners_luck_is_taken_off(experiment):
    """The corrected estimate is below what the best scored in the search."""
    found = experiment.comparison
    assert found.observed == experiment.best.score
    assert 0.5 < found.corrected <= found.observed


def test_dspys_optimizers_are_compared_the_same_way(compiled):
    """The program that was compiled and the student are scored on what was held out."""
    found = compiled.comparison
    assert (found.on, found.n) == ("holdout", 20)
    assert found.observed == compiled.best.score
    assert found.corrected == pytest.approx(0.634, abs=0.02)


def test_of_one_configuration_no_luck_is_taken_off(runtime):
    """The estimate is left out, and everything that shows a study does without it."""
    study = begin(runtime, budget=dx.Budget(trials=1)).wait()
    found = study.comparison
    assert (found.observed, found.corrected, found.difference) == (None, None, 0)
    assert study.report().expected is None
    assert "luck of the winner" not in study.report().markdown + study.report().html


def test_without_a_holdout_it_says_so(runtime):
    """The best and the default are compared where the best was chosen, which is named."""
    study = begin(runtime).wait()
    found = study.comparison
    assert (found.on, found.n) == ("search", 40)
    assert found.first_score == pytest.approx(study.best.score)
    assert found.second_score == pytest.approx(study.baseline.score)
    assert "examples of the search itself" in str(found)


def test_studies_are_compared_by_the_examples_they_share(runtime):
    """Different valsets: only the overlap counts, and p values are adjusted for the number of pairs."""
    one = begin(runtime, name="one").wait()
    two = begin(runtime, name="two", valset=TRIAGE.dev[20:60], optimizer="random", seed=4).wait()
    three = begin(runtime, name="three", budget=dx.Budget(trials=1)).wait()
    table = runtime.compare(one, "two", three)
    assert list(table.index) == [("one", "two"), ("one", "three"), ("two", "three")]
    assert list(table["n"]) == [20, 40, 20]
    assert (table["p_adjusted"] >= table["p_value"]).all()
    assert one.compare(three).winner == "one"
    assert (two.compare(one).difference, two.compare(one).n) == (-table["difference"].iloc[0], 20)


def test_what_cannot_be_compared_says_why(runtime):
    """No shared example, another metric, one study alone, an unknown name."""
    one = begin(runtime, name="one", budget=dx.Budget(trials=1)).wait()
    apart = begin(runtime, valset=TRIAGE.dev[40:60], budget=dx.Budget(trials=1), name="apart").wait()
    with pytest.raises(DataError, match="one and apart share 0 scored examples"):
        one.compare(apart)
    judged = begin(runtime, metric=dx.metrics.contains, budget=dx.Budget(trials=1)).wait()
    with pytest.raises(DataError, match="scored by different metrics"):
        one.compare(judged)
    with pytest.raises(DataError, match="needs two studies, got 1"):
        runtime.compare(one)
    with pytest.raises(UnknownNameError, match="unknown study 'on'"):
        runtime.compare(one, "on")
