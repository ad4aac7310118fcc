"""Linear algebra: one result on numpy and on torch, and nearly singular matrices are taken."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from dspex.optimizers.beacon import algebra as room
from dspex.optimizers.beacon.algebra import LARGE, Numpy, Torch, algebra


def positive(n: int) -> np.ndarray:
    """Make a positive definite matrix."""
    half = np.random.default_rng(0).normal(size=(n, n + 5))
    return half @ half.T / n


def test_root_inverse_and_determinant_belong_together():
    """The root squares to the matrix, the inverse undoes it, and the determinant is numpy's."""
    matrix = positive(20)
    root = Numpy().cholesky(matrix)
    inverse, log_determinant = Numpy().inverse(matrix)
    assert root @ root.T == pytest.approx(matrix)
    assert inverse @ matrix == pytest.approx(np.eye(20), abs=1e-9)
    assert log_determinant == pytest.approx(np.linalg.slogdet(matrix)[1])


def test_a_singular_matrix_is_lifted():
    """Rounding may leave a covariance singular: it gets a root all the same."""
    matrix = np.ones((6, 6))
    root = Numpy().cholesky(matrix)
    assert root @ root.T == pytest.approx(matrix, abs=1e-5)


def test_large_matrices_go_to_torch_only_where_it_is(monkeypatch):
    """Without torch every size is numpy's."""
    monkeypatch.setattr(room.importlib.util, "find_spec", lambda name: None)
    room._large.cache_clear()
    assert algebra(LARGE).name == "numpy"
    room._large.cache_clear()


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
def test_torch_agrees_with_numpy():
    """Both give the same root, inverse and determinant, of a singular matrix too."""
    import torch

    matrix, there = positive(30), Torch(torch)
    assert algebra(LARGE).name == "torch"
    assert there.cholesky(matrix) == pytest.approx(Numpy().cholesky(matrix))
    assert there.inverse(matrix)[0] == pytest.approx(Numpy().inverse(matrix)[0])
    assert there.inverse(matrix)[1] == pytest.approx(Numpy().inverse(matrix)[1])
    assert there.cholesky(np.ones((6, 6))) == pytest.approx(Numpy().cholesky(np.ones((6, 6))), abs=1e-6)
