"""Choosing: exact probabilities, a floor of exploration, and weights that apply at once."""

from __future__ import annotations

import numpy as np
import pytest

from dspex.errors import DefinitionError, UnknownNameError
from dspex.orchestrator.model import Prediction
from dspex.orchestrator.policy import objective_named, propensities, utilities, utility
from dspex.records import Objective


def predicted(quality: list[float], latency_s: list[float], *, std: float = 0.01) -> dict[str, Prediction]:
    n = len(quality)
    spread = np.full(n, std)
    return {
        "success": Prediction(np.ones(n), spread),
        "quality": Prediction(np.array(quality), spread),
        "latency": Prediction(np.log(latency_s), spread),
        "cost": Prediction(np.full(n, np.log(1e-4)), spread),
    }


def test_probabilities_add_up_and_nothing_is_left_out():
    """Every strategy keeps at least its share of the exploration."""
    chances = propensities(
        predicted([0.9, 0.1, 0.1], [1, 1, 1]), Objective(), np.random.default_rng(0), exploration=0.06
    )
    assert chances.sum() == pytest.approx(1.0)
    assert chances.min() == pytest.approx(0.02)
    assert chances[0] == pytest.approx(0.96)


def test_what_is_uncertain_is_tried():
    """A strategy that may yet be better is chosen now and then."""
    uncertain = predicted([0.60, 0.55], [1, 1], std=1.0)
    certain = predicted([0.60, 0.55], [1, 1], std=0.001)
    rng = np.random.default_rng(1)
    assert propensities(uncertain, Objective(), rng, exploration=0.0)[1] > 0.2
    assert propensities(certain, Objective(), rng, exploration=0.0)[1] == 0.0


def test_weights_decide_without_relearning():
    """The same beliefs rank differently under another objective."""
    beliefs = predicted([0.95, 0.6], [8.0, 0.2])
    assert utilities(beliefs, objective_named("quality")).argmax() == 0
    assert utilities(beliefs, objective_named("latency")).argmax() == 1


def test_utility_is_its_formula():
    """Speed and cheapness count half at their half-score."""
    found = utility(
        np.array([0.5]),
        np.array([0.8]),
        np.array([np.log(2.0)]),
        np.array([np.log(5e-4)]),
        Objective(quality=0.6, speed=0.2, cheapness=0.2),
    )
    assert found == pytest.approx([0.5 * (0.6 * 0.8 + 0.2 * 0.5 + 0.2 * 0.5)])


def test_an_unknown_objective_names_the_nearest():
    """A misspelt objective is an error with a suggestion."""
    with pytest.raises(UnknownNameError, match="did you mean 'latency'"):
        objective_named("latancy")


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"quality": 0.5, "speed": 0.2, "cheapness": 0.2}, "add up to 1"),
        ({"quality": 1.2, "speed": -0.2, "cheapness": 0.0}, "must be >= 0"),
        ({"half_latency_s": 0.0}, "must be > 0"),
    ],
)
def test_a_wrong_objective_is_refused(weights, message):
    """Weights are shares, and half-scores are positive."""
    with pytest.raises(DefinitionError, match=message):
        Objective(**weights)
