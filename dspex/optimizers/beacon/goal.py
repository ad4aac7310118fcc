"""What is wanted: quality, cost, latency, bounds on them, and which trade-offs nothing beats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from dspex.errors import DataError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

Objective = Literal["quality", "cost_usd", "latency_s"]
OBJECTIVES = ("cost_usd", "latency_s", "quality")

_UNMET = 1e6
"""How far whatever breaks a bound stands below everything that does not."""


@dataclass(frozen=True)
class Goal:
    """What a search is for. Quality is raised, cost and latency per example are lowered.

    Examples
    --------
    >>> Goal(("cost_usd",), quality_at_least=0.8).needs
    ('cost_usd', 'quality')
    """

    objectives: tuple[Objective, ...] = ("quality",)
    quality_at_least: float | None = None
    cost_usd_at_most: float | None = None
    latency_s_at_most: float | None = None

    def __post_init__(self) -> None:
        unknown = [name for name in self.objectives if name not in OBJECTIVES]
        if unknown:
            raise UnknownNameError.among("objective", unknown[0], OBJECTIVES)
        if not self.objectives or len(set(self.objectives)) < len(self.objectives):
            raise DataError(f"a goal names each objective once, got {self.objectives!r}")

    @property
    def bounds(self) -> dict[str, float]:
        """The bounds that are set: a least quality, a most cost or latency."""
        bounds = {
            "quality": self.quality_at_least,
            "cost_usd": self.cost_usd_at_most,
            "latency_s": self.latency_s_at_most,
        }
        return {name: bound for name, bound in bounds.items() if bound is not None}

    @property
    def needs(self) -> tuple[str, ...]:
        """Everything that has to be known of a configuration."""
        return tuple(sorted({*self.objectives, *self.bounds}))

    def missed(self, values: Mapping[str, FloatArray]) -> FloatArray:
        """Return by how much the bounds are broken, as a share of each bound; 0 where all hold."""
        total: FloatArray = np.zeros_like(next(iter(values.values())))
        for name, bound in self.bounds.items():
            short = bound - values[name] if name == "quality" else values[name] - bound
            total = total + np.maximum(short, 0) / max(abs(bound), 1e-12)
        return total

    def worth(self, values: Mapping[str, FloatArray], rng: np.random.Generator | None = None) -> FloatArray:
        """Rank candidates by one number, larger is better; those that miss a bound come last.

        Parameters
        ----------
        values
            Each objective per draw and candidate, shape ``(n_draws, n)``.
        rng
            Draws another balance of several objectives for each draw; without it all weigh the same.

        References
        ----------
        Knowles (2006), "ParEGO": the augmented Chebyshev sum.
        """
        sides = np.stack([oriented(name, values[name]) for name in self.objectives])
        worth = _balanced(sides, rng) if len(sides) > 1 else sides[0]
        missed = self.missed(values)
        return np.where(missed > 0, -_UNMET * (1 + missed), worth)


def oriented(name: str, values: FloatArray) -> FloatArray:
    """Turn an objective so that larger is better; costs and latencies on their logarithms."""
    return values if name == "quality" else -np.log(np.maximum(values, 1e-12))


def _balanced(sides: FloatArray, rng: np.random.Generator | None) -> FloatArray:
    low, high = sides.min(axis=(1, 2), keepdims=True), sides.max(axis=(1, 2), keepdims=True)
    scaled = (sides - low) / np.maximum(high - low, 1e-12)
    n_objectives, n_draws, _ = sides.shape
    if rng is None:
        weights = np.full((n_objectives, n_draws), 1 / n_objectives)
    else:
        weights = rng.dirichlet(np.ones(n_objectives), n_draws).T
    # Weighted shortfalls: the worst one counts, and a little of their sum breaks ties.
    short = weights[:, :, None] * (1 - scaled)
    balanced: FloatArray = -(short.max(axis=0) + 0.05 * short.sum(axis=0))
    return balanced


def front(values: FloatArray) -> list[int]:
    """Return the rows that no other row beats: at least as good in everything, better in something.

    Parameters
    ----------
    values
        One row per candidate, one column per objective, larger is better.

    Examples
    --------
    >>> front(np.array([[1.0, 0.0], [0.5, 0.5], [0.4, 0.4], [0.0, 1.0]]))
    [0, 1, 3]
    """
    kept = []
    for k, row in enumerate(values):
        no_worse, better = (values >= row).all(axis=1), (values > row).any(axis=1)
        if not (no_worse & better).any():
            kept.append(k)
    return kept
