"""Quality in service: false alarms and delays over many seeds, and canaries of known worth."""

from __future__ import annotations

import random

import pytest

from dspex.optimizers.quality import CanaryTest, FallDetector

SEEDS = 100


def ratings(seed, chance):
    rng = random.Random(seed)
    while True:
        yield float(rng.random() < chance)


def rings_within(detector, stream, n):
    """Say after how many ratings it rings; `n` if it does not."""
    return next((k for k, rating in zip(range(n), stream, strict=False) if detector.add(rating)), n)


@pytest.mark.parametrize("chance", [0.5, 0.8, 0.95])
def test_stable_quality_rings_rarely(chance):
    """In a thousand ratings that only luck moves, at most one stream in twenty rings."""
    alarms = sum(rings_within(FallDetector(), ratings(seed, chance), 1000) < 1000 for seed in range(SEEDS))
    assert alarms <= SEEDS / 20


@pytest.mark.parametrize(("before", "after", "within"), [(0.9, 0.4, 40), (0.8, 0.5, 60), (0.95, 0.65, 50)])
def test_a_fall_rings_soon(before, after, within):
    """After a fall it rings, in the median within so many ratings."""
    delays = []
    for seed in range(SEEDS):
        detector = FallDetector()
        rings_within(detector, ratings(seed, before), 150)
        delays.append(rings_within(detector, ratings(seed + SEEDS, after), 500))
    assert sorted(delays)[SEEDS // 2] <= within


def test_what_does_not_matter_does_not_ring():
    """A rise is no fall, and one of a third of `fall` is left alone in most streams."""
    rises = falls = 0
    for seed in range(SEEDS):
        detector = FallDetector(fall=0.15)
        rings_within(detector, ratings(seed, 0.7), 200)
        falls += rings_within(detector, ratings(seed + SEEDS, 0.65), 200) < 200
        detector = FallDetector(fall=0.15)
        rings_within(detector, ratings(seed, 0.7), 200)
        rises += rings_within(detector, ratings(seed + SEEDS, 0.95), 200) < 200
    assert rises <= SEEDS / 20
    assert falls <= SEEDS / 5


def test_a_smaller_fall_can_be_asked_for():
    """A fall of .1 rings when `fall` is .1, and not when only .4 matters."""
    rings = {}
    for fall in (0.1, 0.4):
        detector = FallDetector(fall=fall, known=[0.8, 0.9] * 100)
        rings[fall] = rings_within(detector, iter([0.65] * 500), 500) < 500
    assert rings == {0.1: True, 0.4: False}


def test_a_known_level_needs_no_warm_up():
    """A detector that is given a level judges from the first rating on."""
    assert rings_within(FallDetector(known=[1.0] * 20), iter([0.0] * 20), 20) < 15
    assert rings_within(FallDetector(), iter([0.0] * 20), 20) == 20


def verdict_of(canary, others, seed, *, answers=40):
    rng, test = random.Random(seed), CanaryTest(answers=answers, tolerance=0.05)
    while test.verdict is None:
        is_canary = rng.random() < 0.1
        test.add("canary" if is_canary else "live", float(rng.random() < (canary if is_canary else others)))
    return test


def test_a_canary_that_is_no_worse_mostly_passes():
    """A better one passes nearly always, one of the same worth in most cases."""
    better = sum(verdict_of(0.95, 0.8, seed).verdict == "passed" for seed in range(SEEDS))
    same = sum(verdict_of(0.8, 0.8, seed).verdict == "passed" for seed in range(SEEDS))
    assert better >= 0.95 * SEEDS
    assert same >= 0.6 * SEEDS


def test_a_worse_canary_ends_early():
    """One that always fails is worse after a third of its answers; one a little worse rarely passes."""
    assert all(verdict_of(0.0, 0.9, seed).n < 20 for seed in range(SEEDS))
    assert all(verdict_of(0.0, 0.9, seed).verdict == "worse" for seed in range(SEEDS))
    assert sum(verdict_of(0.55, 0.8, seed).verdict == "passed" for seed in range(SEEDS)) <= SEEDS / 20


def test_a_canary_waits_for_somebody_to_compare_with():
    """Ratings of the canary alone say nothing; each later one of the others is held against one of them."""
    test = CanaryTest(answers=2, tolerance=0.0)
    for _ in range(5):
        test.add("canary", 1.0)
    assert (test.n, test.difference, test.verdict) == (0, 0.0, None)
    test.add("live", 0.5)
    test.add("live", 0.0)
    assert (test.n, test.difference, test.verdict) == (2, 0.75, "passed")
