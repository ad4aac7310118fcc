"""Diversion: a share of a registry's uses that run with other values, which are not written."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING

from dspex.errors import VariableError

if TYPE_CHECKING:
    from dspex.records import Configuration


class Diversion:
    """Draws for each use whether it takes the values in force or the others.

    Parameters
    ----------
    values
        What the diverted uses run with.
    share
        The probability of being diverted, in (0, 1).
    seed
        Of the draws.

    Examples
    --------
    >>> diversion = Diversion({"tone": "kind"}, share=0.25)
    >>> [diversion.next({"tone": "brief"})["tone"] for _ in range(6)]
    ['brief', 'brief', 'brief', 'brief', 'brief', 'brief']
    """

    def __init__(self, values: Configuration, share: float, *, seed: int = 0) -> None:
        if not 0 < share < 1:
            raise VariableError(f"a share must lie between 0 and 1, got {share!r}", hint="10 % is 0.1")
        self.values = values
        self._share = share
        self._rng = random.Random(seed)
        self._lock = threading.Lock()

    def next(self, configuration: Configuration) -> Configuration:
        """Return the values of one more use."""
        with self._lock:
            is_diverted = self._rng.random() < self._share
        return self.values if is_diverted else configuration
