"""How alike two configurations are expected to perform: main effects, pairs, the whole, and each one's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    BoolArray = NDArray[np.bool_]

_FAR = 1e3
"""Distance between a number and none: nothing is shared."""


@dataclass(frozen=True)
class Prior:
    """What the settings are thought to be before data: means and spreads of their logarithms."""

    mean: FloatArray
    spread: FloatArray

    @classmethod
    def of(cls, is_label: BoolArray, *, smooth: bool) -> Prior:
        """Return the usual expectations.

        Parameters
        ----------
        smooth
            Whether a configuration's score follows from its variables alone, as that of a mathematical
            function does: no own effect then, and much more interaction.
        """
        width = len(is_label)
        reach = np.where(is_label, 1.0, 0.5)
        scale = np.full(width, 0.5 if smooth else 0.6)
        rest = [1.0, 0.5, 0.8, 1e-5] if smooth else [1.5, 0.5, 0.3, 0.2]
        spread = np.concatenate([np.full(width, 0.8), np.full(width, 0.7), [0.5, 0.8, 0.8, 0.5]])
        return cls(np.log(np.concatenate([scale, reach, rest])), spread)


def distances(left: FloatArray, right: FloatArray, is_label: BoolArray) -> FloatArray:
    """Return distances per column, shape ``(n_columns, n_left, n_right)``: 0 or 1 between labels.

    Two inactive values are at the same place, an active and an inactive one are far apart.
    """
    apart = np.empty((len(is_label), len(left), len(right)))
    for d, label in enumerate(is_label):
        a, b = left[:, d, None], right[None, :, d]
        np.abs(a - b, out=apart[d]) if not label else np.not_equal(a, b, out=apart[d], casting="unsafe")
        none_a, none_b = np.isnan(a), np.isnan(b)
        if none_a.any() or none_b.any():
            apart[d][none_a ^ none_b] = 1.0 if label else _FAR
            apart[d][none_a & none_b] = 0.0
    return apart


class Kernel:
    """The covariance of configurations' abilities, for given settings.

    With ``k_d`` the likeness in column ``d`` (equality of labels, Matern-5/2 of numbers) it is::

        level² + sum_d s_d² k_d + pairs² * sum_{d<e} s_d² k_d s_e² k_e + whole² * prod_d k'_d + own² * [same]

    where ``k'_d`` is ``k_d`` for numbers and ``exp(-reach_d)`` for two different labels.

    Parameters
    ----------
    settings
        Logarithms of: scale per column, reach per column, level, pairs, whole, own.

    References
    ----------
    Duvenaud, Nickisch and Rasmussen (2011), "Additive Gaussian processes".
    """

    def __init__(self, settings: FloatArray, is_label: BoolArray) -> None:
        self.settings, self.is_label = settings, is_label
        width = len(is_label)
        self.scale2 = np.exp(2 * settings[:width])
        self.reach = np.exp(settings[width : 2 * width])
        self.level2, self.pairs2, self.whole2, self.own2 = np.exp(2 * settings[2 * width :])

    @property
    def diagonal(self) -> float:
        """The variance of any one configuration's ability before data."""
        return float(
            self.level2 + self.scale2.sum() + self.pairs2 * _pairs(self.scale2) + self.whole2 + self.own2
        )

    def between(self, left: FloatArray, right: FloatArray) -> FloatArray:
        """Return covariances, shape ``(n_left, n_right)``."""
        return self.from_distances(distances(left, right, self.is_label))

    def from_distances(self, apart: FloatArray) -> FloatArray:
        """Return covariances for distances that are known already, shape ``(n_columns, n_left, n_right)``."""
        sums, squares, far = (np.zeros(apart.shape[1:]) for _ in range(3))
        whole = np.full(apart.shape[1:], self.whole2)
        for likeness, scale2, growth, away in self._parts(apart):
            part = scale2 * likeness
            sums += part
            squares += part * part
            far += away
            if growth is not None:
                whole *= growth
        whole *= np.exp(-far)
        total: FloatArray = self.level2 + sums + self.pairs2 / 2 * (sums * sums - squares) + whole
        total[far == 0] += self.own2
        return total

    def terms(self, left: FloatArray, right: FloatArray) -> Iterator[tuple[tuple[int, ...], FloatArray]]:
        """Walk through the main effects and the pairs, each with its own part of the covariance."""
        apart = distances(left, right, self.is_label)
        scaled = [part * scale for part, scale, _, _ in self._parts(apart)]
        for d, part in enumerate(scaled):
            yield (d,), part
            for e in range(d):
                yield (e, d), self.pairs2 * scaled[e] * part

    def _parts(self, apart: FloatArray) -> Iterator[tuple[FloatArray, float, FloatArray | None, FloatArray]]:
        """Walk through the columns: likeness, its scale, and the factors ``growth * exp(-away)`` of the whole."""
        for d, distance in enumerate(apart):
            if self.is_label[d]:
                yield 1 - distance, self.scale2[d], None, self.reach[d] * distance
            else:
                away = np.sqrt(5.0) / self.reach[d] * distance
                growth = 1 + away + away * away / 3
                yield growth * np.exp(-away), self.scale2[d], growth, away

    def gradients(self, apart: FloatArray, weight: FloatArray) -> FloatArray:
        """Return ``sum(weight * dK/dsetting)`` per setting, K being the square matrix over `apart`."""
        width = len(self.is_label)
        columns = list(self._parts(apart))
        scaled = [part * scale for part, scale, _, _ in columns]
        total = np.add.reduce(scaled)
        pairs = (total * total - np.add.reduce([part * part for part in scaled])) / 2
        whole_weight = weight * self.whole2 * np.exp(-np.add.reduce([away for *_, away in columns]))
        for _, _, growth, _ in columns:
            if growth is not None:
                whole_weight *= growth
        found = np.empty(len(self.settings))
        for d in range(width):
            # What one unit of this column's part adds, directly and through its pairs.
            lever = weight * (1 + self.pairs2 * (total - scaled[d]))
            found[d] = 2 * np.vdot(lever, scaled[d])
            _, _, growth, away = columns[d]
            if growth is None:
                found[width + d] = -self.reach[d] * np.vdot(whole_weight, apart[d])
                continue
            slope = away * away * (1 + away) / 3
            found[width + d] = self.scale2[d] * np.vdot(lever, slope * np.exp(-away))
            found[width + d] += np.vdot(whole_weight, slope / growth)
        found[2 * width :] = [
            2 * self.level2 * weight.sum(),
            2 * self.pairs2 * np.vdot(weight, pairs),
            2 * whole_weight.sum(),
            2 * self.own2 * np.vdot(weight, apart.sum(axis=0) == 0),
        ]
        return found


def _pairs(parts: FloatArray) -> FloatArray:
    """Sum the products of every two of the parts."""
    pairs: FloatArray = ((parts.sum(axis=0)) ** 2 - (parts**2).sum(axis=0)) / 2
    return pairs
