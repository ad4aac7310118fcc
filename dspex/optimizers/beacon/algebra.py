"""Linear algebra of covariance matrices: numpy for small ones; torch for large ones, on a GPU if there is one.

This process never touches CUDA: what is for a GPU goes to the pool ``neural``, whose workers may.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
import os
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from dspex import pools
from dspex.errors import PoolError, UnknownNameError
from dspex.pools import gpus
from dspex.pools.worker import is_worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

LARGE = 768
"""Rows from which a matrix is worth the way to torch."""
CHOICE = "DSPEX_ALGEBRA"
"""The environment variable that chooses: ``auto``, ``numpy``, ``torch``, or ``neural`` for torch in that pool."""
_CHOICES = ("auto", "neural", "numpy", "torch")
_log = logging.getLogger("dspex.optimizers")


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
    """With torch, in double precision."""

    name = "torch"

    def __init__(self, torch: Any, device: str = "cpu") -> None:
        self._torch = torch
        self._device = device

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


class Neural:
    """With torch in a worker of the pool ``neural``, and so on its GPU; what fails there is done here, and said."""

    name = "neural"

    def cholesky(self, matrix: FloatArray) -> FloatArray:
        """Return the lower triangular root."""
        root: FloatArray = _asked("cholesky", matrix)
        return root

    def inverse(self, matrix: FloatArray) -> tuple[FloatArray, float]:
        """Return the inverse, and the logarithm of the determinant."""
        inverse, log_determinant = _asked("inverse", matrix)
        return inverse, float(log_determinant)


def _asked(what: str, matrix: FloatArray) -> Any:
    try:
        return pools.get("neural").submit(_there, what, matrix).result()
    except PoolError as error:
        _log.warning("a covariance of %d rows was too much for the pool 'neural': %s", len(matrix), error)
        return getattr(_here(), what)(matrix)


def _there(what: str, matrix: FloatArray) -> Any:
    """Do it in a worker, on its device."""
    torch: Any = importlib.import_module("torch")
    return getattr(Torch(torch, "cuda" if torch.cuda.is_available() else "cpu"), what)(matrix)


def algebra(size: int) -> Algebra:
    """Choose by the number of rows, unless ``DSPEX_ALGEBRA`` does: small matrices need no torch.

    Examples
    --------
    >>> algebra(40).name
    'numpy'

    Raises
    ------
    UnknownNameError
        If the variable names none.
    """
    choice = os.environ.get(CHOICE, "auto")
    if choice not in _CHOICES:
        raise UnknownNameError.among(f"{CHOICE} value", choice, _CHOICES)
    if choice == "auto":
        return _large() if size >= LARGE else Numpy()
    return {"numpy": Numpy, "torch": _with_torch, "neural": Neural}[choice]()


@functools.cache
def _large() -> Algebra:
    return _here() if is_worker() or _has_no_torch() or not gpus.probe() else Neural()


def _here() -> Algebra:
    return Numpy() if _has_no_torch() else _with_torch()


def _with_torch() -> Algebra:
    return Torch(importlib.import_module("torch"))


def _has_no_torch() -> bool:
    return importlib.util.find_spec("torch") is None


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
