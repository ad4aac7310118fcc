"""Configurations as rows of numbers, and the steps from one configuration to those beside it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from dspex.records import Configuration, Value
    from dspex.variables.space import Space

    FloatArray = NDArray[np.float64]

_MOST_LABELS = 12
_STEPS = (0.03, 0.1, 0.3)
"""How far the neighbours of a number are, as shares of its range."""


class Column(NamedTuple):
    """One variable as the surrogate sees it, or one coordinate: a number in [0, 1], or a label counted from 0."""

    name: str
    kind: Literal["number", "label"]


class Encoder:
    """Turns configurations of a space into rows, ``nan`` where a variable does not exist.

    Examples
    --------
    >>> from dspex.variables.base import Choice, Float
    >>> from dspex.variables.space import Space
    >>> encoder = Encoder(Space(temperature=Float(0.0, 2.0), tone=Choice(["brief", "kind"])))
    >>> encoder.rows([{"temperature": 0.5, "tone": "kind"}, {"tone": "brief"}])
    array([[0.25, 1.  ],
           [ nan, 0.  ]])
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        self.columns = tuple(
            Column(each.name, "label" if each.scale == "categorical" else "number") for each in space.columns
        )
        self._codings = {name: variable.coding() for name, variable in space.items()}
        self._labels: dict[str, dict[Any, int]] = {
            name: {label: k for k, label in enumerate(variable.grid(1))}
            for name, variable in space.items()
            if variable.scale == "categorical"
        }

    @property
    def is_label(self) -> NDArray[np.bool_]:
        """Which columns are labels, shape ``(n_columns,)``."""
        return np.array([column.kind == "label" for column in self.columns])

    def rows(self, configurations: Sequence[Configuration]) -> FloatArray:
        """Encode configurations, shape ``(n, n_columns)``."""
        encoded = [
            [code for name in self._space for code in self._codes(name, each)] for each in configurations
        ]
        return np.array(encoded, dtype=float).reshape(len(encoded), len(self.columns))

    def _codes(self, name: str, configuration: Configuration) -> list[float]:
        if name not in configuration:
            return [math.nan] * self._space[name].width
        if name in self._labels:
            return [float(self._labels[name][configuration[name]])]
        return self._places(name, configuration[name])

    def _places(self, name: str, value: Any) -> list[float]:
        places = self._codings[name].encode(value)
        return list(places) if self._space[name].width > 1 else [places]

    def neighbours(self, configuration: Configuration, rng: random.Random) -> Iterator[dict[str, Value]]:
        """Walk through configurations that differ in one variable: other labels, and short and long steps."""
        for name, value in configuration.items():
            if name in self._labels:
                others = [label for label in self._labels[name] if label != value]
                values = others if len(others) <= _MOST_LABELS else rng.sample(others, _MOST_LABELS)
            else:
                values = [self._stepped(name, value, rng, step) for step in _STEPS]
            for other in values:
                if other != value and (near := self._with(configuration, {name: other})) is not None:
                    yield near

    def moved(self, configuration: Configuration, rng: random.Random, step: float) -> dict[str, Value]:
        """Move every number by about `step` of its range, and now and then change a label."""
        changed: dict[str, Any] = {}
        for name, value in configuration.items():
            if name not in self._labels:
                changed[name] = self._stepped(name, value, rng, step)
            elif rng.random() < step:
                changed[name] = rng.choice([*self._labels[name]])
        moved = self._with(configuration, changed)
        return dict(configuration) if moved is None else moved

    def _stepped(self, name: str, value: Any, rng: random.Random, step: float) -> Value:
        """Return the value at about `step` from another on its scale; places outside are mirrored inside."""
        moved = [place + rng.gauss(0.0, step) for place in self._places(name, value)]
        inside = [min(1.0, max(0.0, abs(place) if place <= 1 else 2 - place)) for place in moved]
        return self._codings[name].decode(inside if self._space[name].width > 1 else inside[0])

    def _with(self, configuration: Configuration, changed: dict[str, Any]) -> dict[str, Value] | None:
        """Return a configuration with some values changed, or None if that breaks a constraint.

        What comes into existence has its default.
        """
        known = {**configuration, **changed}
        near = self._space.settle(lambda name, variable: known.get(name, variable.default))
        return near if self._space.breaks(near) is None else None
