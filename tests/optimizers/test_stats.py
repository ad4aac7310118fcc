"""Statistics: what is declared is rarely wrong, and what is there is found."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dspex.errors import DataError
from dspex.optimizers.stats import Sequential, best_corrected, bootstrap_interval, compare, false_alarms


def shares(right: float, n: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random(n) < right).astype(float)


@pytest.mark.parametrize("n", [8, 60])
def test_comparing_a_program_with_itself_rarely_declares_a_winner(n):
    """Of 1000 A/A comparisons at most 5 % have a winner."""
    assert false_alarms(shares(0.6, n), simulations=1000) <= 0.05


def test_looking_after_every_example_keeps_the_error():
    """Of 300 A/A comparisons watched all along at most 5 % ever stop."""
    assert false_alarms(np.random.default_rng(0).random(80), simulations=300, sequential=True) <= 0.05


def test_a_real_difference_is_found():
    """0.8 against 0.6 on 150 examples has a winner, an interval around 0.2 and an effect."""
    found = compare(shares(0.8, 150), shares(0.6, 150, seed=1))
    assert found.winner == 0
    assert found.low < 0.2 < found.high
    assert found.n == 150
    assert found.effect > 0.15
    assert found.cliff == pytest.approx(found.difference)
    assert compare(shares(0.6, 150, seed=1), shares(0.8, 150)).winner == 1


def test_few_pairs_are_permuted_exactly():
    """Six differences of one sign have p = 2 / 2**6."""
    assert compare([1.0] * 6, [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]).p_value == pytest.approx(2 / 2**6)
    assert compare([1.0, 1.0], [1.0, 1.0]).p_value == 1.0
    assert compare([1.0, 1.0], [0.0, 0.0]).effect == math.inf


def test_intervals_hold_the_mean_as_often_as_they_say():
    """Over 300 samples of a skewed distribution the 90 % interval holds the mean 85 to 95 % of the time."""
    rng = np.random.default_rng(0)
    held = 0
    for k in range(300):
        low, high = bootstrap_interval(rng.exponential(1.0, 40), level=0.9, seed=k)
        held += low <= 1 <= high
    assert 0.85 <= held / 300 <= 0.95


def test_watching_stops_early_when_it_is_clear():
    """0.9 against 0.4 is decided before 150 pairs, in favour of the better."""
    watch, rng = Sequential(), np.random.default_rng(0)
    while watch.decision is None and watch.n < 1000:
        watch.add(float(rng.random() < 0.4) - float(rng.random() < 0.9))
    assert watch.decision == 1
    assert watch.n < 150
    assert watch.low <= -0.5 <= watch.high


def test_the_interval_of_a_watch_never_widens():
    """What was excluded once stays excluded."""
    watch, rng = Sequential(bound=2.0), np.random.default_rng(0)
    before = (-2.0, 2.0)
    for _ in range(300):
        watch.add(float(rng.uniform(-2, 2)))
        assert before[0] <= watch.low <= watch.high <= before[1]
        before = (watch.low, watch.high)


def test_the_winner_is_not_believed_to_be_as_good_as_it_looked():
    """Of 40 equal programs the best looks better than 0.5; corrected, it is 0.5 within 0.03 on average."""
    observed, corrected = [], []
    for seed in range(20):
        found = best_corrected(np.random.default_rng(seed).random((40, 100)) < 0.5, seed=seed)
        observed.append(found.observed)
        corrected.append(found.corrected)
    assert np.mean(observed) > 0.58
    assert np.mean(corrected) == pytest.approx(0.5, abs=0.03)


def test_a_clear_winner_keeps_its_score():
    """Where one program is far ahead there is no luck to take off."""
    table = np.vstack([shares(0.9, 200, seed) if seed == 0 else shares(0.3, 200, seed) for seed in range(10)])
    found = best_corrected(table)
    assert found.row == 0
    assert found.optimism < 0.005


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: compare([1, 0], [1]), "needs scores of the same examples"),
        (lambda: compare([], []), "needs scores of the same examples"),
        (lambda: compare([math.nan], [1.0]), "must be finite numbers"),
        (lambda: best_corrected([[1.0, 0.0]]), "a table of configurations by examples"),
        (lambda: false_alarms([1.0]), "at least two examples"),
        (lambda: Sequential(alpha=0), "alpha must be in"),
        (lambda: Sequential().add(1.5), "must be within ±1"),
        (lambda: Sequential().add(math.nan), "must be within ±1"),
    ],
)
def test_bad_input_is_refused(call, message):
    """Each says what was wrong."""
    with pytest.raises(DataError, match=message):
        call()
