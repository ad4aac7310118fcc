"""Linear algebra of covariance matrices: numpy for small ones, torch for large ones when it is installed."""

from __future__ import annotations

import functools
import importlib
import importlib.util
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

LARGE = 768
"""Rows from which a matrix is worth the way to torch."""


class Algebra(Protocol):
    """What is done with a positive definite matrix."""

    name: str

    def cholesky(self, matrix: FloatArray) -> FloatArray:
        """Return its lower triangular root."""
        ...

    def inverse(self, matrix: FloatArray) -> tuple[FloatArray, float]:
        """Return its inverse, and the logarithm of its determinant."""
        ...


class Numpy:
    """With numpy alone."""

    name = "numpy"

    def cholesky(self, matrix: FloatArray) -> FloatArray:
        """Return the lower triangular root."""
        root: FloatArray = _rising(np.linalg.cholesky, matrix, np.linalg.LinAlgError)
        return root

    def inverse(self, matrix: FloatArray) -> tuple[FloatArray, float]:
        """Return the inverse, and the logarithm of the determinant."""
        root = self.cholesky(matrix)
        half = np.linalg.inv(root)
        return half.T @ half, 2 * float(np.log(np.diag(root)).sum())


class Torch:
    """With torch, on CUDA when there is one, in double precision."""

    name = "torch"

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        self._device = "cuda" if torch.cuda.is_available() else "cpu"

    def cholesky(self, matrix: FloatArray) -> FloatArray:
        """Return the lower triangular root."""
        root: FloatArray = self._root(matrix).cpu().numpy()
        return root

    def inverse(self, matrix: FloatArray) -> tuple[FloatArray, float]:
        """Return the inverse, and the logarithm of the determinant."""
        root = self._root(matrix)
        return self._torch.cholesky_inverse(root).cpu().numpy(), 2 * float(root.diagonal().log().sum())

    def _root(self, matrix: FloatArray) -> Any:
        there = self._torch.as_tensor(matrix, dtype=self._torch.float64, device=self._device)
        return _rising(self._torch.linalg.cholesky, there, self._torch.linalg.LinAlgError)


def algebra(size: int) -> Algebra:
    """Choose by the number of rows: torch is neither imported nor needed for small matrices.

    Examples
    --------
    >>> algebra(40).name
    'numpy'
    """
    return _large() if size >= LARGE else Numpy()


@functools.cache
def _large() -> Algebra:
    return Numpy() if importlib.util.find_spec("torch") is None else Torch(importlib.import_module("torch"))


def _rising(cholesky: Callable[[Any], Any], matrix: Any, failure: type[Exception]) -> Any:
    """Take the root, adding a little to the diagonal where rounding has made the matrix indefinite."""
    scale = float(matrix.diagonal().mean())
    for share in (0.0, 1e-10, 1e-8, 1e-6):
        try:
            return cholesky(_lifted(matrix, share * scale))
        except failure:
            continue
    return cholesky(_lifted(matrix, 1e-4 * scale))


def _lifted(matrix: Any, by: float) -> Any:
    """Add to the diagonal; the same lines serve both libraries."""
    if by == 0:
        return matrix
    lifted = matrix + 0.0
    every = range(len(lifted))
    lifted[every, every] += by
    return lifted
