"""Poor configurations are left early: fewer examples for them, more configurations for the same budget."""

from __future__ import annotations

import random

import pytest
from spaces import SIGNATURE, SPACE, TRIAGE

import dspex as dx
from dspex.errors import UnknownNameError
from dspex.optimizers import Pruned, RandomSearch, Row
from dspex.optimizers.pruning import PRUNERS, Stepwise

every_pruner = pytest.mark.parametrize("pruner", PRUNERS)
LEVELS = dx.Space(level=dx.Float(0.0, 1.0))
KEYS = [f"e{k}" for k in range(48)]


def ran(pruner: str, n_scores: int = 1200) -> dict[float, int]:
    """Search levels, each right as often as it says; return how many examples each was scored on."""
    search, rng, seen = Stepwise(RandomSearch(LEVELS, seed=0), LEVELS, KEYS, pruner), random.Random(0), {}
    while sum(seen.values()) < n_scores:
        (work,) = search.ask()
        level = work.configuration["level"]
        seen[level] = seen.get(level, 0) + len(work.examples)
        search.tell(Row(work.configuration, key, float(rng.random() < level)) for key in work.examples)
    return seen


@every_pruner
def test_poor_ones_are_left_early_and_good_ones_are_not(pruner):
    """For the examples of 25 whole configurations many more are tried, and the best are scored whole."""
    seen = ran(pruner)
    assert len(seen) > 35
    levels = sorted(seen)
    poor, good = levels[: len(levels) // 3], levels[-len(levels) // 3 :]
    mean = lambda some: sum(seen[level] for level in some) / len(some)  # noqa: E731  # used twice, here
    assert mean(poor) < 0.5 * mean(good)
    assert max(seen.values()) == len(KEYS)


@every_pruner
def test_one_seed_is_one_sequence(pruner):
    """Names and numbers of Optuna's own decide nothing that differs between runs."""
    assert ran(pruner) == ran(pruner)


@every_pruner
@pytest.mark.usefixtures("runtime")
def test_a_study_prunes_and_says_how_much_each_trial_was_scored(pruner):
    """Pruned trials have fewer examples; the best and the default are compared on all of them."""
    study = dx.optimize(
        SIGNATURE,
        space=SPACE,
        trainset=TRIAGE.train[:10],
        valset=TRIAGE.dev[:48],
        metric=TRIAGE.metric,
        optimizer=Pruned("random", pruner=pruner),
        budget=dx.Budget(trials=10),
    ).wait()
    searched = [trial for trial in study.finished_trials if trial.phase == "search"]
    assert {trial.n_examples for trial in searched} - {48} != set()
    assert sum(trial.n_examples for trial in searched) <= 10 * 48
    assert len(searched) > 10
    finals = [trial for trial in study.finished_trials if trial.phase == "final"]
    assert {trial.n_examples for trial in finals} == {48}
    assert study.best.score >= study.baseline.score
    assert study.definition.optimizer == "random"
    assert study.definition.identity["options"] == {"pruner": repr(pruner)}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Pruned("tpe", pruner="medain"), "did you mean 'median'"),
        (lambda: Pruned("beacon"), "unknown pruned search 'beacon'"),
    ],
)
def test_unknown_names_are_refused(make, message):
    """What can be pruned and how is listed."""
    with pytest.raises(UnknownNameError, match=message):
        make()
