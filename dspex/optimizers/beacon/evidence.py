"""How probable settings of the surrogate are, given what the scores point to."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dspex.optimizers.beacon.algebra import algebra
from dspex.optimizers.beacon.kernel import Kernel, distances

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dspex.optimizers.beacon.kernel import Prior

    FloatArray = NDArray[np.float64]

_LOG_NOISE, _LOG_NOISE_SPREAD = -1.5, 1.4
"""What the logarithm of the noise is thought to be before data."""


class Within(NamedTuple):
    """What scores of the same configuration say about noise: their squares about its mean, and how many more."""

    squares: float
    spare: int


@dataclass(frozen=True)
class Evidence:
    """Minus the logarithm of the settings' posterior probability, with its gradient.

    Attributes
    ----------
    targets
        The abilities that the scores point to, shape ``(n,)``.
    noise_variances
        How far each target may be off, at noise `log_noise`.
    within
        Given when the noise is to be learnt; the last of the settings is then its logarithm.

    References
    ----------
    Rasmussen and Williams (2006), "Gaussian processes for machine learning", equation 5.9.
    """

    prior: Prior
    is_label: NDArray[np.bool_]
    rows: FloatArray
    targets: FloatArray
    noise_variances: FloatArray
    within: Within | None
    log_noise: float

    @cached_property
    def _apart(self) -> FloatArray:
        return distances(self.rows, self.rows, self.is_label)

    def __call__(self, settings: FloatArray) -> tuple[float, FloatArray]:
        """Return the value and the gradient at some settings, the logarithm of the noise last."""
        kernel = Kernel(settings[:-1], self.is_label)
        stretch = 1.0 if self.within is None else np.exp(2 * (settings[-1] - self.log_noise))
        noise = self.noise_variances * stretch
        matrix = kernel.from_distances(self._apart) + np.diag(noise)
        inverse, log_determinant = algebra(len(noise)).inverse(matrix)
        pull = inverse @ self.targets
        lever = 0.5 * (np.outer(pull, pull) - inverse)
        off = (settings[:-1] - self.prior.mean) / self.prior.spread
        value = 0.5 * float(self.targets @ pull + log_determinant + off @ off)
        slope = off / self.prior.spread - kernel.gradients(self._apart, lever)
        extra, bend = self._noise(float(settings[-1]))
        if self.within is not None:
            bend -= 2 * float(np.diag(lever) @ noise)
        return value + extra, np.append(slope, bend)

    def _noise(self, log_noise: float) -> tuple[float, float]:
        """Return what the scatter within configurations adds, and its slope."""
        if self.within is None:
            return 0.0, 0.0
        weighed = self.within.squares * np.exp(-2 * log_noise)
        off = (log_noise - _LOG_NOISE) / _LOG_NOISE_SPREAD
        value = self.within.spare * log_noise + 0.5 * weighed + 0.5 * off * off
        return float(value), float(self.within.spare - weighed + off / _LOG_NOISE_SPREAD)
