"""Quality in service: noticing that it fell, and comparing a canary with the calls beside it."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Literal

from dspex.optimizers.stats import Sequential

if TYPE_CHECKING:
    from collections.abc import Iterable

Side = Literal["canary", "live"]

_ALARM = math.log(2000)
"""Evidence that rings: about one false alarm in so many ratings, if the level is known."""


class FallDetector:
    """Learns the level of a stream of ratings, and tells when they have fallen below it.

    A cumulative sum of how much likelier each rating is after a fall than before. The level is the mean of
    all ratings so far less its standard error, so that a lucky beginning is no fall afterwards.

    Parameters
    ----------
    fall
        The smallest fall that matters, in rating units.
    warm_up
        How many ratings make a level.
    known
        Ratings that make the level, instead of the first ones to come.

    References
    ----------
    Page (1954), "Continuous inspection schemes"; Hawkins (1987), "Self-starting CUSUM charts for location
    and scale".

    Examples
    --------
    >>> detector = FallDetector()
    >>> any(detector.add(rating) for rating in [1, 1, 1, 0, 1] * 40), round(detector.level, 1)
    (False, 0.8)
    >>> any(detector.add(rating) for rating in [0, 1, 0] * 20)
    True
    """

    def __init__(self, *, fall: float = 0.15, warm_up: int = 50, known: Iterable[float] = ()) -> None:
        ratings = list(known)
        self._fall, self._warm_up = fall, min(warm_up, len(ratings) or warm_up)
        self._least_variance = fall * (1 - fall)
        self._recent: deque[float] = deque(maxlen=warm_up)
        self.n = 0
        self._mean = self._squares = self._evidence = 0.0
        for rating in ratings:
            self._learn(rating)

    @property
    def level(self) -> float | None:
        """Mean of every rating; None before the first."""
        return self._mean if self.n else None

    @property
    def recent(self) -> float | None:
        """Mean of the latest ratings; None before the first."""
        return sum(self._recent) / len(self._recent) if self._recent else None

    def add(self, rating: float) -> bool:
        """Take in a rating, and say whether quality has fallen."""
        self._recent.append(rating)
        if self.n >= self._warm_up:
            # The rightness of a few dozen answers says little of its spread: it is at least that of a fall.
            variance = max(self._squares / self.n, self._least_variance)
            level = self._mean - math.sqrt(variance / self.n)
            surprise = self._fall * (level - rating - self._fall / 2) / variance
            self._evidence = max(0.0, self._evidence + surprise)
        self._learn(rating)
        return self._evidence > _ALARM

    def _learn(self, rating: float) -> None:
        self.n += 1
        before, self._mean = self._mean, self._mean + (rating - self._mean) / self.n
        self._squares += (rating - before) * (rating - self._mean)


class CanaryTest:
    """Compares the ratings of a canary with those of the calls beside it.

    Each of the canary's ratings is held against the mean of the others since the one before: the calls were
    drawn at random, so these differences are fair, also while the world moves.

    Parameters
    ----------
    answers
        After how many of the canary's ratings it has passed, if it is not worse.
    tolerance
        How much lower its mean may be then, for the luck of few answers.
    """

    def __init__(self, *, answers: int, tolerance: float = 0.05) -> None:
        self._answers, self._tolerance = answers, tolerance
        self._sequential = Sequential()
        self._sum = 0.0
        self._waiting: deque[float] = deque()
        self._block: list[float] = []
        self.others: list[float] = []

    @property
    def n(self) -> int:
        """How many of the canary's ratings were compared."""
        return self._sequential.n

    @property
    def difference(self) -> float:
        """The canary's mean less that of the others."""
        return self._sum / self.n if self.n else 0.0

    def add(self, side: Side, rating: float) -> None:
        """Take in a rating."""
        if side == "canary":
            self._waiting.append(rating)
        else:
            self._block.append(rating)
            self.others.append(rating)
        if self._waiting and self._block:
            difference = self._waiting.popleft() - sum(self._block) / len(self._block)
            self._block.clear()
            self._sequential.add(difference)
            self._sum += difference

    @property
    def verdict(self) -> Literal["worse", "passed"] | None:
        """Whether it is shown to be worse, has passed, or neither yet."""
        if self._sequential.decision == 1:
            return "worse"
        if self.n < self._answers:
            return None
        return "worse" if self.difference < -self._tolerance else "passed"
