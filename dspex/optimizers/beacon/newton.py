"""A small quasi-Newton search for the minimum of a smooth function, on numpy alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    Function = Callable[[FloatArray], tuple[float, FloatArray]]

_MEMORY = 8
_LONGEST = 1.5
"""No coordinate moves further in one step."""
_FLAT = 1e-5


def minimum(function: Function, start: FloatArray, iterations: int) -> FloatArray:
    """Walk downhill with L-BFGS and halved steps until the function is flat or the iterations are over.

    Parameters
    ----------
    function
        Returns the value and the gradient at a point.

    References
    ----------
    Liu and Nocedal (1989), "On the limited memory BFGS method for large scale optimization".

    Examples
    --------
    >>> minimum(lambda x: (float(x @ x), 2 * x), np.array([3.0, -4.0]), 20).round(6) + 0.0
    array([0., 0.])
    """
    here = start
    value, slope = function(here)
    steps: list[FloatArray] = []
    bends: list[FloatArray] = []
    for _ in range(iterations):
        direction = -_uphill(slope, steps, bends)
        direction *= min(1.0, _LONGEST / max(np.abs(direction).max(), 1e-12))
        found = _descend(function, here, value, slope, direction)
        if found is None:
            break
        there, lower, turned = found
        if (turned - slope) @ (there - here) > 0:
            steps, bends = [*steps, there - here][-_MEMORY:], [*bends, turned - slope][-_MEMORY:]
        flat = value - lower < _FLAT * max(1.0, abs(value))
        here, value, slope = there, lower, turned
        if flat:
            break
    return here


def _uphill(slope: FloatArray, steps: list[FloatArray], bends: list[FloatArray]) -> FloatArray:
    """Multiply the gradient by the inverse curvature that past steps have shown."""
    if not steps:
        return slope / max(1.0, float(np.abs(slope).max()))
    uphill, shares = slope, []
    for step, bend in zip(reversed(steps), reversed(bends), strict=True):
        share = step @ uphill / (step @ bend)
        uphill = uphill - share * bend
        shares.append(share)
    uphill = uphill * (steps[-1] @ bends[-1]) / (bends[-1] @ bends[-1])
    for step, bend, share in zip(steps, bends, reversed(shares), strict=True):
        uphill = uphill + step * (share - bend @ uphill / (step @ bend))
    return uphill


def _descend(
    function: Function, here: FloatArray, value: float, slope: FloatArray, direction: FloatArray
) -> tuple[FloatArray, float, FloatArray] | None:
    """Take the longest of ever shorter steps that pays, or none."""
    share = 1.0
    for _ in range(12):
        there = here + share * direction
        lower, turned = function(there)
        if np.isfinite(lower) and lower <= value + 1e-4 * share * float(slope @ direction):
            return there, lower, turned
        share /= 2.5
    return None
