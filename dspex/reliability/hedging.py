"""Hedges: when a second provider is asked beside a first one that is slow, and how often that may be."""

from __future__ import annotations

import math
import threading
from typing import Literal

from dspex.errors import DefinitionError

HedgeAfter = float | Literal["p95"]
"""So many seconds, or when the call takes longer than 95 % of such calls are predicted to."""
HEDGED_SHARE = 0.1
_NORMAL_90 = 1.645
_SCATTER = 0.4
"""The standard deviation of a call's log latency about its mean, as the router takes it to be, too."""


class HedgeBudget:
    """How many hedges the calls so far are worth: each earns a part of one, and ten at most are saved up.

    A provider that is slow for everybody is not made quicker by asking twice as much: where most calls are
    slow, most of them are not hedged.

    References
    ----------
    Dean and Barroso, "The tail at scale", Communications of the ACM 56 (2013): hedged requests, held to a
    small share of all.

    Examples
    --------
    >>> budget = HedgeBudget(share=0.5)
    >>> [budget.take(), budget.take()]
    [True, False]
    >>> budget.earn(), budget.earn(), budget.take()
    (None, None, True)
    """

    def __init__(self, share: float = HEDGED_SHARE, *, most: float = 10.0) -> None:
        if not (0 < share <= 1 <= most):
            raise DefinitionError(
                f"hedges are a share above 0 and up to 1 of the calls, and 1 or more are saved up, "
                f"got share={share}, most={most}"
            )
        self._share, self._most = share, most
        # The first one is given: a session of a dozen calls has a tail too.
        self._saved = 1.0
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return (
            f"<HedgeBudget {self._saved:.1f} of {self._most:g} saved, {100 * self._share:g} % of the calls>"
        )

    def earn(self) -> None:
        """Count a call that might be hedged."""
        with self._lock:
            self._saved = min(self._most, self._saved + self._share)

    def take(self) -> bool:
        """Spend a hedge, if there is one."""
        with self._lock:
            has_one = self._saved >= 1.0 - 1e-9  # ten tenths are one
            self._saved -= has_one
        return has_one


def p95_s(mean_s: float, high_s: float) -> float:
    """Say what 95 % of calls are expected to stay below, from what is believed of their mean.

    Calls scatter around a mean that is known ever better: the interval of the mean alone would call half of
    them slow.

    Parameters
    ----------
    mean_s, high_s
        The geometric mean of the latencies, and the upper end of its 90 % interval.

    Examples
    --------
    >>> round(p95_s(1.0, 1.0), 2), round(p95_s(1.0, 2.0), 2)
    (1.93, 2.6)
    """
    return mean_s * math.exp(math.hypot(math.log(high_s / mean_s), _NORMAL_90 * _SCATTER))


def wait_s(after: HedgeAfter, p95_s: float) -> float:
    """Say how long a first attempt has before another is begun beside it.

    Parameters
    ----------
    p95_s
        What 95 % of such calls are predicted to stay below, in seconds.

    Examples
    --------
    >>> wait_s(0.5, p95_s=2.0), wait_s("p95", p95_s=2.0)
    (0.5, 2.0)
    """
    return p95_s if isinstance(after, str) else after


def checked(after: HedgeAfter | None) -> None:
    """Refuse what cannot be waited for.

    Raises
    ------
    DefinitionError
        If it is neither seconds above 0 nor ``p95``.
    """
    is_seconds = isinstance(after, int | float) and not isinstance(after, bool) and after > 0
    if after is not None and after != "p95" and not is_seconds:
        raise DefinitionError(
            f"hedge_after_s must be above 0, or 'p95', or None for never, got {after!r}",
            hint="'p95' hedges what takes longer than 95 % of such calls are predicted to",
        )
