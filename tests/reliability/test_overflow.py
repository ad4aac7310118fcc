import pytest

from dspex.errors import (
    AuthenticationError,
    CircuitOpenError,
    ExhaustedError,
    OverloadedError,
    RateLimitedError,
    RequestRefusedError,
)
from dspex.reliability.overflow import is_overflow


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OverloadedError("full"), True),
        (RateLimitedError("later"), True),
        (CircuitOpenError("open"), True),
        (AuthenticationError("no"), False),
        (RequestRefusedError("no"), False),
        (ValueError("no"), False),
    ],
)
def test_what_is_an_overflow(error, expected):
    """Lack of room is one; a mistake is not, and must be shown."""
    assert is_overflow(error) is expected


def test_a_call_is_one_if_every_attempt_was():
    """One attempt that failed for another reason is a mistake to be shown, and so is a call without any."""
    error = ExhaustedError("all failed")
    assert not is_overflow(error)
    error.failures = (OverloadedError("full"), RateLimitedError("later"))
    assert is_overflow(error)
    error.failures = (OverloadedError("full"), AuthenticationError("no"))
    assert not is_overflow(error)
