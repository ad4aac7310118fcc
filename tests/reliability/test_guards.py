"""The guards of a session: one a model, made by the session's options."""

import pytest

from dspex.errors import CircuitOpenError, DefinitionError, RateLimitedError, UnavailableError
from dspex.reliability import BreakerSettings, Guards, Reliability


def failing(error):
    def ask(timeout_s):
        raise error

    return ask


@pytest.fixture
def guards(clock):
    return Guards(
        Reliability(breaker=BreakerSettings(consecutive=1, jitter=0)), clock=clock, sleep=clock.sleep
    )


def test_a_model_has_one_guard(guards):
    """It is made when it is first asked for, and not found before."""
    assert guards.find("a/x") is None
    assert guards.of("a/x") is guards.of("a/x") is guards.find("a/x")
    assert guards.of("a/x") is not guards.of("a/y")
    assert guards.waiting == 0


def test_those_with_one_key_share_the_window(guards):
    """A 429 to one model keeps the others of the same key away too, and nobody else."""
    one, two, other = guards.of("a/x", key="a"), guards.of("a/y", key="a"), guards.of("b/z", key="b")
    with pytest.raises(RateLimitedError):
        one.call(failing(RateLimitedError("later", retry_after_s=2)), again=False)
    assert [each.refusal() for each in (one, two, other)] == ["it asked for 2.0 s of peace"] * 2 + [None]
    assert two.retry_after_s == 2.0


def test_a_breaker_says_when_it_would_admit(guards, clock):
    """Open it refuses; once cooled down, one probe is admitted, and none beside it until that is over."""
    guard = guards.of("a/x", is_local=True)
    with pytest.raises(UnavailableError):
        guard.call(failing(UnavailableError("down")))
    assert guard.refusal() == "its breaker is open"
    assert guard.retry_after_s == 5.0
    clock.now += 5
    assert guard.refusal() is None
    assert guard.call(lambda timeout_s: guard.refusal()) == "its breaker is open"
    assert guard.refusal() is None


def test_a_lost_probe_is_given_up_in_the_end(guards, clock):
    """A thread that was killed with its probe does not keep the model shut for ever."""
    breaker = guards.of("a/x", is_local=True).breaker
    breaker.record(breaker.admit(), "failure")
    clock.now += 5
    breaker.admit()
    assert not breaker.is_admitting
    with pytest.raises(CircuitOpenError):
        breaker.admit()
    clock.now += breaker.settings.probe_lease_s
    assert breaker.is_admitting


def test_with_others_left_nobody_is_asked_twice(guards, clock):
    """`again=False` gives the failure back at once; alone, a model is asked as often as the options say."""
    told = []
    guard = Guards(Reliability(attempts=2), clock=clock, sleep=clock.sleep, on_attempt=told.append).of("a/x")
    with pytest.raises(UnavailableError):
        guard.call(failing(UnavailableError("down")), again=False)
    assert len(told) == 1
    with pytest.raises(UnavailableError):
        guard.call(failing(UnavailableError("down")))
    assert len(told) == 3


def test_an_attempt_gets_its_least_time(guards):
    """Thrice what is predicted, and no less than the options say."""
    given = []
    guard = guards.of("a/x")
    guard.call(given.append, p95_s=0.1)
    guard.call(given.append, p95_s=100.0)
    assert given == [60.0, 300.0]


@pytest.mark.parametrize(
    "wrong", [{"timeout_s": 0}, {"attempts": 0}, {"slots": 0}, {"shortest_attempt_s": 0}]
)
def test_options_are_checked(wrong):
    """Each must be above 0."""
    with pytest.raises(DefinitionError, match=next(iter(wrong))):
        Reliability(**wrong)
