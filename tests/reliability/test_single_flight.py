import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from dspex.errors import TimedOutError, UnavailableError
from dspex.reliability.single_flight import SingleFlight


class Work:
    """Work that waits until it is let go."""

    def __init__(self, error=None):
        self.calls = 0
        self.begun, self.go = threading.Event(), threading.Event()
        self.error = error

    def __call__(self):
        self.calls += 1
        self.begun.set()
        assert self.go.wait(10)
        if self.error is not None:
            raise self.error
        return self.calls


def waiting(flights):
    """Count the threads that wait for another's work."""
    return sum(len(flight._condition._waiters) for flight in flights._flights.values())


def until(holds):
    tick = threading.Event()
    for _ in range(2_000):
        if holds():
            return
        tick.wait(0.005)
    raise AssertionError("it never came to hold")


def test_threads_share_one_execution():
    """Twenty threads that ask for the same at the same time get one answer that was made once."""
    flights, work = SingleFlight(), Work()
    with ThreadPoolExecutor(20) as threads:
        asked = [threads.submit(flights.do, "key", work) for _ in range(20)]
        until(lambda: waiting(flights) == 19)
        work.go.set()
        assert {each.result(10) for each in asked} == {1}
    assert len(flights) == 0
    assert flights.do("key", work) == 2


def test_other_keys_do_not_wait():
    """Only equal requests are shared."""
    flights = SingleFlight()
    assert flights.do("a", lambda: flights.do("b", lambda: "inner")) == "inner"


def test_errors_are_shared():
    """What fails for one fails for all who waited, and is asked anew afterwards."""
    flights, work = SingleFlight(), Work(UnavailableError("down"))
    with ThreadPoolExecutor(3) as threads:
        asked = [threads.submit(flights.do, "key", work) for _ in range(3)]
        until(lambda: waiting(flights) == 2)
        work.go.set()
        assert [type(each.exception(10)) for each in asked] == [UnavailableError] * 3
    assert work.calls == 1
    assert flights.do("key", lambda: "well") == "well"


def test_an_interrupted_thread_hands_over():
    """When the thread that works is interrupted, one who waited does the work instead."""
    flights, work = SingleFlight(), Work(KeyboardInterrupt())
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(flights.do, "key", work)
        assert work.begun.wait(10)
        second = threads.submit(flights.do, "key", lambda: "anew")
        until(lambda: waiting(flights) == 1)
        work.go.set()
        assert second.result(10) == "anew"
        assert isinstance(first.exception(10), KeyboardInterrupt)


def test_who_waits_too_long_leaves_alone():
    """A waiter's timeout is its own; the work goes on."""
    flights, work = SingleFlight(), Work()
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(flights.do, "key", work)
        assert work.begun.wait(10)
        with pytest.raises(TimedOutError, match=r"not answered within 0.01 s"):
            flights.do("key", work, timeout_s=0.01)
        work.go.set()
        assert first.result(10) == 1


def test_the_works_own_timeout_is_its_own():
    """A TimeoutError that the work raised is not taken for a waiter's."""
    flights, work = SingleFlight(), Work(TimeoutError("inner"))
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(flights.do, "key", work)
        assert work.begun.wait(10)
        second = threads.submit(flights.do, "key", work, timeout_s=10)
        until(lambda: waiting(flights) == 1)
        work.go.set()
        assert [str(each.exception(10)) for each in (first, second)] == ["inner", "inner"]
