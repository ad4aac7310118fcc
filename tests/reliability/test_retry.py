import random

import pytest

from dspex.errors import (
    AuthenticationError,
    BadResponseError,
    CircuitOpenError,
    DefinitionError,
    OverloadedError,
    RateLimitedError,
    TimedOutError,
    UnavailableError,
)
from dspex.reliability.retry import Backoff, GiveUp, Retry, RetryBudget, RetryPolicy

CALM = RetryPolicy(attempts=10, backoff=Backoff(jitter=False))
DOWN = UnavailableError("down")


def test_delays_double_up_to_a_bound():
    """Without jitter the sequence is exact; after very many attempts too."""
    delays = [CALM.after(DOWN, attempt=n, remaining_s=60).delay_s for n in range(7)]
    assert delays == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert Backoff(jitter=False).delay_s(10_000, rng=random.Random(0)) == 5.0


def test_jitter_is_full_and_seeded():
    """With jitter a delay lies anywhere below its bound, and the same seed gives the same one."""
    backoff, rng = Backoff(), random.Random(3)
    delays = [backoff.delay_s(2, rng=rng) for _ in range(500)]
    assert 0 <= min(delays) < 0.05
    assert 0.75 < max(delays) <= 0.8
    assert delays[0] == Backoff().delay_s(2, rng=random.Random(3))


def test_retry_after_is_waited_for_and_spread():
    """Nobody returns before the provider said, and not everybody at once."""
    error, policy = RateLimitedError("later", retry_after_s=2.0), RetryPolicy(rng=random.Random(0))
    delays = {policy.after(error, attempt=0, remaining_s=30).delay_s for _ in range(20)}
    assert min(delays) >= 2.0
    assert max(delays) <= 2.2
    assert len(delays) == 20


@pytest.mark.parametrize(
    ("error", "options", "reason"),
    [
        (AuthenticationError("no"), {}, "asking again would not help"),
        (ValueError("a mistake of ours"), {}, "asking again would not help"),
        (CircuitOpenError("open"), {}, "another way is better than waiting for this one"),
        (OverloadedError("full"), {}, "another way is better than waiting for this one"),
        (DOWN, {"idempotent": False}, "doing it twice is not the same as doing it once"),
        (DOWN, {"attempt": 9}, "that was attempt 10 of 10"),
        (DOWN, {"remaining_s": 0.1}, "0.2 s of waiting do not fit into the 0.1 s that are left"),
        (DOWN, {"remaining_s": 0.0}, "0.2 s of waiting do not fit into the 0.0 s that are left"),
    ],
)
def test_when_not_to_ask_again(error, options, reason):
    """What cannot help, would be seen twice, or does not fit is given up, with the reason."""
    assert CALM.after(error, **{"attempt": 0, "remaining_s": 60, **options}) == GiveUp(reason)


def test_never_past_the_deadline():
    """A delay is never as long as what is left, whatever the jitter."""
    policy = RetryPolicy(attempts=100)
    for attempt in range(20):
        for remaining_s in (0.0, 0.1, 1.0, 4.0):
            decision = policy.after(DOWN, attempt=attempt, remaining_s=remaining_s)
            assert isinstance(decision, GiveUp) or decision.delay_s < remaining_s


@pytest.mark.parametrize(
    ("error", "possibly_billed"),
    [
        (DOWN, False),
        (UnavailableError("cut off", possibly_billed=True), True),
        (TimedOutError("late"), True),
        (BadResponseError("broken"), True),
        (TimedOutError("no slot", possibly_billed=False), False),
    ],
)
def test_a_possibly_billed_retry_is_marked(error, possibly_billed):
    """A retry of what the provider may have done already says so."""
    assert CALM.after(error, attempt=0, remaining_s=60) == Retry(0.2, possibly_billed)


def test_a_spent_budget_stops_retries():
    """Five failures more than successes can mend stop all retries; successes earn them back."""
    policy = RetryPolicy(backoff=Backoff(jitter=False))
    for _ in range(5):
        assert policy.budget.allows_retry
        policy.budget.on_failure()
    assert policy.after(DOWN, attempt=0, remaining_s=60) == GiveUp(
        "the retry budget is spent: too many calls fail"
    )
    for _ in range(1):
        policy.budget.on_success()
    assert repr(policy.budget) == "<RetryBudget 5.1 of 10 tokens>"
    assert isinstance(policy.after(DOWN, attempt=0, remaining_s=60), Retry)


def test_a_budget_stays_within_its_bounds():
    """Neither a long calm nor a long trouble is remembered for ever."""
    budget = RetryBudget(tokens=2, earned=1)
    for _ in range(9):
        budget.on_success()
    assert repr(budget) == "<RetryBudget 2.0 of 2 tokens>"
    for _ in range(9):
        budget.on_failure()
    budget.on_success()
    budget.on_success()
    assert budget.allows_retry


@pytest.mark.parametrize(
    "make",
    [
        lambda: Backoff(base_s=0),
        lambda: Backoff(base_s=6),
        lambda: RetryPolicy(attempts=0),
        lambda: RetryBudget(tokens=0),
        lambda: RetryBudget(earned=-1),
    ],
)
def test_impossible_settings_are_refused(make):
    """Bounds are said when they are broken, not when a call fails."""
    with pytest.raises(DefinitionError, match="got"):
        make()
