"""Online variables: they move to what pays, follow a change, and keep to their cooldown and budget."""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING

import pytest
from clocks import Clock

import dspex as dx
from dspex.errors import VariableError
from dspex.records import Execution, Label, Objective, Requirements, Strategy, Usage

if TYPE_CHECKING:
    from collections.abc import Callable

TRIAGE = dx.sandbox.task("triage")
SIGNATURE = dx.signature(TRIAGE.signature, TRIAGE.instructions, name="Triage")
ASKED = Requirements("QA", "k", 40, 1, reasoning=False, complexity="low")


class World:
    """A registry with one online variable, used once a second."""

    def __init__(self, variable: dx.Online, *, seed: int = 0, objective: Objective | None = None) -> None:
        self.clock = Clock()
        self.registry = dx.Registry(dx.Space(v=variable), clock=self.clock)
        self.objective = objective or Objective()
        self.rng = random.Random(seed)
        self.used: list[object] = []

    def run(
        self,
        uses: int,
        quality: Callable[[object], float] = lambda _: 1.0,
        *,
        success: Callable[[object], float] = lambda _: 1.0,
        usage: Callable[[object], Usage] = lambda _: Usage(1, 100, 20, 1e-4, 1.0),
        is_rated: bool = True,
    ) -> list[object]:
        """Use it so many times in a world of these chances; return the values that were used."""
        for _ in range(uses):
            self.clock.now += 1
            values = dict(self.registry.use())
            value, name = values["v"], str(len(self.used))
            execution = Execution(
                name,
                self.clock.now,
                ASKED,
                Strategy("m", "Predict"),
                "policy",
                {},
                self.rng.random() < success(value),
                usage(value),
                configuration=values,
            )
            self.registry.learn(execution, self.objective)
            if is_rated and execution.ok:
                rating = float(self.rng.random() < quality(value))
                self.registry.learn(Label(name, rating, self.clock.now), self.objective)
            self.used.append(value)
        return self.used[-uses:]


def switches(world: World) -> list[float]:
    return [change.at for change in world.registry.history]


A_IS_BETTER, B_IS_BETTER = {"a": 0.9, "b": 0.4}, {"a": 0.4, "b": 0.9}
SEEDS = range(10)


class TestLearning:
    """What pays is what is used."""

    @pytest.mark.parametrize("seed", SEEDS)
    def test_it_shifts_to_the_better_arm_after_a_drift(self, seed):
        """The better of two options has most uses, and from a hundred uses after a change on the new one has."""
        world = World(dx.Online(dx.Choice(["a", "b"]), seed=seed), seed=seed)
        assert world.run(200, A_IS_BETTER.get)[-100:].count("a") >= 65
        assert world.run(200, B_IS_BETTER.get)[-100:].count("b") >= 65

    @pytest.mark.parametrize("seed", SEEDS)
    def test_a_number_finds_its_neighbourhood(self, seed):
        """Of seven values in a range most uses go to those near the best one."""
        world = World(dx.Online(dx.Float(0.0, 1.5, default=1.2), seed=seed), seed=seed)
        used = world.run(500, lambda value: 0.95 - 0.6 * abs(value - 0.3))[-200:]
        assert sum(abs(value - 0.3) <= 0.35 for value in used) >= 140

    @pytest.mark.parametrize(
        ("objective", "expected"),
        [
            (Objective(0.2, 0.7, 0.1), "fast"),
            (Objective(0.2, 0.1, 0.7), "cheap"),
            (Objective(0.9, 0.05, 0.05), "good"),
        ],
    )
    def test_the_objective_says_what_pays(self, objective, expected):
        """Speed, cheapness or quality: what weighs most decides."""
        variable = dx.Online(dx.Choice(["slow", "fast", "cheap", "good"]), seed=1)
        world = World(variable, objective=objective)
        used = world.run(
            300,
            lambda value: 0.95 if value == "good" else 0.5,
            usage=lambda value: Usage(
                1, 100, 20, 1e-5 if value == "cheap" else 2e-3, 0.1 if value == "fast" else 8.0
            ),
        )
        assert used[-150:].count(expected) >= 110

    def test_failures_teach_without_ratings(self):
        """A value that often fails is left, though nobody rates."""
        world = World(dx.Online(dx.Bool(default=True)))
        used = world.run(200, success=lambda value: 0.3 if value else 1.0, is_rated=False)
        assert used[-100:].count(False) >= 80

    def test_one_seed_one_history(self):
        """The same seed takes the same values, another one others."""

        def used(seed: int) -> list[object]:
            return World(dx.Online(dx.Choice(["a", "b", "c"]), seed=seed)).run(60, lambda _: 0.5)

        assert used(1) == used(1)
        assert used(1) != used(2)

    def test_a_longer_memory_follows_later(self):
        """What is forgotten slowly goes on being believed."""

        def after_a_change(memory: int) -> int:
            world = World(dx.Online(dx.Choice(["a", "b"]), memory=memory))
            world.run(400, A_IS_BETTER.get)
            return world.run(60, B_IS_BETTER.get).count("b")

        assert after_a_change(20) > after_a_change(5000)

    def test_the_resolution_says_how_many_values_are_tried(self):
        """Evenly spaced over the range, besides the default."""
        used = World(dx.Online(dx.Float(0.0, 1.0, default=0.3), resolution=3)).run(200, lambda _: 0.5)
        assert set(used) == {0.0, 0.3, 0.5, 1.0}

    def test_a_value_that_somebody_writes_is_one_more(self):
        """It is judged like those that were there."""
        world = World(dx.Online(dx.Float(0.0, 1.0, default=0.0, step=0.1), resolution=2))
        world.run(20, lambda _: 0.1)
        world.registry["v"] = 0.5
        assert world.run(200, lambda value: 0.9 if value == 0.5 else 0.1)[-100:].count(0.5) >= 75

    def test_a_long_time_without_surprises_is_survived(self):
        """Thousands of uses that all go the same way leave beliefs that can still be drawn from."""
        world = World(dx.Online(dx.Float(0.0, 1.0), resolution=9, memory=100_000))
        world.run(3000, is_rated=False)
        assert all(0.0 <= worth <= 1.0 for worth in world.registry.online["v"].worths.values())

    def test_a_late_rating_counts_when_it_comes(self):
        """Worth moves with the rating, also when many uses lie between, and a corrected one replaces it."""
        world = World(dx.Online(dx.Choice(["a", "b"]), budget=0))
        learned = world.registry.online["v"]
        world.run(20, is_rated=False)
        before = learned.worths["a"]
        world.registry.learn(Label("0", 0.0, 1.0), world.objective)
        worse = learned.worths["a"]
        world.registry.learn(Label("0", 1.0, 2.0), world.objective)
        assert worse < before < learned.worths["a"]
        world.registry.learn(Label("unknown", 0.0, 2.0), world.objective)

    def test_each_move_is_in_the_history_with_its_reason(self):
        """What adapts says so, as everybody who writes."""
        world = World(dx.Online(dx.Choice(["a", "b"])))
        world.run(50, A_IS_BETTER.get)
        assert {change.by for change in world.registry.history} == {"online"}
        assert {change.why.split(":")[0] for change in world.registry.history} == {"tried", "believed best"}


class TestBounds:
    """Cooldown, budget, leases."""

    @pytest.mark.parametrize("seed", SEEDS)
    def test_it_never_switches_twice_within_the_cooldown(self, seed):
        """Also not when the world turns over, and also not back."""
        world = World(dx.Online(dx.Choice(["a", "b", "c"]), cooldown_s=25, seed=seed), seed=seed)
        world.run(300, lambda value: {"a": 0.9, "b": 0.5, "c": 0.4}[value])
        world.run(300, lambda value: {"a": 0.1, "b": 0.5, "c": 0.9}[value])
        at = switches(world)
        assert len(at) >= 3
        assert min(later - sooner for sooner, later in itertools.pairwise(at)) >= 25

    def test_a_write_by_somebody_starts_the_cooldown(self):
        """What a person has set stays that long."""
        world = World(dx.Online(dx.Choice(["a", "b"]), cooldown_s=50))
        world.run(120, A_IS_BETTER.get)
        world.registry.set({"v": "b"}, by="me")
        assert world.run(49, A_IS_BETTER.get) == ["b"] * 49

    @pytest.mark.parametrize("seed", SEEDS)
    def test_it_stops_at_its_budget_and_stays_on_the_best(self, seed):
        """Ten exploratory uses, and no more, find the better option; after them there is no other switch."""
        world = World(dx.Online(dx.Choice(["a", "b"]), budget=10, seed=seed), seed=seed)
        learned = world.registry.online["v"]
        while not learned.is_spent:
            world.run(20, B_IS_BETTER.get)
        world.run(20, B_IS_BETTER.get)
        written = len(world.registry.history)
        assert set(world.run(100, A_IS_BETTER.get)) == {"b"}
        assert len(world.registry.history) == written
        assert learned.explorations == 10
        assert learned.worths["b"] < 0.75

    def test_without_a_budget_it_does_not_explore(self):
        """Zero uses, or zero dollars, leave it at its default."""
        for variable in (
            dx.Online(dx.Choice(["a", "b"]), budget=0),
            dx.Online(dx.Choice(["a", "b"]), budget_usd=0.0),
        ):
            assert set(World(variable).run(50, B_IS_BETTER.get)) == {"a"}

    def test_a_budget_in_dollars(self):
        """Uses of values that are not believed best cost it; when it is gone nothing moves any more."""
        world = World(dx.Online(dx.Choice(["a", "b"]), budget_usd=5e-4))
        learned = world.registry.online["v"]
        while not learned.is_spent:
            world.run(20, A_IS_BETTER.get)
        assert learned.explored_usd == pytest.approx(5e-4)
        assert len(set(world.run(100, B_IS_BETTER.get))) == 1

    def test_what_is_leased_does_not_move(self):
        """Whoever has leased the variable is not disturbed; afterwards it moves again."""
        world = World(dx.Online(dx.Choice(["a", "b"])))
        with world.registry.lease(["v"], "me"):
            assert set(world.run(50, B_IS_BETTER.get)) == {"a"}
        assert set(world.run(50, B_IS_BETTER.get)) == {"a", "b"}

    @pytest.mark.parametrize(
        ("define", "message"),
        [
            (lambda: dx.Online(3), "an online variable is a Choice, Float, Int or Bool that adapts, got 3"),
            (lambda: dx.Online(dx.Choice(["a"])), "needs at least two values"),
            (
                lambda: dx.Online(dx.Bool(), cooldown_s=-1, memory=0),
                r"cooldown_s must be a number >= 0, got -1\n  - memory must be a number >= 1, got 0",
            ),
            (lambda: dx.Online(dx.Bool(), budget="ten"), "budget must be a number >= 0, got 'ten'"),
        ],
    )
    def test_bad_definitions(self, define, message):
        """Every rule that is broken is said."""
        with pytest.raises(VariableError, match=message):
            define()


@pytest.mark.usefixtures("runtime")
class TestInService:
    """Calls and ratings teach it, and nothing else has to be done."""

    def test_rated_calls_move_it_to_the_better_model(self):
        """Of two models the one that answers right is the one that is asked."""
        dx.configure(dx.sandbox.MODELS, store="memory", objective="quality")
        registry = dx.Registry(
            dx.Space(model=dx.Online(dx.Model(["sandbox/small", "sandbox/large"]), memory=200))
        )
        asked = []
        for example in [*TRIAGE.train, *TRIAGE.dev][:150]:
            result = dx.execute(SIGNATURE, space=registry, message=example.message)
            result.rate(float(result.label == example.label))
            asked.append(result.decision.strategy.model)
            assert result.decision.configuration == {"model": asked[-1]}
        assert asked[-50:].count("sandbox/large") >= 38

    def test_explaining_moves_nothing(self):
        """Only a use may switch."""
        registry = dx.Registry(dx.Space(temperature=dx.Online(dx.Float(0.0, 1.5))))
        for _ in range(20):
            dx.explain(SIGNATURE, space=registry, message="hello")
        assert registry.version == 0

    def test_a_study_searches_it_like_any_other(self):
        """The variable's range is searched, from the value in force, and it does not move meanwhile."""
        registry = dx.Registry(dx.Space(temperature=dx.Online(dx.Float(0.0, 1.5, default=0.7))))
        registry["temperature"] = 0.5
        study = dx.optimize(
            SIGNATURE,
            space=registry,
            trainset=TRIAGE.train[:6],
            metric=dx.metrics.exact_match,
            budget=dx.Budget(trials=3),
        ).wait()
        assert study.baseline.configuration == {"temperature": 0.5}
        assert len(study.finished_trials) == 3
