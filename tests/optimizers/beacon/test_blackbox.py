"""Functions without noise: the Gaussian process is ahead of random search with twice the evaluations."""

from __future__ import annotations

import importlib.util
import math
import statistics

import pytest

import dspex as dx
from dspex.bench.optimizers.functions import FUNCTIONS
from dspex.errors import DataError, UnknownNameError
from dspex.optimizers import maximize, minimize


def gap(name: str, engine: str, trials: int, seed: int) -> float:
    function = FUNCTIONS[name]()
    return -maximize(function.value, function.space, trials=trials, seed=seed, engine=engine).value


@pytest.mark.parametrize(("name", "bound"), [("Branin", 0.3), ("Hartmann6", 1.0)])
def test_half_the_evaluations_are_enough(name, bound):
    """20 evaluations, 12 seeds: the median gap is below the bound, and below random search's after 40."""
    ours = statistics.median(gap(name, "beacon", 20, seed) for seed in range(12))
    uniform = statistics.median(gap(name, "random", 40, seed) for seed in range(12))
    assert ours < bound
    assert ours <= uniform


def test_labels_and_numbers_are_searched_together():
    """Ackley's function of labels and numbers, 40 evaluations, 3 seeds: ahead of Optuna's TPE."""
    ours = statistics.median(gap("Ackley mixed", "beacon", 40, seed) for seed in range(3))
    tpe = statistics.median(gap("Ackley mixed", "tpe", 40, seed) for seed in range(3))
    assert ours < 0.7 * tpe


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_the_optimum_of_each_function_is_zero(name):
    """Random search never goes beyond it, and the known optimum reaches it."""
    function = FUNCTIONS[name]()
    assert maximize(function.value, function.space, trials=200, engine="random").value < 1e-9
    best = {
        "Branin": {"x": math.pi, "y": 2.275},
        "Hartmann6": dict(
            zip(
                [f"x{d}" for d in range(6)],
                [0.20169, 0.150011, 0.476874, 0.275332, 0.311652, 0.6573],
                strict=True,
            )
        ),
        "Ackley mixed": {f"label{d}": "a" for d in range(3)} | {"size": 4} | {f"x{d}": 0.0 for d in range(3)},
    }
    assert function.value(best[name]) == pytest.approx(0, abs=1e-5)


def test_minimize_mirrors_maximize():
    """The same seed walks the same way down as up."""
    space = dx.Space(x=dx.Float(-2.0, 3.0), n=dx.Int(0, 9))
    up = maximize(lambda at: -((at["x"] - 1) ** 2) - at["n"], space, trials=20)
    down = minimize(lambda at: (at["x"] - 1) ** 2 + at["n"], space, trials=20)
    assert down.configuration == up.configuration
    assert down.value == -up.value
    assert [value for _, value in down.trials] == [-value for _, value in up.trials]
    assert down.value < 0.01


def test_a_finite_space_ends_the_search():
    """When every configuration was tried there are no more trials."""
    found = maximize(lambda at: float(at["a"]), dx.Space(a=dx.Bool(), b=dx.Choice(list("xyz"))), trials=50)
    assert len(found.trials) == 6
    assert found.configuration["a"] is True


def test_optunas_process_says_what_it_needs(monkeypatch):
    """Without torch the engine "gp" is an error that names another."""
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else found(name))
    with pytest.raises(DataError, match="engine='gp' needs torch") as caught:
        maximize(lambda at: at["x"], dx.Space(x=dx.Float(0, 1)), engine="gp")
    assert "engine='beacon'" in str(caught.value)


def test_optunas_process_searches_too():
    """With torch and scipy the engine "gp" finds the place of the maximum."""
    for name in ("torch", "scipy"):
        pytest.importorskip(name)
    found = maximize(lambda at: -((at["x"] - 0.3) ** 2), dx.Space(x=dx.Float(0, 1)), trials=15, engine="gp")
    assert found.configuration["x"] == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize(
    ("function", "options", "error", "message"),
    [
        (lambda at: math.nan, {}, DataError, "must return a finite number, got nan"),
        (lambda at: None, {}, DataError, "must return a finite number, got None"),
        (lambda at: 1.0, {"trials": 0}, DataError, "trials must be at least 1, got 0"),
        (lambda at: 1.0, {"engine": "becon"}, UnknownNameError, "did you mean 'beacon'"),
    ],
)
def test_bad_input_is_refused(function, options, error, message):
    """Each says what was wrong."""
    with pytest.raises(error, match=message):
        maximize(function, dx.Space(x=dx.Float(0, 1)), **options)
