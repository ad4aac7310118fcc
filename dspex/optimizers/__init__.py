"""Searches over spaces, and the studies that run them on one ledger of per-example scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from dspex.optimizers.continuous import Continuous

__all__ = [
    "COPRO",
    "GEPA",
    "SEARCHES",
    "Beacon",
    "BetterTogether",
    "BootstrapFewShot",
    "BootstrapFewShotWithOptuna",
    "BootstrapFewShotWithRandomSearch",
    "Continuous",
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


def __getattr__(name: str) -> Any:
    if name != "Continuous":
        raise AttributeError(f"module 'dspex.optimizers' has no attribute {name!r}")
    # What runs studies imports the searches of this room.
    from dspex.optimizers.continuous import Continuous

    return Continuous
