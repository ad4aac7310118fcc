"""Deadlines: one for a whole request, known to everything that works on it."""

from __future__ import annotations

import math
import time
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dspex.errors import DefinitionError, TimedOutError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SHORTEST_ATTEMPT_S = 2.0
"""Less time than this is no fair attempt at asking a model."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on a clock, after which nobody waits any more."""

    at_s: float
    given_s: float
    clock: Callable[[], float]

    def remaining_s(self) -> float:
        """Say how many seconds are left, never less than 0."""
        return max(0.0, self.at_s - self.clock())


_CURRENT: ContextVar[Deadline | None] = ContextVar("dspex_deadline", default=None)


@contextmanager
def within(seconds: float | None, *, clock: Callable[[], float] = time.monotonic) -> Iterator[None]:
    """Give what runs inside so many seconds; what is inside another deadline never gets more than that.

    A worker in another process is handed `remaining_s()` and opens a deadline of its own with it: clocks
    of two processes have nothing in common, seconds do.

    Parameters
    ----------
    seconds
        How long, or None for no deadline of its own.

    Raises
    ------
    DefinitionError
        If the seconds are negative or not a number.

    Examples
    --------
    >>> with within(60):
    ...     with within(90):
    ...         remaining_s() <= 60
    True
    >>> remaining_s()
    inf
    """
    if seconds is None:
        yield
        return
    if not seconds >= 0:
        raise DefinitionError(f"a deadline lies 0 or more seconds ahead, got {seconds}")
    outer = _CURRENT.get()
    left = seconds if outer is None else min(seconds, outer.remaining_s())
    token = _CURRENT.set(Deadline(clock() + left, left, clock))
    try:
        yield
    finally:
        _CURRENT.reset(token)


def remaining_s() -> float:
    """Say how many seconds are left; infinitely many without a deadline."""
    current = _CURRENT.get()
    return math.inf if current is None else current.remaining_s()


def check() -> None:
    """Raise if the time is up.

    Raises
    ------
    TimedOutError
        If it is; nothing was asked yet, so nothing was billed.
    """
    current = _CURRENT.get()
    if current is not None and current.remaining_s() <= 0:
        raise TimedOutError(
            f"the deadline of {current.given_s:g} s has passed",
            possibly_billed=False,
            hint="give it more time, or ask for less",
        )


def attempt_timeout_s(
    p95_s: float, *, remaining_s: float, attempts_left: int, shortest_s: float = SHORTEST_ATTEMPT_S
) -> float:
    """Say how long one attempt may take: thrice the predicted 95th percentile, within its share of what is left.

    An attempt that may use up the whole deadline leaves no time for another way: a timeout well below it
    is what makes a second provider useful.

    Parameters
    ----------
    p95_s
        What 95 % of such calls are predicted to stay below, in seconds.
    attempts_left
        How many attempts may still be made, this one included.

    Examples
    --------
    >>> attempt_timeout_s(1.5, remaining_s=20, attempts_left=2)
    4.5
    >>> attempt_timeout_s(0.1, remaining_s=20, attempts_left=2)
    2.0
    >>> attempt_timeout_s(30, remaining_s=20, attempts_left=2)
    10.0
    """
    return min(max(3 * p95_s, shortest_s), remaining_s / max(1, attempts_left))
