"""Importance: planted variables are found, alone and together."""

from __future__ import annotations

import random

import pytest

import dspex as dx
from dspex.errors import DataError, UnknownNameError
from dspex.optimizers.importance import importance

SPACE = dx.Space(
    a=dx.Float(0.0, 1.0),
    b=dx.Choice(list("pqrs")),
    c=dx.Float(0.0, 1.0, step=0.25),
    d=dx.Int(0, 8),
    e=dx.Choice(list("xyz")),
    f=dx.Bool(),
)


def planted(seed: int, n: int = 60) -> list:
    """Score configurations by a and b alone, with noise."""
    rng = random.Random(seed)
    trials = []
    for _ in range(n):
        configuration = SPACE.sample(rng)
        label = {"p": 0.4, "q": 0.0, "r": 0.1, "s": -0.2}[configuration["b"]]
        trials.append((configuration, -2 * (configuration["a"] - 0.2) ** 2 + label + rng.gauss(0, 0.08)))
    return trials


def test_two_planted_of_six_are_first():
    """In at least 9 of 10 seeds the two variables that matter are ranked first and second."""
    hits = 0
    for seed in range(10):
        found = importance(SPACE, planted(seed))
        hits += set(list(found.variables)[:2]) == {"a", "b"}
        assert sum(found.variables.values()) == pytest.approx(1.0)
    assert hits >= 9


def test_what_matters_only_together_is_an_interaction():
    """Where two switches must differ, their pair leads the interactions."""
    rng = random.Random(0)
    trials = []
    for _ in range(80):
        configuration = SPACE.sample(rng)
        differ = configuration["f"] != (configuration["e"] == "x")
        trials.append((configuration, float(differ) + rng.gauss(0, 0.05)))
    found = importance(SPACE, trials)
    assert next(iter(found.interactions)) == ("e", "f")
    assert set(list(found.variables)[:2]) == {"e", "f"}


def test_optunas_evaluator_is_another_opinion():
    """PED-ANOVA knows every variable, gives other shares, and the most important is one that was planted."""
    found = importance(SPACE, planted(0, 200), evaluator="ped-anova")
    assert set(found.variables) == set(SPACE)
    assert next(iter(found.variables)) in {"a", "b"}
    assert found.variables != importance(SPACE, planted(0, 200)).variables


def test_bad_input_is_refused():
    """Too few trials and unknown evaluators are errors; a missing library is named."""
    with pytest.raises(DataError, match="at least 4 trials, got 2"):
        importance(SPACE, planted(0, 2))
    with pytest.raises(UnknownNameError, match="did you mean 'fanova'"):
        importance(SPACE, planted(0), evaluator="fanov")
