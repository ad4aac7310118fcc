"""BEACON: finds the best for few calls, repeats nothing, is sure of what it says, and keeps to its goal."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from beacon_worlds import EXAMPLES, World, searched

import dspex as dx
from dspex.errors import DataError, ExecutionError, UnknownNameError
from dspex.optimizers import Goal, Row
from dspex.optimizers.beacon import Beacon
from dspex.optimizers.beacon.goal import front


@pytest.mark.parametrize(
    ("acquisition", "bound"),
    [("thompson", 0.05), ("ei", 0.05), ("ucb", 0.05), ("pi", 0.3)],  # the last is known to stay where it is
)
def test_the_best_is_nearly_found_for_few_calls(acquisition, bound):
    """Twelve rounds of eight small batches, 5 seeds: the median regret is below 5 points of a hundred."""
    regrets = []
    for seed in range(5):
        world, beacon = searched(seed, 12, acquisition=acquisition)
        regrets.append(world.best - world.expected(beacon.recommend().configuration))
    assert statistics.median(regrets) < bound


def test_no_example_is_asked_for_twice():
    """A pair of configuration and example is proposed once, also while results are under way."""
    beacon = Beacon(World.space, examples=EXAMPLES, seed=0)
    world, seen, waiting = World(0), set(), []
    for _ in range(30):
        for work in beacon.ask(4):
            pairs = {(work.key, example) for example in work.examples}
            assert not pairs & seen
            seen |= pairs
            waiting.append(work)
        while len(waiting) > 6:
            beacon.tell(world.rows(waiting.pop(0)))


def test_one_seed_is_one_sequence():
    """The same seed and scores propose the same, and the default comes first."""

    def proposals(seed: int) -> list:
        world, beacon = World(0), Beacon(World.space, examples=EXAMPLES, seed=seed)
        found = []
        for _ in range(4):
            works = beacon.ask(4)
            found += works
            for work in works:
                beacon.tell(world.rows(work))
        return found

    assert proposals(0) == proposals(0)
    assert proposals(0) != proposals(1)
    assert proposals(0)[0].configuration == World.space.default()


def test_everything_evaluated_ends_the_search():
    """A finite space is asked for completely, example by example, and then there is no work."""
    space = dx.Space(a=dx.Bool(), b=dx.Choice(list("xy")))
    beacon, pairs = Beacon(space, examples=["p", "q", "r"], seed=0), set()
    while works := beacon.ask(3):
        for work in works:
            pairs |= {(work.key, example) for example in work.examples}
            beacon.tell(Row(work.configuration, example, 1.0) for example in work.examples)
    assert len(pairs) == 4 * 3


def test_rows_of_an_earlier_study_are_a_warm_start():
    """With another study's rows the first recommendation is as good as that study's, and no row is asked for again."""
    world, earlier = searched(0, 12)
    warm = Beacon(World.space, examples=EXAMPLES, seed=1)
    ability = earlier._ability
    rows = [
        Row(earlier._register.configurations[c], EXAMPLES[e], y)
        for c, e, y in zip(ability._who, ability._what, ability._scores, strict=True)
    ]
    warm.tell(rows)
    assert world.expected(warm.best()) > world.expected(earlier.best()) - 0.05
    known = {(World.space.key_of(row.configuration), row.example) for row in rows}
    assert not any((work.key, example) in known for work in warm.ask(8) for example in work.examples)


def test_the_certificate_covers_the_regret():
    """In 8 worlds the true regret is within the bound in at least 7, and more rows tighten the bound."""
    covered, early, late = 0, [], []
    for seed in range(8):
        world, beacon = searched(seed, 4)
        early.append(beacon.recommend().regret_bound)
        for _ in range(8):
            for work in beacon.ask(8):
                beacon.tell(world.rows(work))
        found = beacon.recommend()
        late.append(found.regret_bound)
        covered += world.best - world.expected(found.configuration) <= found.regret_bound
    assert covered >= 7
    assert statistics.median(late) < 0.6 * statistics.median(early)


def test_searching_may_stop_once_it_is_settled():
    """A clear winner settles the search; the first few rows do not."""
    space = dx.Space(tone=dx.Choice(["poor", "good"]), length=dx.Bool())
    beacon, rng = Beacon(space, examples=EXAMPLES, seed=0), np.random.default_rng(0)
    assert not beacon.is_settled()
    rounds = 0
    while not beacon.is_settled(regret=0.05) and rounds < 40:
        rounds += 1
        for work in beacon.ask(4):
            right = {"poor": 0.1, "good": 0.9}[work.configuration["tone"]] - 0.3 * work.configuration[
                "length"
            ]
            beacon.tell(Row(work.configuration, e, float(rng.random() < right)) for e in work.examples)
    assert 1 < rounds < 40
    assert beacon.best() == {"tone": "good", "length": False}


def test_noise_does_not_hide_the_best_of_ten():
    """Ten settings 0.08 apart, noise 0.1, 50 evaluations: the best is recommended in at least 40 of 50 seeds."""
    space = dx.Space(setting=dx.Choice([*range(10)]))
    hits = 0
    for seed in range(50):
        rng = np.random.default_rng(seed)
        means = rng.permutation(np.arange(10) * 0.08)
        beacon, n = Beacon(space, examples=[str(k) for k in range(50)], seed=seed), 0
        while n < 50:
            for work in beacon.ask(1):
                setting = work.configuration["setting"]
                beacon.tell(
                    Row(work.configuration, e, means[setting] + rng.normal(0, 0.1)) for e in work.examples
                )
                n += len(work.examples)
        hits += beacon.best()["setting"] == int(np.argmax(means))
    assert hits >= 40


def test_metrics_of_any_range_are_searched():
    """Scores around 500 are no different from shares."""
    space = dx.Space(x=dx.Float(0.0, 1.0), label=dx.Choice(list("ab")))
    beacon, rng = Beacon(space, examples=EXAMPLES, seed=0), np.random.default_rng(0)
    hard = rng.normal(0, 30, len(EXAMPLES))
    for _ in range(12):
        for work in beacon.ask(4):
            level = (
                500 - 400 * (work.configuration["x"] - 0.3) ** 2 + 20 * (work.configuration["label"] == "b")
            )
            beacon.tell(
                Row(work.configuration, e, level - hard[EXAMPLES.index(e)] + rng.normal(0, 10))
                for e in work.examples
            )
    found = beacon.recommend()
    assert found.configuration["label"] == "b"
    assert abs(found.configuration["x"] - 0.3) < 0.15
    assert found.mean == pytest.approx(520 - hard.mean(), abs=15)


def test_cheaper_winners_are_preferred_when_asked():
    """Cost-aware search pays less per call than cost-blind search, and recommends nearly as well."""
    spent, regret = {}, {}
    for aware in (False, True):
        spent[aware], regret[aware] = [], []
        for seed in range(4):
            world, beacon = searched(seed, 8, cost_aware=aware)
            prices = [{"a": 1, "b": 2, "c": 8, "d": 3}[c["model"]] for c in beacon._register.configurations]
            spent[aware].append(np.average(prices, weights=beacon._register.n_told))
            regret[aware].append(world.best - world.expected(beacon.best()))
    assert np.mean(spent[True]) < 0.9 * np.mean(spent[False])
    assert statistics.median(regret[True]) < 0.06


def test_a_prior_draws_the_first_proposals():
    """What is thought promising is tried more often at first."""

    def share(prior) -> float:
        beacons = [searched(seed, 3, prior=prior)[1] for seed in range(4)]
        return np.mean([c["model"] == "d" for each in beacons for c in each._register.configurations])

    assert share(lambda c: 50.0 if c["model"] == "d" else 1.0) > share(None) + 0.08


def test_the_least_cost_that_is_good_enough():
    """Quality of at least 0.55 at the least cost, 4 seeds: always good enough, and mostly not the dearest model."""
    cheaper = 0
    for seed in range(4):
        world, beacon = searched(seed, 24, goal=Goal(("cost_usd",), quality_at_least=0.55))
        chosen = beacon.recommend().configuration
        assert world.expected(chosen) > 0.55 - 0.05
        cheaper += chosen["model"] != "c"
    assert cheaper >= 2


def test_what_breaks_a_bound_is_never_best():
    """If nothing meets the bound, that is an error which names the nearest."""
    _, beacon = searched(0, 4, goal=Goal(("cost_usd",), quality_at_least=0.99))
    with pytest.raises(ExecutionError, match="is known to meet") as caught:
        beacon.recommend()
    assert "the nearest is" in str(caught.value)
    assert beacon.pareto() == []


def test_the_front_equals_brute_force():
    """On 200 points of three objectives the front is what comparing every two points leaves."""
    values = np.random.default_rng(0).integers(0, 8, (200, 3)).astype(float)
    kept = [k for k, a in enumerate(values) if not any(all(b >= a) and any(b > a) for b in values)]
    assert front(values) == kept


def test_quality_and_cost_together_give_a_front():
    """The front holds the cheap and the good model, and nothing that is dearer and worse."""
    world, beacon = searched(0, 14, goal=Goal(("quality", "cost_usd", "latency_s")))
    found = beacon.pareto()
    models = {configuration["model"] for configuration in found}
    assert {"a", "c"} <= models
    best = max(world.expected(configuration) for configuration in found)
    assert best > world.best - 0.06


def test_importances_name_what_matters():
    """The model matters most, and the shares sum to one."""
    _, beacon = searched(0, 10)
    shares = beacon.importances()
    assert next(iter(shares)) == ("model",)
    assert sum(shares.values()) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"acquisition": "tomson"}, UnknownNameError, "did you mean 'thompson'"),
        ({"batch": 0}, DataError, "must be at least 1, got 120 and 0"),
        ({"acquisition": "ei", "goal": Goal(("cost_usd",))}, DataError, "knows quality alone"),
    ],
)
def test_bad_options_are_refused(options, error, message):
    """Each says what was wrong."""
    with pytest.raises(error, match=message):
        Beacon(World.space, examples=EXAMPLES, **options)


def test_bad_goals_and_scores_are_refused():
    """An objective that is not known, one named twice, a score that is no number, a recommendation from nothing."""
    with pytest.raises(UnknownNameError, match="did you mean 'quality'"):
        Goal(("qualty",))
    with pytest.raises(DataError, match="names each objective once"):
        Goal(("quality", "quality"))
    beacon = Beacon(World.space, examples=EXAMPLES)
    with pytest.raises(ExecutionError, match="nothing was scored yet"):
        beacon.recommend()
    with pytest.raises(DataError, match="finite number"):
        beacon.tell([Row(World.space.default(), "e0", math.nan)])
