import asyncio
import itertools
import random
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dspex.errors import CircuitOpenError, DefinitionError, UnavailableError
from dspex.reliability.breaker import Breaker, BreakerSettings, Transition, outcome_of

IN_A_ROW = BreakerSettings(consecutive=5, failure_rate=None)


def record(breaker, outcomes, latency_s=0.0):
    for outcome in outcomes:
        breaker.record(breaker.admit(), {"f": "failure", "s": "success", "i": "ignored"}[outcome], latency_s)


def opened(clock, *, listen=None, **settings):
    breaker = Breaker(
        "p/m", BreakerSettings(jitter=0, **settings), clock=clock, rng=random.Random(0), listen=listen
    )
    record(breaker, "fff")
    return breaker


@pytest.mark.parametrize(
    ("outcomes", "settings", "state"),
    [
        ("ffffsffff", IN_A_ROW, "closed"),
        ("fffff", IN_A_ROW, "open"),
        ("ff", BreakerSettings(), "closed"),
        ("fff", BreakerSettings(), "open"),
        ("ffsf", BreakerSettings(), "closed"),
        ("ffsff", BreakerSettings(), "open"),
        ("fsfsfs", BreakerSettings(), "open"),
        ("sssfsssfsssfsssfsssf", BreakerSettings(), "closed"),
        ("iiiiiiii", BreakerSettings(), "closed"),
        ("ffifif", BreakerSettings(), "open"),
        ("ffffff", BreakerSettings(consecutive=None, failure_rate=None), "closed"),
        ("s" * 20 + "fs" * 9, BreakerSettings(consecutive=None), "closed"),
        ("s" * 20 + "ff" * 5, BreakerSettings(consecutive=None), "open"),
    ],
)
def test_what_opens_it(outcomes, settings, state):
    """Failures in a row or their share open it; what is ignored neither counts nor interrupts."""
    breaker = Breaker("p/m", settings)
    for outcome in outcomes:
        if breaker.state == "open":
            break
        record(breaker, outcome)
    assert breaker.state == state


def test_what_a_broken_pool_refuses_is_not_the_providers_fault():
    """A call that was not made, as the workers it should run in are broken, says nothing of a provider."""
    assert outcome_of(CircuitOpenError("pool 'general' is not asked for 5.0 s")) == "ignored"
    assert outcome_of(UnavailableError("down")) == "failure"


def test_slow_answers_open_it(clock):
    """When most answers are slower than bearable, nobody is sent there any more."""
    slow = BreakerSettings(slow_call_s=2.0, slow_rate=0.6)
    breaker = Breaker("p/m", slow, clock=clock)
    record(breaker, "sssss", latency_s=2.0)
    record(breaker, "sssss", latency_s=2.1)
    assert breaker.state == "closed"
    record(breaker, "sss", latency_s=2.1)
    assert breaker.state == "open"
    assert "8 of the last 13 calls took over 2 s" in repr(breaker)


def test_it_says_how_long_and_why(clock):
    """The refusal names the provider, the wait and the reason."""
    breaker = opened(clock)
    clock.now = 2.0
    with pytest.raises(CircuitOpenError) as caught:
        breaker.admit()
    assert caught.value.message == "p/m is not asked for 3.0 s: 3 failures in a row"
    assert (caught.value.retry_after_s, breaker.retry_after_s, caught.value.provider) == (3.0, 3.0, "p/m")
    assert repr(breaker) == "<Breaker p/m: open, 3 failures in a row>"


def test_cool_downs_double_up_to_a_bound(clock):
    """Each failed probe doubles the cool-down, and a good one starts over."""
    heard = []
    breaker = opened(clock, listen=heard.append)
    for _ in range(6):
        clock.now += breaker.retry_after_s
        record(breaker, "f")
    clock.now += breaker.retry_after_s
    record(breaker, "s")
    record(breaker, "fff")
    assert [each.open_s for each in heard if each.after == "open"] == [5, 10, 20, 40, 80, 120, 120, 5]
    assert heard[0] == Transition("p/m", "closed", "open", "3 failures in a row", 5.0, 1)
    assert [each.after for each in heard[-3:]] == ["half-open", "closed", "open"]


def test_jitter_is_seeded_and_bounded(clock):
    """Cool-downs are off by a fifth at most, and the same with the same seed."""

    def first(seed):
        breaker = Breaker("p/m", clock=clock, rng=random.Random(seed))
        record(breaker, "fff")
        return breaker.retry_after_s

    waits = [first(seed) for seed in range(50)]
    assert waits == [first(seed) for seed in range(50)]
    assert min(waits) >= 4
    assert max(waits) <= 6
    assert max(waits) - min(waits) > 1


@pytest.mark.parametrize("probes", [1, 3])
def test_exactly_so_many_probes_reach_the_upstream(clock, probes):
    """Of 100 threads that call a half-open breaker at once, as many get through as may probe."""
    breaker = opened(clock, probes=probes)
    clock.now = 5.0
    together, reached, refused = threading.Barrier(100), [], []

    def call():
        together.wait()
        try:
            reached.append(breaker.admit())
        except CircuitOpenError:
            refused.append(1)

    with ThreadPoolExecutor(100) as threads:
        for _ in range(100):
            threads.submit(call)
    assert (len(reached), len(refused)) == (probes, 100 - probes)


def test_one_probe_among_tasks(clock):
    """Of 50 tasks one asks the upstream; its failure keeps the others away."""
    breaker, asked = opened(clock), []
    clock.now = 5.0

    async def call():
        ticket = breaker.admit()
        asked.append(1)
        await asyncio.sleep(0)
        breaker.record(ticket, "failure")

    async def all_at_once():
        return await asyncio.gather(*(call() for _ in range(50)), return_exceptions=True)

    results = asyncio.run(all_at_once())
    assert len(asked) == 1
    assert sum(isinstance(result, CircuitOpenError) for result in results) == 49
    assert breaker.retry_after_s == 10.0


def test_calls_are_not_serialised():
    """Twenty calls through one breaker are all under way at the same time."""
    breaker, inside = Breaker("p/m"), threading.Barrier(20, timeout=10)

    def call():
        ticket = breaker.admit()
        inside.wait()
        breaker.record(ticket, "success")

    with ThreadPoolExecutor(20) as threads:
        for done in [threads.submit(call) for _ in range(20)]:
            done.result()


def test_late_results_count_for_nothing(clock):
    """What was admitted before a transition no longer opens, closes, or counts as a probe."""
    breaker = Breaker("p/m", BreakerSettings(jitter=0), clock=clock)
    early = [breaker.admit() for _ in range(6)]
    for ticket in early[:3]:
        breaker.record(ticket, "failure")
    breaker.record(early[3], "success")
    assert breaker.state == "open"
    clock.now = 5.0
    probe = breaker.admit()
    breaker.record(early[4], "failure")
    assert breaker.state == "half-open"
    breaker.record(probe, "success")
    breaker.record(early[5], "failure")
    assert repr(breaker) == "<Breaker p/m: closed, 0 of the last 0 calls failed>"


def test_an_ignored_probe_frees_its_place(clock):
    """A probe that was cancelled, or told to come back later, decides nothing: the next caller probes."""
    breaker = opened(clock)
    clock.now = 5.0
    breaker.record(breaker.admit(), "ignored")
    assert breaker.state == "half-open"
    breaker.record(breaker.admit(), "success")
    assert breaker.state == "closed"


def test_a_lost_probe_is_given_up(clock):
    """A probe that is never heard of again blocks the way for its lease only, and is late afterwards."""
    heard = []
    breaker = opened(clock, probe_lease_s=30, listen=heard.append)
    clock.now = 5.0
    lost = breaker.admit()
    clock.now = 34.9
    with pytest.raises(CircuitOpenError, match="is being probed"):
        breaker.admit()
    clock.now = 35.0
    probe = breaker.admit()
    assert heard[-1].reason == "a probe was never heard of again"
    breaker.record(lost, "failure")
    breaker.record(probe, "success")
    assert breaker.state == "closed"


def test_impossible_settings_are_listed_together():
    """Every broken rule is in one message."""
    with pytest.raises(DefinitionError) as caught:
        BreakerSettings(window=0, failure_rate=1.5, cool_down_s=0, probes=0)
    assert caught.value.message.count("\n  - ") == 5


class Machine(RuleBasedStateMachine):
    """Any order of calls, ends, and passing time, checked against what a breaker promises."""

    def __init__(self):
        super().__init__()
        self.now = 0.0
        self.heard = []
        settings = BreakerSettings(
            window=6, min_calls=4, cool_down_s=5, longest_cool_down_s=40, probe_lease_s=30
        )
        self.breaker = Breaker(
            "p/m", settings, clock=lambda: self.now, rng=random.Random(1), listen=self.heard.append
        )
        self.out = []
        self.probes_out = 0

    @rule()
    def call(self):
        before = len(self.heard)
        try:
            ticket = self.breaker.admit()
        except CircuitOpenError:
            assert self.breaker.state != "closed"
            return
        assert self.breaker.state != "open"
        if self.breaker.state == "half-open":
            assert self.probes_out == 0 or len(self.heard) > before
            self.probes_out = 1
        self.out.append((ticket, len(self.heard)))

    @precondition(lambda self: self.out)
    @rule(which=st.integers(0), outcome=st.sampled_from(["success", "failure", "ignored"]))
    def end(self, which, outcome):
        ticket, heard = self.out.pop(which % len(self.out))
        before, n = self.breaker.state, len(self.heard)
        self.breaker.record(ticket, outcome)
        if heard != n:
            assert len(self.heard) == n
            assert self.breaker.state == before
        elif before == "half-open":
            self.probes_out = 0
            wanted = {"success": "closed", "failure": "open", "ignored": "half-open"}
            assert self.breaker.state == wanted[outcome]

    @rule(seconds=st.floats(0, 20))
    def wait(self, seconds):
        self.now += seconds

    @invariant()
    def transitions_follow_each_other(self):
        allowed = {("closed", "open"), ("open", "half-open"), ("half-open", "open"), ("half-open", "closed")}
        allowed.add(("half-open", "half-open"))  # a probe was lost
        assert all((each.before, each.after) in allowed for each in self.heard)
        assert all(one.after == other.before for one, other in itertools.pairwise(self.heard))
        assert all(each.open_s <= 48 for each in self.heard)


Machine.TestCase.settings = hypothesis_settings(max_examples=150, stateful_step_count=40, deadline=None)
TestMachine = Machine.TestCase


def test_hammer():
    """Eight threads on one breaker: each time it is half-open one call gets in, and none while it is open."""
    switch, now, admitted, heard = sys.getswitchinterval(), [0.0], [], []
    settings = BreakerSettings(cool_down_s=0.001, longest_cool_down_s=0.001)
    breaker = Breaker("p/m", settings, clock=lambda: now[0], listen=heard.append)

    def work(seed):
        rng = random.Random(seed)
        for _ in range(2_000):
            now[0] += 1e-4
            try:
                ticket = breaker.admit()
            except CircuitOpenError:
                continue
            admitted.append(ticket)
            breaker.record(ticket, "failure" if rng.random() < 0.4 else "success")

    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(8) as threads:
            for done in [threads.submit(work, seed) for seed in range(8)]:
                done.result()
    finally:
        sys.setswitchinterval(switch)
    heard.sort(key=lambda each: each.number)
    assert all(one.after == other.before for one, other in itertools.pairwise(heard))
    calls = Counter(admitted)
    probes = [calls[each.number] for each in heard if each.after == "half-open"]
    assert len(probes) > 40
    assert set(probes) == {1}
    assert not any(calls[each.number] for each in heard if each.after == "open")
