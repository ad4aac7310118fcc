"""Functions without noise whose best is known, each turned so that larger is better and 0 is the best."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dspex.variables.base import Choice, Float, Int
from dspex.variables.space import Space

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspex.records import Configuration

_ALPHA = np.array([1.0, 1.2, 3.0, 3.2])
_A = np.array(
    [
        [10, 3, 17, 3.5, 1.7, 8],
        [0.05, 10, 17, 0.1, 8, 14],
        [3, 3.5, 1.7, 10, 17, 8],
        [17, 8, 0.05, 10, 0.1, 14],
    ]
)
_P = 1e-4 * np.array(
    [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ]
)
_HARTMANN_BEST = 3.322368011415515
_BRANIN_BEST = 0.39788735772973816
_LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)


class Function(NamedTuple):
    """A function to be maximised; its best value is 0."""

    space: Space
    value: Callable[[Configuration], float]


def branin() -> Function:
    """Return Branin's function: two numbers, three equal optima."""

    def value(at: Configuration) -> float:
        x, y = _number(at["x"]), _number(at["y"])
        bend = y - 5.1 / (4 * math.pi**2) * x * x + 5 / math.pi * x - 6
        return _BRANIN_BEST - (bend * bend + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10)

    return Function(Space(x=Float(-5.0, 10.0), y=Float(0.0, 15.0)), value)


def hartmann6() -> Function:
    """Return Hartmann's function of six numbers: six local optima."""

    def value(at: Configuration) -> float:
        x = np.array([_number(at[f"x{d}"]) for d in range(6)])
        return float(_ALPHA @ np.exp(-(_A * (x - _P) ** 2).sum(axis=1))) - _HARTMANN_BEST

    return Function(Space({f"x{d}": Float(0.0, 1.0) for d in range(6)}), value)


def ackley_mixed() -> Function:
    """Return Ackley's function of three labels, a whole number and three numbers."""
    labels = {f"label{d}": Choice(["a", "b", "c", "d", "e"]) for d in range(3)}
    numbers = {f"x{d}": Float(-1.0, 1.0, default=0.9) for d in range(3)}
    space = Space({**labels, "size": Int(0, 10), **numbers})

    def value(at: Configuration) -> float:
        codes = [_LEVELS["abcde".index(str(at[f"label{d}"]))] for d in range(3)]
        z = np.array([*codes, (_number(at["size"]) - 4) / 10, *(_number(at[f"x{d}"]) for d in range(3))])
        ripple = math.exp(float(np.cos(2 * np.pi * z).mean()))
        return 20 * math.exp(-0.2 * math.sqrt(float((z * z).mean()))) - 20 + ripple - math.e

    return Function(space, value)


FUNCTIONS = {"Branin": branin, "Hartmann6": hartmann6, "Ackley mixed": ackley_mixed}


def _number(value: object) -> float:
    assert isinstance(value, (int, float))
    return float(value)
