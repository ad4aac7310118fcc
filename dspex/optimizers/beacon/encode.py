"""Configurations as rows of numbers, and the steps from one configuration to those beside it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from dspex.errors import VariableError
from dspex.variables.base import Bool, Choice, Float, Int

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from dspex.records import Configuration, Scalar
    from dspex.variables.base import Variable
    from dspex.variables.space import Space

    FloatArray = NDArray[np.float64]


class Column(NamedTuple):
    """One variable as the surrogate sees it: a number in [0, 1], or a label counted from 0."""

    name: str
    kind: Literal["number", "label"]


class Encoder:
    """Turns configurations of a space into rows, ``nan`` where a variable is inactive.

    Examples
    --------
    >>> from dspex.variables.space import Space
    >>> encoder = Encoder(Space(temperature=Float(0.0, 2.0), tone=Choice(["brief", "kind"])))
    >>> encoder.rows([{"temperature": 0.5, "tone": "kind"}, {"tone": "brief"}])
    array([[0.25, 1.  ],
           [ nan, 0.  ]])
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        self.columns = tuple(Column(name, _kind(variable)) for name, variable in space.items())
        self._labels = {
            name: {label: k for k, label in enumerate(space[name].grid(1))}
            for name, kind in self.columns
            if kind == "label"
        }

    @property
    def is_label(self) -> NDArray[np.bool_]:
        """Which columns are labels, shape ``(n_columns,)``."""
        return np.array([column.kind == "label" for column in self.columns])

    def rows(self, configurations: Sequence[Configuration]) -> FloatArray:
        """Encode configurations, shape ``(n, n_columns)``."""
        encoded = [[self._code(name, each) for name, _ in self.columns] for each in configurations]
        return np.array(encoded, dtype=float).reshape(len(encoded), len(self.columns))

    def _code(self, name: str, configuration: Configuration) -> float:
        if name not in configuration:
            return math.nan
        value = configuration[name]
        if name in self._labels:
            return float(self._labels[name][value])
        assert isinstance(value, (int, float))
        return _share(self._space[name], value)

    def neighbours(self, configuration: Configuration, rng: random.Random) -> Iterator[dict[str, Scalar]]:
        """Walk through configurations that differ in one variable: other labels, and short and long steps."""
        for name, kind in self.columns:
            if name not in configuration:
                continue
            if kind == "label":
                others = [label for label in self._labels[name] if label != configuration[name]]
                values: list[Scalar] = (
                    [*others] if len(others) <= _MOST_LABELS else rng.sample(others, _MOST_LABELS)
                )
            else:
                here = self._code(name, configuration)
                values = [_at(self._space[name], here + rng.gauss(0.0, step)) for step in _STEPS]
            for value in values:
                if value != configuration[name]:
                    yield {**configuration, name: value}

    def moved(self, configuration: Configuration, rng: random.Random, step: float) -> dict[str, Scalar]:
        """Move every number by about `step` of its range, and now and then change a label."""
        moved: dict[str, Scalar] = dict(configuration)
        for name, kind in self.columns:
            if name not in moved:
                continue
            if kind == "number":
                moved[name] = _at(self._space[name], self._code(name, configuration) + rng.gauss(0.0, step))
            elif rng.random() < step:
                moved[name] = rng.choice([*self._labels[name]])
        return moved


_MOST_LABELS = 12
_STEPS = (0.03, 0.1, 0.3)
"""How far the neighbours of a number are, as shares of its range."""


def _kind(variable: Variable) -> Literal["number", "label"]:
    match variable:
        case Float() | Int():
            return "number"
        case Bool() | Choice():
            return "label"
        case _:
            raise VariableError(
                f"beacon cannot search a {type(variable).__name__}", hint="optimizer='random' can"
            )


def _share(variable: Variable, value: float) -> float:
    """Say where a value is on its scale, in [0, 1]."""
    assert isinstance(variable, (Float, Int))
    low, high = variable.low, variable.high
    if variable.log:
        low, high, value = math.log(low), math.log(high), math.log(value)
    return (value - low) / (high - low)


def _at(variable: Variable, share: float) -> float:
    """Return the value nearest to a place on the scale; places outside are mirrored inside."""
    assert isinstance(variable, (Float, Int))
    share = min(1.0, max(0.0, abs(share) if share <= 1 else 2 - share))
    low, high = variable.low, variable.high
    value = low * (high / low) ** share if variable.log else low + share * (high - low)
    value = min(high, max(low, value))
    if isinstance(variable, Int):
        last = (variable.high - variable.low) // variable.step
        return variable.low + min(last, round((value - variable.low) / variable.step)) * variable.step
    if variable.step is not None:
        return variable.at_step(
            min(int(variable.n_values) - 1, round((value - variable.low) / variable.step))
        )
    return value
