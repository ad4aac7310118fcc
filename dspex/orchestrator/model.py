"""What is believed: four additive Bayesian regressions, folded over what happened.

Heads for success, quality, log latency and log cost each predict from what a strategy is made of (its
model, its module) and what the task asks for, plus a residual for each signature that is shrunk towards
zero. Being additive, each prediction can be taken apart again; being a fold, beliefs are rebuilt by
replaying the log. Old evidence fades, so that a change in the world is noticed.

References
----------
Agrawal and Goyal (2013), "Thompson sampling for contextual bandits with linear payoffs"; the forgetting is
that of Russac, Vernade and Cappé (2019), "Weighted linear bandits for non-stationary environments".
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dspex.records import BRIDGED, Belief, Execution, Price, Requirements, Strategy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    FloatArray = npt.NDArray[np.float64]

HEADS = ("success", "quality", "latency", "cost")
_LOG_HEADS = ("latency", "cost")

_CELL_SHRINKAGE = 6.0
_CELL_SPREAD = 0.3
_CELL_FORGETTING = 0.998
_REFRESH_EVERY = 8
_ALARM_BOUND = 3.0
_ALARM_SLACK = 0.5
_ALARM_LEVEL = 8.0
_DOUBT = 0.2
_NORMAL_90 = 1.645
_TYPICAL_LATENCY_S = 2.0
_TYPICAL_TOKENS = (300, 60)
"""Tokens in and out of an unremarkable call, to turn a price into a first guess of a cost."""


@dataclass(frozen=True)
class HeadSettings:
    """How a head starts and how fast it forgets. Measured values; results are flat around them."""

    base: float
    sigma: float
    forgetting: float


_SETTINGS = {
    "success": HeadSettings(base=0.95, sigma=0.20, forgetting=0.995),
    "quality": HeadSettings(base=0.60, sigma=0.45, forgetting=0.998),
    "latency": HeadSettings(base=math.log(_TYPICAL_LATENCY_S), sigma=0.40, forgetting=0.995),
    "cost": HeadSettings(base=math.log(2e-4), sigma=0.25, forgetting=0.998),
}


_RULES: dict[str, dict[str, float]] = {
    "quality": {"adapter suits": 0.05},
    "cost": {"adapter=direct": -0.7, "adapter=structured": -0.5},
}
"""The rule that chooses an adapter, as a first guess that a few executions can overcome: what suits a task is
believed a little better than DSPy's module, what does not a little worse; both send shorter prompts."""


def features(asked: Requirements, strategy: Strategy) -> Mapping[str, float]:
    """Describe running a task one way, as named numbers; absent means zero. Not to be changed."""
    return _features(asked.input_chars, asked.reasoning, asked.adapter, strategy)


@lru_cache(maxsize=4096)  # every head asks for the same ones, once to predict and once to explain
def _features(
    input_chars: int, reasoning: bool, adapter: str, strategy: Strategy
) -> Mapping[str, float]:  # positions make the quickest key
    length = (math.log1p(input_chars) - 6.0) / 2.0
    described = {
        "base": 1.0,
        f"model={strategy.model}": 1.0,
        f"module={strategy.module}": 1.0,
        f"model={strategy.model} x length": length,
        f"module={strategy.module} x length": length,
    }
    if strategy.adapter != BRIDGED:
        described[f"adapter={strategy.adapter}"] = 1.0
        described[f"adapter={strategy.adapter} x length"] = length
        described["adapter suits"] = 1.0 if strategy.adapter == adapter else -1.0
    if reasoning:
        described[f"model={strategy.model} x reasoning"] = 1.0
        described[f"module={strategy.module} x reasoning"] = 1.0
    return described


class Prediction(NamedTuple):
    """One head's view of some strategies: means and standard deviations, shape ``(n_strategies,)``."""

    mean: FloatArray
    std: FloatArray


@dataclass
class _Cell:
    """What one signature brought under one strategy, discounted.

    The values and what described them are kept apart, so that a residual is always one against the
    weights of now: residuals against the first guesses would stay wrong for hundreds of executions.
    """

    n: float = 0.0
    value: float = 0.0
    described: FloatArray = field(default_factory=lambda: np.zeros(0))

    def residual(self, weights: FloatArray) -> float:
        """Return the sum of what the weights leave unexplained."""
        return self.value - float(self.described @ weights[: len(self.described)])

    def add(self, vector: FloatArray, value: float) -> None:
        grown = np.zeros(len(vector))
        grown[: len(self.described)] = self.described
        self.described = _CELL_FORGETTING * grown + vector
        self.value = _CELL_FORGETTING * self.value + value
        self.n = _CELL_FORGETTING * self.n + 1.0

    def fade(self, share: float) -> None:
        self.n *= share
        self.value *= share
        self.described = share * self.described


@dataclass
class _Alarm:
    """A two-sided cumulative sum of surprises: tells a change of the world from noise.

    References
    ----------
    Page (1954), "Continuous inspection schemes".
    """

    above: float = 0.0
    below: float = 0.0

    def rings(self, surprise: float) -> bool:
        """Take in one prediction error, in standard deviations."""
        bounded = min(_ALARM_BOUND, max(-_ALARM_BOUND, surprise))
        self.above = max(0.0, self.above + bounded - _ALARM_SLACK)
        self.below = max(0.0, self.below - bounded - _ALARM_SLACK)
        if max(self.above, self.below) < _ALARM_LEVEL:
            return False
        self.above = self.below = 0.0
        return True


@dataclass
class _Head:
    """One regression; its features are met as they come."""

    settings: HeadSettings
    index: dict[str, int] = field(default_factory=dict)
    precision: FloatArray = field(default_factory=lambda: np.zeros((0, 0)))
    prior_precision: FloatArray = field(default_factory=lambda: np.zeros(0))
    prior_mean: FloatArray = field(default_factory=lambda: np.zeros(0))
    moment: FloatArray = field(default_factory=lambda: np.zeros(0))
    cells: dict[tuple[str, Strategy], _Cell] = field(default_factory=dict)
    alarms: dict[Strategy, _Alarm] = field(default_factory=dict)
    covariance: FloatArray = field(default_factory=lambda: np.zeros((0, 0)))
    weights: FloatArray = field(default_factory=lambda: np.zeros(0))
    updates: int = 0

    def vector(self, named: Mapping[str, float], priors: Mapping[str, float]) -> FloatArray:
        """Place named features, making room for those met for the first time."""
        placed: FloatArray = self.rows([named], priors)[0]
        return placed

    def rows(self, described: Sequence[Mapping[str, float]], priors: Mapping[str, float]) -> FloatArray:
        """Place several descriptions, shape ``(len(described), n_features)``."""
        for named in described:
            for name in named:
                if name not in self.index:
                    self._add(name, priors.get(name, 0.0))
        placed = np.zeros((len(described), len(self.index)))
        for row, named in enumerate(described):
            for name, value in named.items():
                placed[row, self.index[name]] = value
        return placed

    def _add(self, name: str, prior_mean: float) -> None:
        mean = self.settings.base if name == "base" else prior_mean
        # An interaction is believed to be small: it takes thirty observations' worth of evidence.
        strength = 30.0 if " x " in name else 1.0
        self.index[name] = size = len(self.index)
        for attribute in ("precision", "covariance"):
            grown = np.zeros((size + 1, size + 1))
            grown[:size, :size] = getattr(self, attribute)
            grown[size, size] = strength if attribute == "precision" else 1.0 / strength
            setattr(self, attribute, grown)
        self.prior_precision = np.append(self.prior_precision, strength)
        self.prior_mean = np.append(self.prior_mean, mean)
        self.moment = np.append(self.moment, strength * mean)
        self.weights = np.append(self.weights, mean)

    def cell(self, signature_key: str, strategy: Strategy) -> _Cell:
        return self.cells.get((signature_key, strategy), _Cell())

    def learn(self, vector: FloatArray, value: float, signature_key: str, strategy: Strategy) -> None:
        """Fold in one observation."""
        cell = self.cells.setdefault((signature_key, strategy), _Cell())
        residual = value - float(vector @ self.weights)
        expected = cell.residual(self.weights) / (cell.n + _CELL_SHRINKAGE)
        if self.alarms.setdefault(strategy, _Alarm()).rings((residual - expected) / self.settings.sigma):
            self._doubt(strategy)
        keep = self.settings.forgetting
        self.precision *= keep
        self.precision += np.outer(vector, vector)
        self.precision[np.diag_indices_from(self.precision)] += (1 - keep) * self.prior_precision
        self.moment = (
            keep * self.moment + value * vector + (1 - keep) * self.prior_precision * self.prior_mean
        )
        self.updates += 1
        if self.updates % _REFRESH_EVERY == 0:
            self.covariance = np.asarray(np.linalg.inv(self.precision), dtype=np.float64)
            self.weights = self.covariance @ self.moment
        else:
            # Sherman and Morrison's rank-one step; the fading waits for the next refresh.
            gain = self.covariance @ vector / (1.0 + float(vector @ self.covariance @ vector))
            self.covariance = self.covariance - np.outer(gain, vector @ self.covariance)
            self.weights = self.weights + gain * residual
        cell.add(vector, value)

    def _doubt(self, strategy: Strategy) -> None:
        """Keep the means and drop most of the certainty: the world has changed."""
        self.precision *= _DOUBT
        self.moment *= _DOUBT
        self.covariance = self.covariance / _DOUBT
        for (_, of), cell in self.cells.items():
            if of == strategy:
                cell.fade(_DOUBT)


class BeliefModel:
    """Predicts success, quality, latency and cost of strategies, and learns from each execution.

    Parameters
    ----------
    prices
        Model → price; sets what a model is expected to cost before it was ever called.
    latencies_s
        Model → typical seconds for a call, where that is known beforehand.
    """

    def __init__(
        self, prices: Mapping[str, Price] | None = None, latencies_s: Mapping[str, float] | None = None
    ) -> None:
        self._heads = {name: _Head(_SETTINGS[name]) for name in HEADS}
        self._priors: dict[str, dict[str, float]] = {name: dict(_RULES.get(name, {})) for name in HEADS}
        for model, price in (prices or {}).items():
            expected = max(price.cost_usd(*_TYPICAL_TOKENS), 1e-9)
            self._priors["cost"][f"model={model}"] = math.log(expected) - _SETTINGS["cost"].base
        for model, seconds in (latencies_s or {}).items():
            self._priors["latency"][f"model={model}"] = math.log(seconds / _TYPICAL_LATENCY_S)

    @property
    def n_observations(self) -> int:
        """How many executions have been learned from."""
        return self._heads["success"].updates

    def predict(self, asked: Requirements, strategies: Sequence[Strategy]) -> dict[str, Prediction]:
        """Predict every head for every strategy; latency and cost as natural logarithms."""
        return {name: self._predict(name, asked, strategies) for name in HEADS}

    def _predict(self, name: str, asked: Requirements, strategies: Sequence[Strategy]) -> Prediction:
        head, priors = self._heads[name], self._priors[name]
        described = [features(asked, strategy) for strategy in strategies]
        rows = head.rows(described, priors)
        cells = [head.cell(asked.signature_key, strategy) for strategy in strategies]
        counts = np.array([cell.n for cell in cells])
        residuals = np.array([cell.residual(head.weights) for cell in cells])
        mean = rows @ head.weights + residuals / (counts + _CELL_SHRINKAGE)
        spread = np.einsum("ij,jk,ik->i", rows, head.covariance, rows)
        spread = np.maximum(spread, 0.0) + _CELL_SPREAD**2 / (counts + _CELL_SHRINKAGE)
        return Prediction(mean, head.settings.sigma * np.sqrt(spread))

    def belief(self, name: str, asked: Requirements, strategy: Strategy) -> Belief:
        """Take one prediction apart: its mean in natural units, an interval, and its terms."""
        return self.beliefs(name, asked, [strategy], self._predict(name, asked, [strategy]))[0]

    def beliefs(
        self, name: str, asked: Requirements, strategies: Sequence[Strategy], predicted: Prediction
    ) -> list[Belief]:
        """Take the predictions of one head apart, one for each strategy."""
        means, stds = predicted.mean.tolist(), predicted.std.tolist()
        return [
            self._apart(name, asked, strategy, mean, std)
            for strategy, mean, std in zip(strategies, means, stds, strict=True)
        ]

    def _apart(self, name: str, asked: Requirements, strategy: Strategy, mean: float, std: float) -> Belief:
        head = self._heads[name]
        terms = {
            feature: float(head.weights[head.index[feature]] * value)
            for feature, value in features(asked, strategy).items()
        }
        terms["this signature"] = mean - sum(terms.values())
        low, high = mean - _NORMAL_90 * std, mean + _NORMAL_90 * std
        if name in _LOG_HEADS:
            return Belief(math.exp(mean), math.exp(low), math.exp(high), terms)
        return Belief(_clipped(mean), _clipped(low), _clipped(high), terms)

    def learn(self, execution: Execution) -> None:
        """Fold in an attempt: whether it worked, and if so how long it took and what it cost."""
        if execution.role == "refused":
            return
        self._learn("success", execution, float(execution.ok))
        # An answer from DSPy's own cache took no time: it says nothing about the model's.
        if execution.ok and execution.usage.calls > 0:
            self._learn("latency", execution, math.log(max(execution.usage.latency_s, 1e-4)))
            if execution.usage.cost_usd > 0:
                self._learn("cost", execution, math.log(execution.usage.cost_usd))

    def learn_quality(self, execution: Execution, quality: float) -> None:
        """Fold in a judgement of an attempt's answer."""
        self._learn("quality", execution, quality)

    def _learn(self, name: str, execution: Execution, value: float) -> None:
        head = self._heads[name]
        asked, strategy = execution.requirements, execution.strategy
        vector = head.vector(features(asked, strategy), self._priors[name])
        head.learn(vector, value, asked.signature_key, strategy)


def _clipped(probability: float) -> float:
    return min(1.0, max(0.0, probability))
