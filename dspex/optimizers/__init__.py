"""Searches over spaces, and the studies that run them on one ledger of per-example scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspex.errors import UnknownNameError
from dspex.optimizers.tpe import Beacon
from dspex.optimizers.random_search import RandomSearch

if TYPE_CHECKING:
    from dspex.optimizers.search import Search
    from dspex.variables.space import Space

__all__ = ["Beacon", "RandomSearch", "search_named"]

_SEARCHES: dict[str, type[Beacon | RandomSearch]] = {"beacon": Beacon, "random": RandomSearch}


def search_named(name: str, space: Space, seed: int) -> Search:
    """Start a search by its name.

    Raises
    ------
    UnknownNameError
        If there is no such optimizer.
    """
    if name not in _SEARCHES:
        raise UnknownNameError.among("optimizer", name, _SEARCHES)
    return _SEARCHES[name](space, seed=seed)
