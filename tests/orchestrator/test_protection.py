"""Protection: outcomes of guarded attempts, what is closed, how long to wait, and what is announced."""

from __future__ import annotations

import pytest

from dspex.errors import OverloadedError, RequestRefusedError, TimedOutError, UnavailableError
from dspex.events import AttemptFailed, BreakerTurned, LoadLevelChanged
from dspex.orchestrator.protection import Protection, reason_of
from dspex.records import Outcome, Strategy, Usage
from dspex.reliability import Guards, Load, Reliability, within

PLAIN, REASONED = Strategy("a/x", "Predict"), Strategy("a/x", "ChainOfThought")
DONE = Outcome({"answer": "a"}, Usage(1, 10, 5, 0.01, 1.0))


class Clock:
    def __init__(self):
        self.now, self.slept = 0.0, []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def told():
    return []


@pytest.fixture
def load():
    return [Load()]


@pytest.fixture
def protection(clock, told, load):
    settings = Reliability(load=lambda queued: load[0], calm_s=5.0)
    made = Protection(settings, publish=told.append)
    made.guards = Guards(
        settings, on_turn=made._turned, on_attempt=made._attempted, clock=clock, sleep=clock.sleep
    )
    made.degradation._clock = clock
    return made


def failed(error):
    return Outcome(
        None, Usage(1, 10, 0, 0.01, 2.0), f"{type(error).__name__}: {error.message}", failure=error
    )


def scripted(*outcomes):
    waiting = list(outcomes)
    return lambda strategy: waiting.pop(0)


def test_a_retry_that_may_be_paid_for_twice_is_marked(protection, told):
    """The outcome adds up what all attempts took, and names those that failed; one may be on the bill."""
    outcome = protection.attempt(
        scripted(failed(TimedOutError("late")), failed(UnavailableError("down")), DONE),
        PLAIN,
        attempts_left=1,
        p95_s=None,
    )
    assert outcome.output == {"answer": "a"}
    assert outcome.usage == Usage(3, 30, 5, 0.03, 5.0)
    assert outcome.retries == ("TimedOutError: late (may be billed)", "UnavailableError: down")
    assert [(each.number, each.possibly_billed) for each in told if isinstance(each, AttemptFailed)] == [
        (0, True),
        (1, False),
    ]


def test_a_refused_request_is_asked_once(protection):
    """What the user must change is not asked again, and does not open the breaker."""
    for _ in range(5):
        error = RequestRefusedError("no such field")
        outcome = protection.attempt(scripted(failed(error)), PLAIN, attempts_left=1, p95_s=None)
        assert (outcome.failure, outcome.retries, outcome.was_asked) == (error, (), True)
    assert protection.why_closed(PLAIN) is None


def test_an_open_breaker_closes_its_model_until_it_may_be_probed(protection, clock, told):
    """No attempt is made meanwhile, the wait is known, and each turn is announced."""
    for _ in range(3):
        protection.attempt(scripted(failed(UnavailableError("down"))), PLAIN, attempts_left=2, p95_s=None)
    assert protection.why_closed(PLAIN) == protection.why_closed(REASONED) == "its breaker is open"
    outcome = protection.attempt(scripted(), PLAIN, attempts_left=2, p95_s=None)
    assert (outcome.was_asked, outcome.usage, reason_of(outcome)) == (False, Usage(), "circuit_open")
    assert protection.wait_s([PLAIN]) == 1.0
    clock.now += 6.1
    assert protection.wait_s([PLAIN]) == 0.2
    assert protection.attempt(scripted(DONE), PLAIN, attempts_left=2, p95_s=None) == DONE
    assert [each.after for each in told if isinstance(each, BreakerTurned)] == ["open", "half-open", "closed"]


def test_there_is_only_time_to_wait_within_a_deadline(protection):
    """Without one nobody waits; with one, as long as some of it is left afterwards."""
    assert not protection.has_time_to(0.2)
    with within(10):
        assert protection.has_time_to(0.2)
        assert not protection.has_time_to(11)


def test_the_load_is_looked_at_once_a_second(protection, clock, load, told):
    """Complex reasoning is closed while there is too much to do; alone it is refused; calm brings it back in steps."""
    protection.check_load([REASONED])
    load[0] = Load(memory_percent=95)
    protection.check_load([REASONED])  # within the second, nobody looks
    clock.now += 1.0
    with pytest.raises(OverloadedError, match="complex reasoning pauses while the machine is degraded"):
        protection.check_load([REASONED])
    protection.check_load([REASONED, PLAIN])
    assert protection.why_closed(REASONED) == "complex reasoning pauses while the machine is degraded"
    assert protection.why_closed(PLAIN) is None
    load[0] = Load()
    for _ in range(12):
        clock.now += 1.0
        protection.look()
    changes = [(each.before, each.after) for each in told if isinstance(each, LoadLevelChanged)]
    assert changes == [("normal", "degraded"), ("degraded", "strained"), ("strained", "normal")]


@pytest.mark.parametrize(
    ("error", "word"),
    [(TimedOutError("late"), "timeout"), (OverloadedError("full"), "overload"), (None, "response")],
)
def test_a_reason_is_one_word(error, word):
    """As it stands in `result.fallback_reason`."""
    assert reason_of(Outcome(None, Usage(), "it failed", failure=error)) == word
