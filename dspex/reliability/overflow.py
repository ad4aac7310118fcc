"""Overflow: what to answer when there is no room for a call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from dspex.errors import OverloadedError, RateLimitedError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dspex.errors import DspexError

Step = Literal["cached", "cheaper", "reject"]


@dataclass(frozen=True, slots=True)
class Overflow:
    """What is done instead of the call."""

    step: Step
    value: Any = None
    """The cached answer, or the strategy to try."""
    stale: bool = False
    """Whether the answer is an older one and has to say so."""
    retry_after_s: float | None = None
    """When there may be room again, if it is rejected."""


def is_overflow(error: BaseException) -> bool:
    """Whether a failure means that there is no room now, rather than that something is wrong."""
    return isinstance(error, OverloadedError | RateLimitedError | UnavailableError)


def instead(error: DspexError, *, cached: Any = None, cheaper: Sequence[Any] = ()) -> Overflow:
    """Say what to do: an older answer, then the first cheaper strategy, then to reject with the wait.

    Nothing simulated and nothing made up is ever an answer.

    Parameters
    ----------
    cached
        An older answer to the same request; None if there is none.
    cheaper
        Strategies that cost less and have room, the best first.

    Examples
    --------
    >>> full = OverloadedError("full", retry_after_s=0.3)
    >>> instead(full, cached="Paris", cheaper=["small"])
    Overflow(step='cached', value='Paris', stale=True, retry_after_s=None)
    >>> instead(full, cheaper=["small"]).value
    'small'
    >>> instead(full)
    Overflow(step='reject', value=None, stale=False, retry_after_s=0.3)
    """
    if cached is not None:
        return Overflow("cached", cached, stale=True)
    if cheaper:
        return Overflow("cheaper", cheaper[0])
    return Overflow("reject", retry_after_s=getattr(error, "retry_after_s", None))
