"""Searches over spaces, and the studies that run them on one ledger of per-example scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspex.errors import UnknownNameError
from dspex.optimizers.beacon import Beacon, Goal, Recommendation, Row, Work
from dspex.optimizers.beacon.blackbox import Found, Smooth, maximize, minimize
from dspex.optimizers.coordinate import Coordinate
from dspex.optimizers.grid import Grid
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
    from dspex.optimizers.search import Search
    from dspex.variables.space import Space

__all__ = [
    "COPRO",
    "GEPA",
    "SEARCHES",
    "Beacon",
    "BetterTogether",
    "BootstrapFewShot",
    "BootstrapFewShotWithOptuna",
    "BootstrapFewShotWithRandomSearch",
    "Coordinate",
    "Found",
    "Goal",
    "Grid",
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

SEARCHES: dict[str, type[Smooth | Tpe | RandomSearch | Grid]] = {
    "beacon": Smooth,
    "grid": Grid,
    "random": RandomSearch,
    "tpe": Tpe,
}


def search_named(name: str, space: Space, seed: int) -> Search:
    """Start a search by its name.

    Raises
    ------
    UnknownNameError
        If there is no such optimizer.
    """
    if name not in SEARCHES:
        raise UnknownNameError.among("optimizer", name, SEARCHES)
    return SEARCHES[name](space, seed=seed)
