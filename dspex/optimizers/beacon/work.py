"""What goes in and out of a search: proposals, scores, and what is recommended in the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from dspex.records import Configuration, Value


class Work(NamedTuple):
    """What to evaluate next: one configuration on a few examples that it has not seen."""

    configuration: dict[str, Value]
    key: str
    examples: tuple[str, ...]


class Row(NamedTuple):
    """One score, as the ledger has it; rows of earlier studies are a warm start."""

    configuration: Configuration
    example: str
    score: float
    cost_usd: float | None = None
    latency_s: float | None = None


class Recommendation(NamedTuple):
    """The configuration to use, and how sure that is."""

    configuration: dict[str, Value]
    mean: float
    """Expected score over all examples."""
    sd: float
    probability_best: float
    """How probably it is the best of all that were considered."""
    regret_bound: float
    """With 95 % probability the best that was considered is not better by more than this."""
    n_scores: int
