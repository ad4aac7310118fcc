"""Overflow: which failures mean that there is no room now.

Then an older answer is given, marked as stale, if there is one; else a cheaper strategy is tried; else the call is
refused with the time to wait. Nothing simulated and nothing made up is ever an answer.
"""

from __future__ import annotations

from dspex.errors import ExhaustedError, OverloadedError, RateLimitedError, UnavailableError


def is_overflow(error: BaseException) -> bool:
    """Whether a failure means that there is no room now, rather than that something is wrong.

    Examples
    --------
    >>> is_overflow(OverloadedError("full")), is_overflow(ValueError("no"))
    (True, False)
    """
    if isinstance(error, ExhaustedError):
        return bool(error.failures) and all(map(is_overflow, error.failures))
    return isinstance(error, OverloadedError | RateLimitedError | UnavailableError)
