"""Searches: the default first, nothing twice, one seed one sequence, and the best found."""

from __future__ import annotations

import math
import statistics

import optuna
import pytest
from spaces import SPACE, TRIAGE

import dspex as dx
from dspex.errors import UnknownNameError
from dspex.optimizers import RandomSearch, Smooth, Tpe, search_named

SEARCHES = (Smooth, Tpe, RandomSearch)


@pytest.mark.parametrize("make", SEARCHES)
def test_the_default_comes_first_and_nothing_twice(make):
    """Sixty proposals of a space of eighteen times infinity are sixty different ones."""
    search, keys = make(SPACE, seed=0), []
    for _ in range(60):
        configuration = search.ask()
        SPACE.check(configuration)
        keys.append(SPACE.key_of(configuration))
        search.tell(configuration, 0.5)
    assert keys[0] == SPACE.key_of(SPACE.default())
    assert len(set(keys)) == 60


@pytest.mark.parametrize("make", SEARCHES)
def test_a_small_space_is_exhausted_and_then_over(make):
    """A finite space is walked through completely, and the next ask says there is nothing left."""
    space = dx.Space(a=dx.Int(0, 3), b=dx.Bool(), c=dx.Choice(["x", "y", "z"]))
    search, keys = make(space, seed=1), set()
    while (configuration := search.ask()) is not None:
        keys.add(space.key_of(configuration))
        search.tell(configuration, 0.0)
    assert len(keys) == space.n_configurations == 24


@pytest.mark.parametrize("make", SEARCHES)
def test_one_seed_is_one_sequence(make):
    """The same seed and scores propose the same; another seed proposes something else."""

    def proposals(seed: int) -> list:
        search, found = make(SPACE, seed=seed), []
        for _ in range(20):
            configuration = search.ask()
            found.append(configuration)
            search.tell(configuration, configuration["temperature"])
        return found

    assert proposals(0) == proposals(0)
    assert proposals(0) != proposals(1)


def regret(make: type, seed: int, n_trials: int) -> float:
    """Search the sandbox's exact truth and say how far the best trial is from the optimum."""
    search, best = make(SPACE, seed=seed), 0.0
    for _ in range(n_trials):
        configuration = search.ask()
        score = TRIAGE.optimum([configuration]).score
        search.tell(configuration, score)
        best = max(best, score)
    return 0.9495 - best


def test_beacon_is_nearer_to_the_known_optimum_than_random_search():
    """On the sandbox's exact truth, 24 trials, 8 seeds: the median regret is at most half of random's."""
    beacon = statistics.median(regret(Smooth, seed, 24) for seed in range(8))
    uniform = statistics.median(regret(RandomSearch, seed, 24) for seed in range(8))
    assert beacon < 0.02
    assert beacon < 0.7 * uniform


@pytest.mark.parametrize("make", [Smooth, Tpe])
def test_every_kind_of_variable_is_searched(make):
    """Steps, log scales, truth values and labels all come back as the space wants them."""
    space = dx.Space(
        step=dx.Float(0.0, 1.0, step=0.3),
        log=dx.Float(1e-4, 1.0, log=True),
        size=dx.Int(1, 64, log=True),
        odd=dx.Int(1, 10, step=4),
        flag=dx.Bool(default=True),
        tone=dx.Choice({"none": None, "kind": object()}),
    )
    search = make(space, seed=0)
    for _ in range(40):
        configuration = search.ask()
        space.check(configuration)
        search.tell(configuration, math.log(configuration["log"]))


def test_an_unknown_optimizer_names_the_nearest():
    """A misspelt name is an error with a suggestion."""
    with pytest.raises(UnknownNameError, match="did you mean 'beacon'"):
        search_named("becon", SPACE, 0)


@pytest.mark.parametrize("make", SEARCHES)
def test_what_does_not_exist_is_neither_proposed_nor_counted(make):
    """A conditional space of 2 + 3 configurations is proposed completely, each without what does not exist there."""
    space = dx.Space(
        module=dx.Choice(["Predict", "BestOfN"]),
        n=dx.Int(2, 4).given(module="BestOfN"),
        flag=dx.Bool().given(module="Predict"),
    )
    search, found = make(space, seed=0), []
    while (configuration := search.ask()) is not None:
        space.check(configuration)
        found.append(configuration)
        search.tell(configuration, configuration.get("n", 0))
    assert len(found) == space.n_configurations == 5
    assert {("n" in each, each["module"]) for each in found} == {(True, "BestOfN"), (False, "Predict")}


@pytest.mark.parametrize("make", SEARCHES)
def test_constraints_are_kept(make):
    """No proposal breaks a constraint, and what keeps it is proposed completely."""
    space = dx.Space(a=dx.Int(0, 5), b=dx.Int(0, 5, default=1), constraints=["a < b"])
    search, found = make(space, seed=0), []
    while (configuration := search.ask()) is not None:
        found.append((configuration["a"], configuration["b"]))
        search.tell(configuration, 0.0)
    assert sorted(found) == [(a, b) for a in range(6) for b in range(a + 1, 6)]


def test_arrays_are_searched():
    """An embedding's numbers are proposed in its own shape."""
    space = dx.Space(direction=dx.Embedding(6, rank=2), model=dx.Model(["a/b"]))
    search = Smooth(space, seed=0)
    for _ in range(12):
        configuration = search.ask()
        space.check(configuration)
        assert len(space.resolve(configuration)["direction"]) == 6
        search.tell(configuration, configuration["direction"][0])


def test_optuna_keeps_the_users_verbosity():
    """Starting a search leaves Optuna's logging as it was."""
    before = optuna.logging.get_verbosity()
    Tpe(SPACE, seed=0)
    assert optuna.logging.get_verbosity() == before
