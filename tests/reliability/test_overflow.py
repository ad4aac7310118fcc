import pytest

from dspex.errors import (
    AuthenticationError,
    CircuitOpenError,
    OverloadedError,
    RateLimitedError,
    RequestRefusedError,
)
from dspex.reliability.overflow import Overflow, instead, is_overflow


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


def test_an_empty_answer_is_an_answer():
    """Only None means that nothing is cached."""
    assert instead(OverloadedError("full"), cached="", cheaper=["small"]) == Overflow(
        "cached", "", stale=True
    )


def test_the_first_cheaper_way_is_taken():
    """The order is the caller's."""
    assert instead(OverloadedError("full"), cheaper=["small", "medium"]) == Overflow("cheaper", "small")


def test_a_rejection_keeps_the_wait():
    """Who is turned away learns when to come back."""
    assert instead(RateLimitedError("later", retry_after_s=3)).retry_after_s == 3
