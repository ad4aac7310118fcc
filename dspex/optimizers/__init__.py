"""Searches over spaces, and the studies that run them on one ledger of per-example scores."""

from __future__ import annotations

from dspex.optimizers.beacon import Goal, Recommendation, Row, Work
from dspex.optimizers.beacon.blackbox import Found, Smooth, maximize, minimize
from dspex.optimizers.options import SEARCHES, Beacon, search_named
from dspex.optimizers.random_search import RandomSearch
from dspex.optimizers.teleprompters import (
    COPRO,
    GEPA,
    BetterTogether,
    BootstrapFewShot,
    BootstrapFewShotWithOptuna,
    BootstrapFewShotWithRandomSearch,
    InferRules,
    KNNFewShot,
    LabeledFewShot,
    MIPROv2,
    Simba,
)
from dspex.optimizers.tpe import Tpe

__all__ = [
    "COPRO",
    "GEPA",
    "SEARCHES",
    "Beacon",
    "BetterTogether",
    "BootstrapFewShot",
    "BootstrapFewShotWithOptuna",
    "BootstrapFewShotWithRandomSearch",
    "Found",
    "Goal",
    "InferRules",
    "KNNFewShot",
    "LabeledFewShot",
    "MIPROv2",
    "RandomSearch",
    "Recommendation",
    "Row",
    "Simba",
    "Smooth",
    "Tpe",
    "Work",
    "maximize",
    "minimize",
    "search_named",
]
