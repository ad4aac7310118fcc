"""Acquisitions: equal to their closed forms, stable far out, and right about what cannot happen."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest

from dspex.errors import DataError
from dspex.optimizers.beacon import acquire

MEAN = np.linspace(-3, 3, 61)
SD = np.linspace(0.01, 2, 61)


def test_expected_improvement_is_its_closed_form():
    """Every value equals (m - b) Phi(z) + s phi(z) to 1e-8."""
    normal = statistics.NormalDist()
    found = acquire.expected_improvement(MEAN, SD, 0.4)
    for mean, sd, value in zip(MEAN, SD, found, strict=True):
        z = (mean - 0.4) / sd
        assert value == pytest.approx((mean - 0.4) * normal.cdf(z) + sd * normal.pdf(z), abs=1e-8)


def test_expected_improvement_is_the_mean_gain_of_draws():
    """A million draws gain as much on average as the formula says."""
    draws = np.random.default_rng(0).normal(0.2, 0.5, 1_000_000)
    drawn = np.maximum(draws - 0.4, 0).mean()
    found = acquire.expected_improvement(np.array([0.2]), np.array([0.5]), 0.4)
    assert found[0] == pytest.approx(drawn, abs=1e-3)


def test_the_logarithm_agrees_and_goes_on_where_the_value_is_zero():
    """It equals log(EI) where EI is a number, and still falls a hundred deviations below the best."""
    near = acquire.log_expected_improvement(MEAN, SD + 0.3, 0.4)
    assert near == pytest.approx(np.log(acquire.expected_improvement(MEAN, SD + 0.3, 0.4)), abs=1e-8)
    far = acquire.log_expected_improvement(np.linspace(-100, -20, 200), np.ones(200), 0.0)
    assert np.isfinite(far).all()
    assert (np.diff(far) > 0).all()
    assert acquire.expected_improvement(np.array([-100.0]), np.array([1.0]), 0.0)[0] == 0


def test_what_is_certain_has_its_plain_worth():
    """Without spread, improvement is the difference and its probability is 0 or 1."""
    sure = np.zeros(2)
    mean = np.array([0.5, 0.9])
    assert acquire.expected_improvement(mean, sure, 0.6) == pytest.approx([0.0, 0.3])
    assert list(acquire.probability_of_improvement(mean, sure, 0.6)) == [0.0, 1.0]
    assert list(acquire.upper_confidence_bound(mean, sure)) == [0.5, 0.9]


def test_probability_of_improvement_is_the_normal_tail():
    """It equals the normal distribution's share above the best."""
    normal = statistics.NormalDist()
    found = acquire.probability_of_improvement(MEAN, SD, 0.4)
    assert found == pytest.approx(
        [normal.cdf((m - 0.4) / s) for m, s in zip(MEAN, SD, strict=True)], abs=1e-12
    )


def test_top_two_takes_the_winner_and_sometimes_the_other():
    """Of two candidates of which one wins four draws in five, the other is still taken, more often than it wins."""
    draws = np.where(np.arange(500)[:, None] % 5 == 0, [[0.0, 1.0]], [[1.0, 0.0]])
    chosen = acquire.top_two(draws, 500, np.random.default_rng(0), boldness=0.7)
    assert 0.2 < np.mean(chosen) < 0.5
    assert set(acquire.top_two(draws, 500, np.random.default_rng(0), boldness=1.0)) == {0, 1}


def test_arms_never_tried_come_first():
    """An untried arm is worth more than any that was tried."""
    found = acquire.upper_bound_by_count(
        np.array([1.0, 0.0, 9.0]), np.array([1.0, 0.0, 0.3]), 1.0, rng=np.random.default_rng(0)
    )
    assert np.argmax(found) == 1
    assert found[2] == pytest.approx(0.3 + 1 / math.sqrt(9))


@pytest.mark.parametrize(
    ("mean", "sd", "message"),
    [
        (np.zeros(2), np.zeros(3), r"mean and sd must have one shape, got \(2,\) and \(3,\)"),
        (np.zeros(1), -np.ones(1), "a standard deviation must be >= 0, got -1"),
    ],
)
def test_what_cannot_be_believed_is_refused(mean, sd, message):
    """Shapes that differ and negative spreads are errors with their values."""
    with pytest.raises(DataError, match=message):
        acquire.expected_improvement(mean, sd, 0.0)
