"""What may be concluded from scores: intervals, tests, effects, when to stop, and what matters."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dspex.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]

_RESAMPLES = 2000
_EXACT = 12
"""Pairs up to which every permutation is walked through."""


class Comparison(NamedTuple):
    """How one configuration compares with another on the same examples."""

    n: int
    difference: float
    """Mean of the paired differences; positive if the first is better."""
    low: float
    high: float
    p_value: float
    """Two-sided, by permutation."""
    effect: float
    """Cohen's d of the paired differences: mean over standard deviation."""
    cliff: float
    """Cliff's delta: how much more often the first is better than worse, in [-1, 1]."""

    @property
    def winner(self) -> int | None:
        """0 or 1 when the interval excludes no difference and so does the test, else None."""
        if self.p_value >= 0.05 or self.low <= 0 <= self.high:  # noqa: PLR2004  # the usual level
            return None
        return 0 if self.difference > 0 else 1


def compare(first: ArrayLike, second: ArrayLike, *, level: float = 0.95, seed: int = 0) -> Comparison:
    """Compare two rows of scores of the same examples.

    Parameters
    ----------
    first, second
        Scores per example, in the same order, shape ``(n,)``.
    level
        Of the interval.

    References
    ----------
    Efron and Tibshirani (1993), "An introduction to the bootstrap" (studentised intervals, permutation
    tests); Cohen (1988); Cliff (1993).

    Examples
    --------
    >>> compare([1, 1, 1, 0, 1, 1, 1, 1], [0, 0, 1, 0, 0, 1, 0, 0]).winner
    >>> compare([1] * 9 + [0], [0] * 10).winner
    0
    """
    a, b = _pair(first, second)
    differences = a - b
    rng = np.random.default_rng(seed)
    low, high = bootstrap_interval(differences, level=level, seed=seed)
    sd = float(differences.std(ddof=1)) if len(a) > 1 else 0.0
    mean = float(differences.mean())
    return Comparison(
        n=len(a),
        difference=mean,
        low=low,
        high=high,
        p_value=_permuted(differences, rng),
        effect=mean / sd if sd > 0 else math.copysign(math.inf, mean) if mean else 0.0,
        cliff=float(np.sign(differences).mean()),
    )


def bootstrap_interval(values: ArrayLike, *, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Return an interval for a mean, by the studentised bootstrap.

    Few right-or-wrong differences leave resamples without any spread; those count with the spread of all.
    """
    x = np.asarray(values, dtype=float)
    n, mean = len(x), float(np.mean(x))
    error = float(x.std(ddof=1)) / math.sqrt(n) if n > 1 else math.inf
    if n < 2 or error == 0:  # noqa: PLR2004  # a spread needs two
        return (mean, mean) if n > 1 else (-math.inf, math.inf)
    samples = x[np.random.default_rng(seed).integers(0, n, (_RESAMPLES, n))]
    errors = samples.std(axis=1, ddof=1) / math.sqrt(n)
    scores = (samples.mean(axis=1) - mean) / np.where(errors > 0, errors, error)
    tail = (1 - level) / 2
    upper, lower = np.quantile(scores, [1 - tail, tail])
    return mean - float(upper) * error, mean - float(lower) * error


def _permuted(differences: FloatArray, rng: np.random.Generator) -> float:
    """Return how often random signs give a mean as far from zero: all of them if there are few."""
    moving = differences[differences != 0]
    if not len(moving):
        return 1.0
    if len(moving) <= _EXACT:
        bits = np.arange(2 ** len(moving))[:, None] >> np.arange(len(moving)) & 1
        sums = np.abs((2 * bits - 1) @ moving)
        return float((sums >= abs(moving.sum()) - 1e-9).mean())
    sums = np.abs(rng.choice([-1.0, 1.0], (_RESAMPLES, len(moving))) @ moving)
    return float(((sums >= abs(moving.sum()) - 1e-9).sum() + 1) / (_RESAMPLES + 1))


def _pair(first: ArrayLike, second: ArrayLike) -> tuple[FloatArray, FloatArray]:
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if a.ndim != 1 or a.shape != b.shape or not len(a):
        raise DataError(
            f"a paired comparison needs scores of the same examples, got shapes {a.shape} and {b.shape}",
            hint="leave out the examples that only one of them has seen",
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise DataError("scores must be finite numbers", hint="failed examples count as 0, not as nan")
    return a, b


class Sequential:
    """Watches paired differences come in, and may be looked at after each without losing its error.

    However often one looks and whenever one stops, an interval that excludes the truth at any time has at
    most probability `alpha`.

    Parameters
    ----------
    alpha
        Probability of ever being wrong.
    bound
        No difference is larger than this; 1 for scores in [0, 1].

    References
    ----------
    Waudby-Smith and Ramdas (2024), "Estimating means of bounded random variables by betting": the predictable
    plug-in empirical-Bernstein confidence sequence.

    Examples
    --------
    >>> watch = Sequential()
    >>> for difference in [1, 0, 1, 1, 0, 1] * 20:
    ...     watch.add(difference)
    >>> watch.decision
    0
    """

    def __init__(self, *, alpha: float = 0.05, bound: float = 1.0) -> None:
        if not 0 < alpha < 1 or bound <= 0:
            raise DataError(f"alpha must be in (0, 1) and bound > 0, got alpha={alpha}, bound={bound}")
        self.alpha, self.bound = alpha, bound
        self.n = 0
        self._sum, self._squares = 0.5, 0.25
        self._weights = self._weighted = self._variance = 0.0
        self.low, self.high = -bound, bound

    def add(self, difference: float) -> None:
        """Take in one more paired difference."""
        if not abs(difference) <= self.bound:
            raise DataError(f"a difference must be within ±{self.bound:g}, got {difference!r}")
        x = (difference / self.bound + 1) / 2
        mean = self._sum / (self.n + 1)
        spread = self._squares / (self.n + 1)
        self.n += 1
        bet = min(0.75, math.sqrt(2 * math.log(2 / self.alpha) / (spread * self.n * math.log(self.n + 1))))
        self._weights += bet
        self._weighted += bet * x
        self._variance += 4 * (x - mean) ** 2 * (-math.log1p(-bet) - bet) / 4
        self._sum += x
        self._squares += (x - self._sum / (self.n + 1)) ** 2
        margin = (math.log(2 / self.alpha) + self._variance) / self._weights
        centre = self._weighted / self._weights
        # What was excluded once stays excluded.
        self.low = max(self.low, (2 * (centre - margin) - 1) * self.bound)
        self.high = min(self.high, (2 * (centre + margin) - 1) * self.bound)

    @property
    def decision(self) -> int | None:
        """0 if the first is better, 1 if the second is, None as long as neither is shown."""
        if self.low > 0:
            return 0
        return 1 if self.high < 0 else None


class Corrected(NamedTuple):
    """The best of several, and what it will probably score, which is less than it did."""

    row: int
    """Which of the rows it is."""
    observed: float
    corrected: float
    optimism: float


def best_corrected(scores: ArrayLike, *, seed: int = 0) -> Corrected:
    """Return the best row's mean without the winner's curse.

    The best of many was also the luckiest. Choosing again on random halves of the examples shows by how
    much a choice's own examples flatter it, compared with the other half.

    Parameters
    ----------
    scores
        One row per configuration, one column per example.

    References
    ----------
    McCarthy (1966), "Replication: an approach to the analysis of data from complex surveys": half-samples.

    Examples
    --------
    >>> luck = np.random.default_rng(0).random((50, 40)) < 0.5
    >>> found = best_corrected(luck)
    >>> found.observed > 0.65, found.corrected < 0.58
    (True, True)
    """
    table = np.asarray(scores, dtype=float)
    if table.ndim != 2 or min(table.shape) < 2:  # noqa: PLR2004  # a choice needs two, and so does a spread
        raise DataError(f"scores must be a table of configurations by examples, got shape {table.shape}")
    means = table.mean(axis=1)
    index = int(np.argmax(means))
    rng = np.random.default_rng(seed)
    n = table.shape[1]
    gaps = []
    for _ in range(200):
        drawn = rng.permutation(n)
        chosen, left = drawn[: n // 2], drawn[n // 2 :]
        half = table[:, chosen].mean(axis=1)
        winner = int(np.argmax(half))
        gaps.append(half[winner] - table[winner, left].mean())
    # The luck of a mean of n/2 is sqrt(2) that of n, and both halves' luck is in the gap's first term alone.
    optimism = max(0.0, float(np.mean(gaps))) / math.sqrt(2)
    return Corrected(index, float(means[index]), float(means[index]) - optimism, optimism)


def false_alarms(
    scores: ArrayLike, *, simulations: int = 1000, seed: int = 0, sequential: bool = False
) -> float:
    """Return how often a comparison of a program with itself declares a winner: an A/A check.

    Parameters
    ----------
    scores
        Scores of one program per example; each side of a simulation draws its own luck from them.
    sequential
        Look after every example instead of once.
    """
    x = np.asarray(scores, dtype=float)
    if x.ndim != 1 or len(x) < 2:  # noqa: PLR2004  # two sides
        raise DataError(f"an A/A check needs scores of at least two examples, got shape {x.shape}")
    rng, alarms = np.random.default_rng(seed), 0
    bound = float(np.ptp(x)) or 1.0
    for k in range(simulations):
        first, second = rng.choice(x, len(x)), rng.choice(x, len(x))
        if not sequential:
            alarms += compare(first, second, seed=k).winner is not None
            continue
        watch = Sequential(bound=bound)
        for difference in first - second:
            watch.add(float(difference))
        alarms += watch.decision is not None
    return alarms / simulations
