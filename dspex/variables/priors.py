"""Where good values are likely, before anything was tried."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

from dspex.errors import VariableError

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Normal:
    """A prior around a value that is likely to be good, cut off at the variable's bounds.

    Attributes
    ----------
    mean, sd
        In the variable's own units; on a log scale `sd` is that of the natural logarithm.
    """

    mean: float
    sd: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mean) and math.isfinite(self.sd) and self.sd > 0):
            raise VariableError(
                f"a normal prior needs a finite mean and sd > 0, got mean={self.mean}, sd={self.sd}"
            )

    def within(self, place: Callable[[float], float], span: float) -> Callable[[float], float] | None:
        """Return what turns uniform draws into its own within the unit cube, or None if nothing is left there.

        Parameters
        ----------
        place
            Value → place in the unit cube.
        span
            How long the cube's side is in the units of `sd`.
        """
        around = NormalDist(place(self.mean), self.sd / span)
        below, left = around.cdf(0), around.cdf(1) - around.cdf(0)
        if left <= 0:
            return None
        # The ends of the normal distribution are infinitely far away.
        return lambda share: around.inv_cdf(min(1 - 1e-16, max(1e-300, below + share * left)))
