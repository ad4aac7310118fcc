import random
from concurrent.futures import CancelledError

import pytest

from dspex.errors import (
    CircuitOpenError,
    RateLimitedError,
    RequestRefusedError,
    TimedOutError,
    UnavailableError,
)
from dspex.reliability import Backoff, Guard, RetryPolicy, within


class Upstream:
    """Does what it is told, one instruction a call; then answers."""

    def __init__(self, *script):
        self.script = list(script)
        self.timeouts = []

    def __call__(self, timeout_s):
        self.timeouts.append(timeout_s)
        does = self.script.pop(0) if self.script else "answer"
        if isinstance(does, BaseException):
            raise does
        return does


@pytest.fixture
def guard(clock):
    policy = RetryPolicy(backoff=Backoff(jitter=False), rng=random.Random(0))
    made = Guard.of("p/m", slots=8, retry=policy, clock=clock)
    made.sleep = clock.sleep
    return made


def test_a_passing_trouble_is_asked_through(guard, clock):
    """Two failures are waited out, each attempt is told, and one that may have been billed is marked."""
    attempts = []
    guard.listen = attempts.append
    upstream = Upstream(UnavailableError("down"), TimedOutError("late"))
    assert guard.call(upstream) == "answer"
    assert clock.slept == [0.2, 0.4]
    assert [(each.number, each.outcome, each.possibly_billed) for each in attempts] == [
        (0, "failure", False),
        (1, "failure", True),
        (2, "success", False),
    ]


def test_a_rate_limit_delays_everybody_and_trips_nothing(guard, clock):
    """A 429 with Retry-After 2 keeps all callers away for 2 s; however many there are, the breaker stays closed."""
    for _ in range(10):
        began = clock.now
        assert guard.call(Upstream(RateLimitedError("later", retry_after_s=2.0))) == "answer"
        assert clock.now - began == 2.0
    assert guard.breaker.state == "closed"
    with pytest.raises(RateLimitedError):
        guard.call(Upstream(RateLimitedError("later", retry_after_s=2.0)), idempotent=False)
    untouched = Upstream()
    with pytest.raises(RateLimitedError, match=r"asked not to be called for another 2.0 s"):
        guard.call(untouched, idempotent=False)
    assert untouched.timeouts == []
    assert guard.limit.slots < 8


def test_a_users_mistake_is_raised_at_once(guard, clock):
    """A refused request is neither asked again nor held against the provider."""
    for _ in range(10):
        with pytest.raises(RequestRefusedError):
            guard.call(Upstream(RequestRefusedError("no")))
    assert (clock.slept, guard.breaker.state) == ([], "closed")


def test_an_open_breaker_is_not_waited_for(guard, clock):
    """Once it is open, nobody is asked and nobody waits; after the cool-down one call finds out."""
    with pytest.raises(UnavailableError):
        guard.call(Upstream(*[UnavailableError("down")] * 3))
    untouched, slept = Upstream(), list(clock.slept)
    with pytest.raises(CircuitOpenError):
        guard.call(untouched)
    assert (untouched.timeouts, clock.slept) == ([], slept)
    clock.now += 6.1
    assert guard.call(Upstream()) == "answer"
    assert guard.breaker.state == "closed"


def test_nothing_is_waited_for_past_the_deadline(guard, clock):
    """What does not fit any more is given up at once, and what is late is not begun."""
    with within(2.5, clock=clock):
        with pytest.raises(RateLimitedError):
            guard.call(Upstream(RateLimitedError("later", retry_after_s=3.0)))
        assert clock.slept == []
        clock.now = 2.5
        untouched = Upstream()
        with pytest.raises(TimedOutError):
            guard.call(untouched)
        assert untouched.timeouts == []


def test_an_attempt_leaves_time_for_the_others(guard, clock):
    """With two providers to try, the first may take thrice its predicted time, or half of what is left."""
    upstream = Upstream()
    guard.p95_s = 1.0
    with within(20, clock=clock):
        guard.call(upstream, attempts_left=2)
        guard.p95_s = 60.0
        guard.call(upstream, attempts_left=2)
        guard.call(upstream, attempts_left=1)
    assert upstream.timeouts == [3.0, 10.0, 20.0]


def test_an_interrupted_call_frees_everything(guard):
    """Stopping a call gives its slot back and counts neither way; a cancelled one is not even told of."""
    told = []
    guard.listen = told.append
    for error, heard in ((KeyboardInterrupt(), 1), (CancelledError(), 1)):
        with pytest.raises(type(error)):
            guard.call(Upstream(error))
        assert len(told) == heard
    assert repr(guard.slots) == "<Bulkhead p/m: 0 of 8 slots taken, 0 waiting>"
    assert "0 of the last 0 calls failed" in repr(guard.breaker)


def test_a_programming_error_is_not_relabelled(guard):
    """What is no provider's failure comes out as it is."""
    with pytest.raises(ZeroDivisionError):
        guard.call(Upstream(ZeroDivisionError()))
    assert guard.breaker.state == "closed"


def test_a_turn_counts_failures_of_its_own(guard, clock):
    """Only what names the provider opens its breaker; other errors give the ticket back."""
    for error in (KeyError("x"), UnavailableError("down", provider="q/m"), RequestRefusedError("no")):
        for _ in range(3):
            with pytest.raises(type(error)), guard.turn():
                raise error
    assert guard.breaker.state == "closed"
    for _ in range(3):
        with pytest.raises(UnavailableError), guard.turn():
            raise UnavailableError("down", provider="p/m")
    assert guard.breaker.state == "open"
    with pytest.raises(CircuitOpenError), guard.turn():
        raise AssertionError("nobody is asked")
    clock.now += 10
    with guard.turn():
        assert guard.breaker.state == "half-open"
    assert guard.breaker.state == "closed"


def test_a_turn_closes_the_window_and_halves_the_slots(guard):
    """A 429 within it is one like any other."""
    with pytest.raises(RateLimitedError), guard.turn():
        raise RateLimitedError("later", provider="p/m", retry_after_s=3.0)
    assert (guard.window.wait_s, guard.slots.slots) == (3.0, 4)


def test_what_a_turn_asks_within_does_not_wait_for_itself(clock):
    """With one slot, and while it finds out whether the provider is well, its own calls go through."""
    guard = Guard.of("p/m", slots=1, clock=clock)
    with guard.turn():
        assert guard.call(lambda timeout_s: timeout_s) == float("inf")
        assert guard.slots.waiting == 0
    assert guard.call(lambda _: "answer") == "answer"
