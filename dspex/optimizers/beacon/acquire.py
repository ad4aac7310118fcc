"""Acquisitions: how much it is worth to try a candidate, given what is believed of it. Larger is better."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from dspex.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

_FAR_BELOW = -25.0
"""Standard deviations below the best, from where the difference of two tiny numbers is replaced by its series."""

_erfc = np.frompyfunc(math.erfc, 1, 1)


def expected_improvement(mean: FloatArray, sd: FloatArray, best: float) -> FloatArray:
    """Score candidates by how far they are expected to beat the best.

    Parameters
    ----------
    mean, sd
        What is believed of each candidate, shape ``(n,)``, in metric units.
    best
        Best value so far, in metric units.

    Returns
    -------
    Expected gain over `best`, shape ``(n,)``, in metric units, never negative.

    References
    ----------
    Jones, Schonlau and Welch (1998), "Efficient global optimization of expensive black-box functions".

    Examples
    --------
    >>> expected_improvement(np.array([0.7, 0.9]), np.array([0.0, 0.0]), best=0.8).round(9)
    array([0. , 0.1])
    """
    _check(mean, sd)
    gain = mean - best
    known = sd <= 0
    score = gain / np.where(known, 1.0, sd)
    spread = gain * _below(score) + sd * _density(score)
    return np.where(known, np.maximum(gain, 0.0), np.maximum(spread, 0.0))


def log_expected_improvement(mean: FloatArray, sd: FloatArray, best: float) -> FloatArray:
    """Return the logarithm of `expected_improvement`, which stays finite where that one is rounded to zero.

    References
    ----------
    Ament et al. (2023), "Unexpected improvements to expected improvement for Bayesian optimization".

    Examples
    --------
    >>> log_expected_improvement(np.array([-60.0]), np.array([1.0]), best=0.0).round(2)
    array([-1809.11])
    """
    _check(mean, sd)
    sd = np.maximum(sd, 1e-12)
    score = (mean - best) / sd
    near = np.maximum(score, _FAR_BELOW)
    direct = np.log(near * _below(near) + _density(near))
    far = np.minimum(score, _FAR_BELOW)
    series = -(far**2) / 2 - 0.5 * math.log(2 * math.pi) - 2 * np.log(-far)
    series += np.log1p(-3 / far**2 + 15 / far**4 - 105 / far**6)
    return np.log(sd) + np.where(score > _FAR_BELOW, direct, series)


def upper_confidence_bound(mean: FloatArray, sd: FloatArray, width: float = 2.0) -> FloatArray:
    """Score candidates by how good they may well be: `width` standard deviations above the mean.

    References
    ----------
    Srinivas et al. (2010), "Gaussian process optimization in the bandit setting".

    Examples
    --------
    >>> upper_confidence_bound(np.array([0.5, 0.6]), np.array([0.2, 0.0]))
    array([0.9, 0.6])
    """
    _check(mean, sd)
    return mean + width * sd


def probability_of_improvement(mean: FloatArray, sd: FloatArray, best: float) -> FloatArray:
    """Score candidates by how probably they beat the best, by however little.

    References
    ----------
    Kushner (1964), "A new method of locating the maximum point of an arbitrary multipeak curve".

    Examples
    --------
    >>> probability_of_improvement(np.array([0.8, 0.9]), np.array([0.1, 0.0]), best=0.8)
    array([0.5, 1. ])
    """
    _check(mean, sd)
    known = sd <= 0
    return np.where(known, (mean > best).astype(float), _below((mean - best) / np.where(known, 1.0, sd)))


def upper_bound_by_count(
    counts: FloatArray, means: FloatArray, span: float, *, rng: np.random.Generator
) -> FloatArray:
    """Score arms by their means and how rarely they were tried; those never tried come first, in random order.

    Parameters
    ----------
    span
        Width of the range that scores lie in.

    References
    ----------
    Audibert, Bubeck and Munos (2010), "Best arm identification in multi-armed bandits" (UCB-E); the
    exploration constant of 1 is that of Zhou et al. (2025), "On speeding up language model evaluation".

    Examples
    --------
    >>> upper_bound_by_count(np.array([4.0, 1.0]), np.array([0.5, 0.2]), 1.0, rng=np.random.default_rng(0))
    array([1. , 1.2])
    """
    bound = means + span / np.sqrt(np.maximum(counts, 1))
    fresh = means.max(initial=0.0) + span * (2 + rng.random(len(counts)))
    return np.where(counts > 0, bound, fresh)


def top_two(draws: FloatArray, count: int, rng: np.random.Generator, *, boldness: float = 0.7) -> list[int]:
    """Choose candidates that win a joint draw of what is believed; now and then the best other one.

    Parameters
    ----------
    draws
        Joint draws of all candidates, shape ``(n_draws, n)``; ``-inf`` where one may not be chosen.
    count
        How many to choose; the same one may be chosen again.
    boldness
        How often the winner itself is taken; else the winner of another draw which it does not win.

    References
    ----------
    Russo (2020), "Simple Bayesian algorithms for best-arm identification".

    Examples
    --------
    >>> top_two(np.array([[0.1, 0.9], [0.8, 0.2]]), 2, np.random.default_rng(0), boldness=1.0)
    [1, 0]
    """
    winners = np.argmax(draws, axis=1)
    chosen = []
    for k in range(count):
        winner = int(winners[k % len(winners)])
        others = np.flatnonzero(winners != winner)
        if len(others) and rng.random() > boldness:
            winner = int(winners[rng.choice(others)])
        chosen.append(winner)
    return chosen


def _check(mean: FloatArray, sd: FloatArray) -> None:
    if mean.shape != sd.shape:
        raise DataError(f"mean and sd must have one shape, got {mean.shape} and {sd.shape}")
    if (sd < 0).any():
        raise DataError(f"a standard deviation must be >= 0, got {sd.min():g}")


def _density(score: FloatArray) -> FloatArray:
    return np.exp(-0.5 * score * score) / math.sqrt(2 * math.pi)


def _below(score: FloatArray) -> FloatArray:
    """Return how much of the normal distribution lies below, exact in the lower tail too."""
    below: FloatArray = np.asarray(_erfc(-score / math.sqrt(2)), dtype=float) / 2
    return below
