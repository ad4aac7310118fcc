"""How one strategy is chosen: Thompson draws turned into exact probabilities, and a floor of exploration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dspex.errors import UnknownNameError
from dspex.records import Objective

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dspex.orchestrator.model import FloatArray, Prediction

OBJECTIVES = {
    "balanced": Objective(),
    "quality": Objective(quality=0.9, speed=0.05, cheapness=0.05),
    "latency": Objective(quality=0.4, speed=0.5, cheapness=0.1),
    "cost": Objective(quality=0.4, speed=0.1, cheapness=0.5),
}

EXPLORATION = 0.01
"""Probability that is spread evenly over every strategy, whatever is believed."""

_DRAWS = 32
_WIDTH = 0.25
"""How much of the posterior's width the draws use; regret is flat between .1 and .5."""


def objective_named(objective: str | Objective) -> Objective:
    """Find an objective by name, or take one as it is."""
    if isinstance(objective, Objective):
        return objective
    if objective not in OBJECTIVES:
        raise UnknownNameError.among("objective", objective, OBJECTIVES)
    return OBJECTIVES[objective]


def utility(
    success: FloatArray,
    quality: FloatArray,
    log_latency: FloatArray,
    log_cost: FloatArray,
    objective: Objective,
) -> FloatArray:
    """Weigh predictions into what pays.

    Parameters
    ----------
    success, quality
        Believed means or draws, any one shape; clipped to [0, 1].
    log_latency
        Natural logarithm of seconds, the same shape.
    log_cost
        Natural logarithm of US dollars, the same shape.
    objective
        The weights.

    Returns
    -------
    Utilities of the same shape, in [0, 1].
    """
    worth = objective.quality * np.clip(quality, 0.0, 1.0)
    worth = worth + objective.speed / (1.0 + np.exp(np.minimum(log_latency, 50.0)) / objective.half_latency_s)
    worth = worth + objective.cheapness / (1.0 + np.exp(np.minimum(log_cost, 50.0)) / objective.half_cost_usd)
    result: FloatArray = np.clip(success, 0.0, 1.0) * worth
    return result


def utilities(predicted: Mapping[str, Prediction], objective: Objective) -> FloatArray:
    """Return each strategy's believed utility, shape ``(n_strategies,)``."""
    means = {name: head.mean for name, head in predicted.items()}
    return utility(means["success"], means["quality"], means["latency"], means["cost"], objective)


def propensities(
    predicted: Mapping[str, Prediction],
    objective: Objective,
    rng: np.random.Generator,
    *,
    exploration: float = EXPLORATION,
) -> FloatArray:
    """Turn beliefs into the probability of choosing each strategy, shape ``(n_strategies,)``.

    The share of draws that each strategy wins *is* the policy, so the probabilities are exact and not an
    estimate of some others; they can be logged and weighed against later.
    """
    n = len(predicted["success"].mean)
    draws = {
        name: head.mean + _WIDTH * head.std * rng.standard_normal((_DRAWS, n))
        for name, head in predicted.items()
    }
    worth = utility(draws["success"], draws["quality"], draws["latency"], draws["cost"], objective)
    wins = np.bincount(np.argmax(worth, axis=1), minlength=n) / _DRAWS
    result: FloatArray = (1.0 - exploration) * wins + exploration / n
    return result
