"""The loop: six steps, learning, fallback with its reason, and pins."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from worlds import ASKED, FAST, QA, SLOW, Truth, execution, orchestrator, run_once

from dspex.errors import DefinitionError, ExhaustedError, UnknownNameError
from dspex.events import DecisionMade, ExecutionFinished, LabelGiven
from dspex.records import Label, Outcome, Strategy, Usage

STEPS = ["analyze", "select", "distribute", "monitor", "adapt", "fall_back"]


def test_a_run_leaves_six_steps_in_order():
    """The trace holds every step once, and their times fit into the whole."""
    done = run_once(orchestrator(), {FAST: Truth(), SLOW: Truth()}, random.Random(0))
    assert [step.kind for step in done.trace] == STEPS
    ends = [step.start_s + step.duration_s for step in done.trace]
    assert ends == sorted(ends)
    assert sum(step.duration_s for step in done.trace) <= ends[-1]


def test_finds_the_fast_one_and_notices_when_it_slows():
    """After ten runs each the quicker of two equals is chosen; when it slows, the route flips within 30 calls."""
    brain, rng = orchestrator("latency"), random.Random(0)
    world = {FAST: Truth(latency_s=0.05), SLOW: Truth(latency_s=0.8)}
    for strategy in [FAST, SLOW] * 10:
        run_once(brain, {strategy: world[strategy]}, rng)
    chosen = Counter(run_once(brain, world, rng).decision.strategy for _ in range(100))
    assert chosen[FAST] >= 90
    world[FAST] = Truth(latency_s=4.0)
    for _ in range(30):
        run_once(brain, world, rng)
    chosen = Counter(run_once(brain, world, rng).decision.strategy for _ in range(50))
    assert chosen[SLOW] >= 45


def test_learning_beats_every_fixed_way_but_the_best():
    """In a seeded world of six strategies the learner's utility is near the best and far above the mean."""
    strategies = [Strategy(model, module) for model in "abc" for module in ("Predict", "ChainOfThought")]
    world = {each: Truth(quality=0.3 + 0.1 * k, latency_s=0.5 + 0.1 * k) for k, each in enumerate(strategies)}
    brain, rng = orchestrator("quality", seed=3), random.Random(3)
    qualities = [world[run_once(brain, world, rng).decision.strategy].quality for _ in range(400)]
    assert sum(qualities[200:]) / 200 > 0.72
    assert sum(qualities) / 400 > 0.55 + 0.1


def test_without_exploration_the_choice_is_the_best_believed():
    """`explore=False` always takes the best, and says so with probability one."""
    brain, rng = orchestrator(exploration=0.5), random.Random(0)
    world = {FAST: Truth(quality=1.0), SLOW: Truth(quality=0.0)}
    for _ in range(60):
        run_once(brain, world, rng)
    for _ in range(20):
        decision = brain.decide(ASKED, [FAST, SLOW], explore=False)
        assert (decision.strategy, decision.propensity) == (FAST, 1.0)


def test_explaining_runs_and_changes_nothing():
    """The same question is explained the same way twice, and the next choice is not disturbed."""
    brain = orchestrator()
    first = brain.explain(QA, {"question": "?"}, [FAST, SLOW])
    assert first == brain.explain(QA, {"question": "?"}, [FAST, SLOW])
    assert brain.beliefs.n_observations == 0
    assert {each.strategy for each in first.alternatives} == {FAST, SLOW}


def test_a_pinned_strategy_is_taken_and_recorded_as_such():
    """What the user asked for is not argued with."""
    brain = orchestrator()
    done = brain.orchestrate(
        QA,
        {"question": "?"},
        [FAST, SLOW],
        lambda _: Outcome({"answer": 1}, Usage()),
        pool="inline",
        pin=SLOW,
    )
    assert (done.decision.strategy, done.decision.role, done.execution.role) == (SLOW, "pinned", "pinned")
    assert done.execution.propensities == {}


def test_an_unknown_pin_names_the_nearest():
    """A pin that cannot run is an error before anything runs."""
    with pytest.raises(UnknownNameError, match="did you mean 'slow · Predict'"):
        orchestrator().decide(ASKED, [FAST, SLOW], pin=Strategy("slo", "Predict"))


def test_a_failure_falls_back_to_another_model_and_says_why():
    """The answer comes from the second model, and the trace holds the first one's error."""
    other = Strategy("fast", "ChainOfThought")

    def attempt(strategy: Strategy) -> Outcome:
        if strategy.model == "fast":
            return Outcome(None, Usage(1, 10, 0, 0.001, 2.0), "LMServerError: down")
        return Outcome({"answer": "yes"}, Usage(1, 10, 5, 0.002, 1.0))

    brain = orchestrator()
    done = None
    for _ in range(20):  # until the choice falls on the broken model
        done = brain.orchestrate(QA, {"question": "?"}, [FAST, other, SLOW], attempt, pool="inline")
        if done.usage.calls == 2:
            break
    assert done.decision.role == "fallback"
    assert done.decision.strategy == SLOW
    assert done.outcome.output == {"answer": "yes"}
    assert "LMServerError: down" in done.trace[-1].detail
    assert done.execution.parent_id is not None
    assert done.usage == Usage(2, 20, 5, 0.003, 3.0)


def test_when_all_fail_every_reason_is_in_the_error():
    """Three attempts at most, each named with its own error."""
    strategies = [Strategy(name, "Predict") for name in "abcde"]
    tried = []

    def attempt(strategy: Strategy) -> Outcome:
        tried.append(strategy)
        return Outcome(None, Usage(), f"broken {strategy.model}")

    with pytest.raises(ExhaustedError) as caught:
        orchestrator().orchestrate(QA, {"question": "?"}, strategies, attempt, pool="inline")
    assert len(tried) == len(set(tried)) == 3
    for strategy in tried:
        assert f"{strategy}: broken {strategy.model}" in str(caught.value)


def test_a_pinned_strategy_does_not_fall_back():
    """Asking for one way means that way or an error."""
    with pytest.raises(ExhaustedError):
        orchestrator().orchestrate(
            QA,
            {"question": "?"},
            [FAST, SLOW],
            lambda _: Outcome(None, Usage(), "no"),
            pool="inline",
            pin=FAST,
        )


def test_a_bug_passes_through_unchanged():
    """A programming error is not the provider's failure, and is not relabelled."""

    def attempt(_: Strategy) -> Outcome:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        orchestrator().orchestrate(QA, {"question": "?"}, [FAST], attempt, pool="inline")


def test_everything_is_announced():
    """Decisions, executions and labels are events, in the order in which they happen."""
    brain, seen = orchestrator(), []
    brain._events.subscribe(seen.append)
    run_once(brain, {FAST: Truth()}, random.Random(0))
    assert [type(event) for event in seen] == [DecisionMade, ExecutionFinished, LabelGiven]


def test_logged_propensities_are_those_of_the_choice():
    """The log can be weighed against later: it holds the exact probability of every strategy."""
    done = run_once(orchestrator(), {FAST: Truth(), SLOW: Truth()}, random.Random(0))
    assert sum(done.execution.propensities.values()) == pytest.approx(1.0)
    assert done.execution.propensities[str(done.decision.strategy)] == done.decision.propensity


def test_replay_knows_what_was_learned():
    """A new orchestrator that reads the log believes what the old one believed."""
    log = [execution(number, FAST) for number in range(10)]
    labels = [Label(each.id, 0.0, each.at) for each in log]
    brain = orchestrator()
    brain.replay([*log, *labels])
    assert brain.beliefs.n_observations == 10
    assert brain.beliefs.belief("quality", ASKED, FAST).mean < 0.2


@pytest.mark.parametrize("quality", [-0.1, 1.1])
def test_a_rating_out_of_range_is_refused(quality):
    """Ratings are shares of right."""
    with pytest.raises(DefinitionError, match=r"must be in \[0, 1\]"):
        orchestrator().rate("e1", quality)


def test_exploration_is_a_probability():
    """An exploration beyond one is refused when the orchestrator is made."""
    with pytest.raises(DefinitionError, match="exploration is a probability, got 2"):
        orchestrator(exploration=2)
