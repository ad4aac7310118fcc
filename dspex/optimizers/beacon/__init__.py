"""BEACON: Bayesian search over mixed, conditional spaces, by small batches of examples."""

from __future__ import annotations

from dspex.optimizers.beacon.goal import Goal
from dspex.optimizers.beacon.search import Beacon
from dspex.optimizers.beacon.work import Recommendation, Row, Work

__all__ = ["Beacon", "Goal", "Recommendation", "Row", "Work"]
