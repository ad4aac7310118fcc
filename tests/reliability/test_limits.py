import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from dspex.errors import DefinitionError, OverloadedError, RateLimitedError, TimedOutError
from dspex.reliability import limits
from dspex.reliability.deadline import within
from dspex.reliability.limits import AdaptiveLimit, BackoffWindow, Bulkhead, queue_size


def until(holds):
    tick = threading.Event()
    for _ in range(2_000):
        if holds():
            return
        tick.wait(0.005)
    raise AssertionError("it never came to hold")


class Crowd:
    """Threads that take a slot each and keep it until they are let go; they come one after another."""

    def __init__(self):
        self.threads, self.go = ThreadPoolExecutor(32), threading.Event()
        self.came, self.served, self.running, self.worst = 0, [], 0, 0
        self._lock = threading.Lock()

    def come(self, bulkhead, n, *, deadline=None):
        """Send so many, and return when the last one has its slot or waits."""
        calls = []
        for _ in range(n):
            there = bulkhead._taken + bulkhead.waiting
            calls.append(self.threads.submit(self._call, bulkhead, self.came, deadline))
            self.came += 1
            until(lambda there=there: bulkhead._taken + bulkhead.waiting == there + 1)
        return calls

    def _call(self, bulkhead, number, deadline):
        with within(deadline), bulkhead.slot():
            with self._lock:
                self.served.append(number)
                self.running += 1
                self.worst = max(self.worst, self.running)
            assert self.go.wait(10)
            with self._lock:
                self.running -= 1
        return number


@pytest.fixture
def crowd():
    made = Crowd()
    yield made
    made.go.set()
    made.threads.shutdown()


def test_a_flood_is_served_in_turn():
    """A hundred threads at ten slots all get through, ten at a time, and the rest wait for them."""
    bulkhead, lock, now, worst = Bulkhead("p", slots=10, waiting=100), threading.Lock(), [0], [0]
    hold = threading.Event()

    def call():
        with bulkhead.slot():
            with lock:
                now[0] += 1
                worst[0] = max(worst[0], now[0])
            assert hold.wait(10)
            with lock:
                now[0] -= 1
        return True

    with ThreadPoolExecutor(100) as threads:
        calls = [threads.submit(call) for _ in range(100)]
        until(lambda: bulkhead.waiting == 90)
        hold.set()
        assert all(each.result(10) for each in calls)
    assert (worst[0], bulkhead.deepest) == (10, 90)
    assert repr(bulkhead) == "<Bulkhead p: 0 of 10 slots taken, 0 waiting>"


def test_first_come_first_served(crowd):
    """Slots go to who has waited longest."""
    crowd.come(Bulkhead("p", slots=1), 20)
    crowd.go.set()
    crowd.threads.shutdown()
    assert crowd.served == list(range(20))


def test_a_full_queue_refuses_with_the_wait(clock, crowd):
    """Who would not be served in time is told at once, and when to come back."""
    bulkhead = Bulkhead("openai", slots=2, waiting=3, clock=clock)
    with bulkhead.slot():
        clock.now += 4.0
    crowd.come(bulkhead, 5)
    with pytest.raises(OverloadedError) as caught, bulkhead.slot():
        pass
    error = caught.value
    assert error.message == "openai is overloaded: 3 are waiting for 2 slots, about 8.0 s"
    assert error.retry_after_s == 8.0
    assert "ask again in 8.0 s" in error.hint


@pytest.mark.parametrize(
    ("deadline_s", "slots", "service_s", "size"),
    [(1.0, 20, 0.05, 200), (1.0, 1, 10.0, 1), (float("inf"), 10, 1.0, 300), (10.0, 4, 2.0, 10)],
)
def test_the_queue_is_sized_by_what_is_served_in_time(deadline_s, slots, service_s, size):
    """Half of the deadline may be spent waiting; without one a minute is taken."""
    assert queue_size(deadline_s=deadline_s, slots=slots, service_s=service_s) == size


def test_the_callers_deadline_bounds_its_queue(clock, crowd):
    """With twenty seconds left and ten a call, one may wait for the only slot, and no second."""
    bulkhead = Bulkhead("p", slots=1, clock=clock)
    with bulkhead.slot():
        clock.now += 10.0
    crowd.come(bulkhead, 2, deadline=20)
    with pytest.raises(OverloadedError), within(20), bulkhead.slot():
        pass


def test_waiting_ends_with_the_deadline():
    """Who waits past its deadline leaves the queue; nothing was billed."""
    bulkhead = Bulkhead("p", slots=1)
    with bulkhead.slot():
        with pytest.raises(TimedOutError, match="no slot of p") as caught, within(0.01), bulkhead.slot():
            pass
        assert not caught.value.possibly_billed
        assert bulkhead.waiting == 0
    assert repr(bulkhead) == "<Bulkhead p: 0 of 1 slots taken, 0 waiting>"


class Interrupted(Future):
    """A place in the queue whose owner is interrupted while it waits, or just when its slot has come."""

    def __init__(self, before):
        super().__init__()
        self._before = before

    def result(self, timeout=None):
        del timeout
        self._before()
        raise KeyboardInterrupt


@pytest.mark.parametrize("after_grant", [False, True])
def test_an_interrupted_waiter_loses_no_slot(monkeypatch, after_grant):
    """It leaves the queue, or hands on the slot that was granted just then."""
    bulkhead = Bulkhead("p", slots=1)
    holder = bulkhead.slot()
    holder.__enter__()

    def before():
        if after_grant:
            holder.__exit__(None, None, None)
            assert bulkhead._taken == 1

    monkeypatch.setattr(limits, "Future", lambda: Interrupted(before))
    with pytest.raises(KeyboardInterrupt), bulkhead.slot():
        pass
    if not after_grant:
        assert repr(bulkhead) == "<Bulkhead p: 1 of 1 slots taken, 0 waiting>"
        holder.__exit__(None, None, None)
    assert repr(bulkhead) == "<Bulkhead p: 0 of 1 slots taken, 0 waiting>"


def test_a_sick_one_does_not_stall_the_others():
    """While every slot of one bulkhead hangs, calls through another go on."""
    sick, well, go = Bulkhead("sick", slots=2, waiting=0), Bulkhead("well", slots=2), threading.Event()

    def hang():
        with sick.slot():
            assert go.wait(10)

    with ThreadPoolExecutor(2) as threads:
        for _ in range(2):
            threads.submit(hang)
        until(lambda: "2 of 2" in repr(sick))
        with pytest.raises(OverloadedError), sick.slot():
            pass
        for _ in range(20):
            with well.slot():
                assert "1 of 2" in repr(well)
        go.set()


def test_an_adaptive_limit_halves_and_creeps_back(clock):
    """A burst of 429s halves it once; each round of successes allows one more."""
    limit = AdaptiveLimit(16, clock=clock)
    for _ in range(5):
        limit.on_rate_limited()
    assert limit.slots == 8
    clock.now = 1.0
    limit.on_rate_limited()
    assert limit.slots == 4
    for _ in range(5):
        limit.on_success()
    assert limit.slots == 5
    for _ in range(300):
        limit.on_success()
    assert limit.slots == 16
    for second in range(2, 12):
        clock.now = float(second)
        limit.on_rate_limited()
    assert limit.slots == 1


def test_a_bulkhead_follows_its_limit(clock, crowd):
    """With half of the slots gone, freed ones are not given out again until there is room."""
    limit = AdaptiveLimit(4, clock=clock)
    bulkhead = Bulkhead("p", slots=limit)
    first = crowd.come(bulkhead, 4)
    limit.on_rate_limited()
    rest = Crowd()
    more = rest.come(bulkhead, 6)
    crowd.go.set()
    assert [call.result(10) for call in first] == [0, 1, 2, 3]
    until(lambda: rest.running == 2)
    assert repr(bulkhead) == "<Bulkhead p: 2 of 2 slots taken, 4 waiting>"
    rest.go.set()
    assert [call.result(10) for call in more] == list(range(6))
    assert (rest.worst, bulkhead.slots) == (2, 2)
    rest.threads.shutdown()


def test_a_backoff_window_is_shared_and_never_shortened(clock):
    """Everybody waits as long as the longest wait that was asked for."""
    window = BackoffWindow("openai", clock=clock)
    window.check()
    window.extend(5)
    window.extend(1)
    with pytest.raises(RateLimitedError) as caught:
        window.check()
    assert caught.value.retry_after_s == 5.0
    clock.now = 5.0
    window.check()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Bulkhead("p", slots=0),
        lambda: Bulkhead("p", slots=1, waiting=-1),
        lambda: AdaptiveLimit(0),
        lambda: AdaptiveLimit(2, least=3),
    ],
)
def test_impossible_limits_are_refused(make):
    """Bounds are checked where they are set."""
    with pytest.raises(DefinitionError, match="got"):
        make()
