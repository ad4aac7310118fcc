"""Retries: when to ask the same provider again, how long to wait first, and when to let it be."""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass, field
from typing import NamedTuple

from dspex.errors import CircuitOpenError, DefinitionError, DspexError, OverloadedError


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before another attempt: at random up to a bound that doubles each time.

    References
    ----------
    Brooker, "Exponential backoff and jitter", AWS Architecture Blog (2015): full jitter.

    Examples
    --------
    >>> calm = Backoff(jitter=False)
    >>> [calm.delay_s(attempt, rng=random.Random(0)) for attempt in range(6)]
    [0.2, 0.4, 0.8, 1.6, 3.2, 5.0]
    """

    base_s: float = 0.2
    longest_s: float = 5.0
    jitter: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.base_s <= self.longest_s:
            raise DefinitionError(
                f"base_s must lie above 0 and not above longest_s={self.longest_s}, got {self.base_s}"
            )

    def delay_s(self, attempt: int, *, rng: random.Random, retry_after_s: float | None = None) -> float:
        """Say how long to wait after an attempt, the first being 0.

        A provider that said when to come back is waited for at least so long, and a little longer at
        random, lest everybody returns at once.
        """
        bound = min(self.base_s * 2.0 ** min(attempt, 64), self.longest_s)
        delay = rng.uniform(0, bound) if self.jitter else bound
        return delay if retry_after_s is None else retry_after_s + (delay if self.jitter else 0.0)


class RetryBudget:
    """How many retries a provider's troubles are worth; when most calls fail, none are.

    References
    ----------
    gRPC proposal A6, "Client retries": a failure costs a token, a success earns a tenth of one, and below
    half of the tokens nothing is retried.

    Examples
    --------
    >>> budget = RetryBudget(tokens=4)
    >>> budget.on_failure(), budget.allows_retry
    (None, True)
    >>> budget.on_failure(), budget.allows_retry
    (None, False)
    """

    def __init__(self, tokens: float = 10.0, earned: float = 0.1) -> None:
        if tokens <= 0 or earned < 0:
            raise DefinitionError(
                f"a retry budget has tokens above 0 and earns 0 or more, got tokens={tokens}, earned={earned}"
            )
        self._most = self._tokens = tokens
        self._earned = earned
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<RetryBudget {self._tokens:.1f} of {self._most:g} tokens>"

    @property
    def allows_retry(self) -> bool:
        """Whether more than half of the tokens are left."""
        return self._tokens > self._most / 2

    def on_success(self) -> None:
        """Earn a part of a token."""
        if self._tokens < self._most:
            with self._lock:
                self._tokens = min(self._most, self._tokens + self._earned)

    def on_failure(self) -> None:
        """Spend a token."""
        with self._lock:
            self._tokens = max(0.0, self._tokens - 1)


class Retry(NamedTuple):
    """Ask again after `delay_s`."""

    delay_s: float
    possibly_billed: bool
    """Whether the failed attempt may be paid for as well."""


class GiveUp(NamedTuple):
    """Do not ask again, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Decides after a failure; it neither waits nor asks.

    Examples
    --------
    >>> from dspex.errors import RateLimitedError, RequestRefusedError
    >>> policy = RetryPolicy(backoff=Backoff(jitter=False))
    >>> policy.after(RateLimitedError("later", retry_after_s=2), attempt=0, remaining_s=30)
    Retry(delay_s=2.0, possibly_billed=False)
    >>> policy.after(RateLimitedError("later", retry_after_s=2), attempt=0, remaining_s=1.5)
    GiveUp(reason='2.0 s of waiting do not fit into the 1.5 s that are left')
    >>> policy.after(RequestRefusedError("no"), attempt=0, remaining_s=30)
    GiveUp(reason='asking again would not help')
    """

    attempts: int = 3
    """At most so many, the first included."""
    backoff: Backoff = field(default_factory=Backoff)
    budget: RetryBudget = field(default_factory=RetryBudget)
    rng: random.Random = field(default_factory=random.Random)

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise DefinitionError(f"attempts must be at least 1, got {self.attempts}")

    def after(
        self,
        error: BaseException,
        *,
        attempt: int,
        remaining_s: float,
        idempotent: bool = True,
    ) -> Retry | GiveUp:
        """Say what to do about a failed attempt.

        Parameters
        ----------
        attempt
            Its number, the first being 0.
        remaining_s
            How long anybody still waits for an answer.
        idempotent
            Whether doing it twice is the same as doing it once.
        """
        objections = {
            "asking again would not help": not isinstance(error, DspexError) or not error.retryable,
            "another way is better than waiting for this one": isinstance(
                error, CircuitOpenError | OverloadedError
            ),
            "doing it twice is not the same as doing it once": not idempotent,
            f"that was attempt {attempt + 1} of {self.attempts}": attempt + 1 >= self.attempts,
            "the retry budget is spent: too many calls fail": not self.budget.allows_retry,
        }
        objection = next((reason for reason, holds in objections.items() if holds), None)
        if objection is not None:
            return GiveUp(objection)
        wait: float | None = getattr(error, "retry_after_s", None)
        delay = self.backoff.delay_s(attempt, rng=self.rng, retry_after_s=wait)
        if delay >= remaining_s:
            return GiveUp(f"{delay:.1f} s of waiting do not fit into the {remaining_s:.1f} s that are left")
        return Retry(delay, billed(error))


def billed(error: BaseException) -> bool:
    """Whether the provider may have done the work that failed on the way back."""
    return bool(getattr(error, "possibly_billed", False))
