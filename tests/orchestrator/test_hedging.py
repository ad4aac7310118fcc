"""Hedging: who is asked beside whom, which answer counts, and what becomes of the other."""

from __future__ import annotations

import logging
import threading
from contextvars import ContextVar

import pytest
from worlds import ASKED, FAST, QA, SLOW, execution

from dspex.errors import BudgetError, ExhaustedError, UnavailableError
from dspex.events import AttemptFailed, EventBus, ExecutionFinished, HedgeBegun
from dspex.orchestrator.engine import Orchestrator
from dspex.orchestrator.hedging import Hedgeable
from dspex.orchestrator.model import BeliefModel
from dspex.orchestrator.policy import objective_named
from dspex.orchestrator.protection import Protection
from dspex.records import Outcome, Strategy, Usage
from dspex.reliability import HedgeBudget, Load, Reliability, deadline
from dspex.reliability.hedging import p95_s

THIRD = Strategy("third", "Predict")
AT_ONCE = 1e-9
"""The first attempts of these tests wait for a gate, so that they are always slow enough."""
USED = Usage(1, 100, 20, 0.01, 1.5)
QUICK = Usage(1, 100, 20, 1e-4, 0.01)
YES = Outcome({"answer": "yes"}, USED)
WAIT_S = 30.0


def broken(usage=USED):
    error = UnavailableError("down")
    return Outcome(None, usage, "UnavailableError: down", failure=error)


class World:
    """Two models or three whose attempts wait until they are let go; what happens is written down."""

    def __init__(self, *, after=AT_ONCE, load=None, **settings):
        self.events = EventBus()
        self.seen, self.asked, self.threads = [], [], {}
        self.ended = threading.Semaphore(0)
        self.events.subscribe(self._hear)
        settings = Reliability(hedge_after_s=after, load=lambda _: load or Load(), **settings)
        self.protection = Protection(settings, publish=self.events.publish)
        self.brain = Orchestrator(
            BeliefModel(),
            objective=objective_named("latency"),
            events=self.events,
            protection=self.protection,
        )
        # It is known for quick, so that it is chosen first.
        self.brain.replay([execution(number, SLOW, usage=QUICK) for number in range(20)])
        self.gates = {each: threading.Event() for each in (SLOW, FAST, THIRD)}
        self.does = dict.fromkeys(self.gates, YES)
        self.pays = self.first_asks_first = True

    def _hear(self, event):
        self.seen.append(event)
        if isinstance(event, ExecutionFinished):
            self.ended.release()

    def of(self, kind):
        return [event for event in self.seen if isinstance(event, kind)]

    def executions(self, count):
        """Return those that have ended, once there are so many."""
        for _ in range(count):
            assert self.ended.acquire(timeout=WAIT_S)
        return [event.execution for event in self.of(ExecutionFinished)]

    def after(self, strategy, outcome):
        """Bring an outcome once another attempt, which is let go now, has ended."""

        def bring():
            self.let_go(strategy)
            while strategy not in self.threads:
                pass
            self.threads[strategy].join(WAIT_S)
            return outcome

        return bring

    def let_go(self, *strategies):
        for each in strategies:
            self.gates[each].set()

    def attempt(self, strategy):
        self.threads[strategy] = threading.current_thread()
        self.asked.append(strategy)
        if strategy != SLOW and self.first_asks_first:
            while SLOW not in self.asked:  # one that has asked nobody yet would be withdrawn
                pass
        assert self.gates[strategy].wait(WAIT_S)
        does = self.does[strategy]
        if callable(does):
            return does()
        if isinstance(does, BaseException):
            raise does
        return does

    def run(self, strategies=(SLOW, FAST), *, remote=None, attempt=None, **options):
        hedgeable = Hedgeable(strategies if remote is None else remote, lambda _: self.pays)
        options = {"explore": False, "hedgeable": hedgeable, **options}
        return self.brain.orchestrate(
            QA, {"question": "?"}, strategies, attempt or self.attempt, pool="inline", **options
        )


@pytest.fixture
def world():
    made = World()
    yield made
    made.let_go(*made.gates)


def told(done, kind="monitor"):
    return next(step.detail for step in done.trace if step.kind == kind)


def test_the_first_good_answer_counts(world):
    """A second model is asked beside one that is slow, answers, and is the result; the trace says so."""
    world.let_go(FAST)
    done = world.run()
    assert sorted(world.asked) == [FAST, SLOW]
    assert (done.decision.strategy, done.decision.role) == (FAST, "hedge")
    assert "slow · Predict had not answered after 0.00 s" in done.decision.reason
    assert done.fallback_reason == "slow"
    assert done.usage == USED
    assert told(done) == (
        "fast · Predict was asked too after 0.00 s; fast · Predict answered in 1.50 s for $0.010000 "
        "(1 call(s)); the other was not waited for, and may be billed"
    )
    assert told(done, "fall_back") == "not needed"
    (begun,) = world.of(HedgeBegun)
    assert (begun.slow, begun.hedge, begun.execution_id) == (SLOW, FAST, done.execution.parent_id)


def test_who_lost_is_kept_when_it_ends(world):
    """Its own row, under the name that the hedge knows it by; its time and its price are learned from."""
    world.let_go(FAST)
    done = world.run()
    learned, before = world.brain.beliefs.n_observations, world.brain.beliefs.belief("latency", ASKED, SLOW)
    assert world.executions(1) == [done.execution]
    assert not done.execution.overtaken
    world.let_go(SLOW)
    lost = world.executions(1)[1]
    assert (lost.id, lost.role, lost.parent_id) == (done.execution.parent_id, "policy", None)
    assert (lost.ok, lost.overtaken, lost.usage) == (True, True, USED)
    assert sum(lost.propensities.values()) == pytest.approx(1.0)
    assert world.brain.beliefs.n_observations == learned + 1
    assert world.brain.beliefs.belief("latency", ASKED, SLOW).mean > before.mean


def test_the_first_choice_may_still_win(world):
    """Then it is the result, and the hedge is kept as what was overtaken."""

    def once_hedged():
        while FAST not in world.asked:
            pass
        return YES

    world.does[SLOW] = once_hedged
    world.let_go(SLOW)
    done = world.run()
    assert (done.decision.strategy, done.decision.role, done.fallback_reason) == (SLOW, "policy", None)
    assert "fast · Predict was asked too after 0.00 s; slow · Predict answered" in told(done)
    world.let_go(FAST)
    lost = world.executions(2)[1]
    assert (lost.strategy, lost.role, lost.overtaken, lost.parent_id) == (
        FAST,
        "hedge",
        True,
        done.execution.id,
    )


def test_a_first_choice_that_fails_is_answered_for_by_the_hedge(world):
    """Both have ended: both are in the log and in the usage, and the reason is the failure."""
    world.does |= {SLOW: broken(), FAST: world.after(SLOW, YES)}
    world.let_go(FAST)
    done = world.run()
    assert (done.decision.strategy, done.fallback_reason, done.usage.calls) == (FAST, "availability", 2)
    assert told(done).endswith("slow · Predict failed: UnavailableError: down")
    assert [(each.ok, each.overtaken) for each in world.executions(2)] == [(False, False), (True, False)]


def test_a_hedge_that_fails_is_not_the_end(world):
    """The first choice is waited for as it would have been, and has not been replaced."""
    world.does |= {FAST: broken(), SLOW: world.after(FAST, YES)}
    world.let_go(SLOW)
    done = world.run()
    assert (done.decision.strategy, done.fallback_reason, done.usage.calls) == (SLOW, None, 2)
    assert told(done).endswith("fast · Predict failed: UnavailableError: down")


def test_when_both_fail_a_third_is_tried(world):
    """Neither of the two is asked a second time."""
    world.does |= {SLOW: broken(), FAST: world.after(SLOW, broken())}
    world.let_go(FAST, THIRD)
    done = world.run([SLOW, FAST, THIRD], remote=[SLOW, FAST])
    assert (sorted(world.asked[:2]), world.asked[2:]) == ([FAST, SLOW], [THIRD])
    assert (done.decision.strategy, done.decision.role, done.usage.calls) == (THIRD, "fallback", 3)
    assert "slow · Predict: UnavailableError: down" in told(done, "fall_back")
    assert "fast · Predict: UnavailableError: down" in told(done, "fall_back")


def test_when_all_fail_the_error_names_all(world):
    """Each with its own reason."""
    world.does |= {SLOW: broken(), FAST: world.after(SLOW, broken())}
    world.let_go(FAST)
    with pytest.raises(ExhaustedError) as caught:
        world.run()
    for each in (SLOW, FAST):
        assert f"{each}: UnavailableError: down" in str(caught.value)


def test_an_answer_in_time_is_not_hedged():
    """Nobody else is asked, and no hedge is spent."""
    world = World(after=1e9)
    world.let_go(SLOW)
    done = world.run()
    assert (world.asked, world.of(HedgeBegun), done.execution.overtaken) == ([SLOW], [], False)
    assert told(done) == "answered in 1.50 s for $0.010000 (1 call(s))"
    assert world.protection.hedges.take()


class Frank(HedgeBudget):
    """A budget that says when it has nothing to give."""

    def __init__(self, on_refusal):
        super().__init__()
        self._on_refusal = on_refusal

    def take(self):
        has_one = super().take()
        if not has_one:
            self._on_refusal()
        return has_one


def test_one_call_in_ten_is_hedged(world):
    """Forty calls that are all slow get the one hedge that is given, and four that they have earned."""
    world.protection.hedges = Frank(lambda: world.let_go(SLOW))
    world.does[SLOW] = Outcome({"answer": "late"}, QUICK)
    world.let_go(FAST)
    for _ in range(40):
        world.gates[SLOW].clear()
        world.run()
    assert len(world.of(HedgeBegun)) == 5


def fill(world):
    world.held = world.protection.guards.of("fast").slots.slot()
    world.held.__enter__()


@pytest.mark.parametrize(
    "trouble",
    [
        lambda world: [world.protection.guards.of("fast").breaker.record(0, "failure") for _ in range(3)],
        fill,
        lambda world: world.protection.guards.of("fast").window.extend(60),
        lambda world: setattr(world, "pays", False),
        lambda world: world.protection.degradation.observe(Load(queued=300)),
    ],
    ids=[
        "its breaker is open",
        "it has no room",
        "it asked for peace",
        "nobody pays",
        "there is too much to do",
    ],
)
def test_only_who_is_well_and_has_room_is_asked(trouble):
    """Otherwise the first choice is waited for, and no hedge is spent."""
    world = World(slots=1)
    trouble(world)
    is_at_ease = world.protection.is_at_ease

    def look(strategy):
        world.let_go(SLOW)
        return is_at_ease(strategy)

    world.protection.is_at_ease = look
    assert world.run().decision.strategy == SLOW
    assert (world.asked, world.of(HedgeBegun)) == ([SLOW], [])
    assert world.protection.hedges.take()


def test_who_waits_for_a_slot_is_not_asked_for_nothing():
    """An attempt that has been overtaken before its turn gives the turn up: nothing is asked, paid or told."""
    world = World(slots=1)
    world.first_asks_first = False
    world.let_go(SLOW, FAST)
    guard = world.protection.guards.of("slow")
    with guard.slots.slot():
        done = world.run()
    assert told(done).endswith("the other had not been asked yet, and is not")
    while guard.slots.waiting or not guard.slots.is_free:
        pass
    assert world.asked == [FAST]
    assert [event.execution.strategy for event in world.of(ExecutionFinished)] == [FAST]
    assert (world.of(AttemptFailed), "0 of the last 0" in repr(guard.breaker)) == ([], True)


def test_a_hedge_that_cannot_be_paid_any_more_is_none(world):
    """Others may have spent what was left when it was begun; the first choice goes on alone."""
    world.does |= {FAST: BudgetError("spent", spent="$1"), SLOW: world.after(FAST, YES)}
    world.let_go(SLOW)
    done = world.run()
    assert (done.decision.strategy, done.usage.calls) == (SLOW, 1)
    assert told(done) == "answered in 1.50 s for $0.010000 (1 call(s))"


@pytest.mark.parametrize("error", [BudgetError("spent", spent="$1"), ZeroDivisionError()])
def test_what_is_no_models_failure_is_raised(world, error):
    """A bug, or a limit that the first choice itself has met, ends the call at once."""
    world.does[SLOW] = error
    world.let_go(SLOW)
    with pytest.raises(type(error)):
        world.run()


def test_a_bug_that_nobody_waits_for_is_logged(world, caplog):
    """It would be lost otherwise."""
    caplog.set_level(logging.WARNING, logger="dspex")
    world.let_go(FAST)
    world.does[SLOW] = ZeroDivisionError("a bug")
    world.run()
    world.let_go(SLOW)
    while "a bug" not in caplog.text:
        pass
    assert "slow · Predict was not waited for, and ended with an error" in caplog.text


def test_both_attempts_know_what_the_caller_knows(world):
    """The deadline, and whatever else its context holds."""
    owner = ContextVar("owner", default="nobody")
    owner.set("me")
    known = []

    def attempt(strategy):
        known.append((strategy, owner.get(), deadline.remaining_s() <= WAIT_S))
        return world.attempt(strategy)

    world.let_go(FAST)
    with deadline.within(WAIT_S):
        world.run(attempt=attempt)
    assert sorted(known) == [(FAST, "me", True), (SLOW, "me", True)]


def test_without_a_number_the_prediction_says_when():
    """``p95`` is what 95 % of the calls of the strategy that was chosen are expected to stay below."""
    world = World(after="p95")
    decision = world.brain.decide(ASKED, [SLOW, FAST], explore=False)
    predicted = decision.chosen.latency_s
    assert decision.chosen.strategy == SLOW
    assert world.protection.hedge_after_s(decision) == p95_s(predicted.mean, predicted.high)
    assert world.brain.decide(ASKED, [SLOW, FAST], pin=FAST).chosen is None


@pytest.mark.parametrize("remote", [[], [FAST], [SLOW]])
def test_only_two_models_behind_wires_are_asked_at_once(world, remote):
    """If the first choice runs in this process, or the other one does, it is as without hedging."""
    world.let_go(SLOW)
    assert world.run(remote=remote).decision.strategy == SLOW
    assert (world.asked, world.of(HedgeBegun)) == ([SLOW], [])
