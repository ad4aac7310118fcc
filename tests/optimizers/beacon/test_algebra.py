"""Linear algebra: one result on numpy and on torch, and nearly singular matrices are taken."""

from __future__ import annotations

import numpy as np
import pytest

from dspex.errors import PoolError, UnknownNameError
from dspex.optimizers.beacon import algebra as room
from dspex.optimizers.beacon.algebra import CHOICE, LARGE, Neural, Numpy, Torch, algebra
from dspex.pools import named
from dspex.pools.gpus import Gpu


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


def test_torch_agrees_with_numpy():
    """Both give the same root, inverse and determinant, of a singular matrix too."""
    torch = pytest.importorskip("torch")
    room._large.cache_clear()

    matrix, there = positive(30), Torch(torch)
    assert algebra(LARGE).name == "torch"
    assert there.cholesky(matrix) == pytest.approx(Numpy().cholesky(matrix))
    assert there.inverse(matrix)[0] == pytest.approx(Numpy().inverse(matrix)[0])
    assert there.inverse(matrix)[1] == pytest.approx(Numpy().inverse(matrix)[1])
    assert there.cholesky(np.ones((6, 6))) == pytest.approx(Numpy().cholesky(np.ones((6, 6))), abs=1e-6)


def test_a_worker_of_the_neural_pool_agrees_with_numpy(monkeypatch):
    """Asked for by name, a large matrix travels to the pool and comes back the same within 1e-8."""
    monkeypatch.setenv(CHOICE, "neural")
    matrix, there = positive(400), algebra(400)
    assert isinstance(there, Neural)
    assert np.abs(there.cholesky(matrix) - Numpy().cholesky(matrix)).max() < 1e-8
    inverse, log_determinant = there.inverse(matrix)
    assert np.abs(inverse - Numpy().inverse(matrix)[0]).max() < 1e-8
    assert abs(log_determinant - Numpy().inverse(matrix)[1]) < 1e-8
    assert named.stats()["neural"].done == 2
    named.close("neural")


def test_a_gpu_is_used_through_the_pool(monkeypatch):
    """Where there is a GPU large matrices go to the pool, as this process must not touch CUDA."""
    monkeypatch.setattr(room.gpus, "probe", lambda: [Gpu("GPU-a", "fake", 24_000, 20_000)])
    monkeypatch.setattr(room.importlib.util, "find_spec", lambda name: name)
    room._large.cache_clear()
    assert (algebra(LARGE).name, algebra(LARGE - 1).name) == ("neural", "numpy")
    room._large.cache_clear()


def test_what_fails_in_the_pool_is_done_here(monkeypatch, caplog):
    """A device that is full costs a warning, not the study."""

    def refuse(name):
        raise PoolError("the device is full")

    monkeypatch.setattr(room.pools, "get", refuse)
    matrix = positive(30)
    assert Neural().cholesky(matrix) == pytest.approx(Numpy().cholesky(matrix))
    assert "a covariance of 30 rows was too much for the pool 'neural': the device is full" in caplog.text


@pytest.mark.parametrize("choice", ["numpy", "torch"])
def test_the_library_can_be_chosen(monkeypatch, choice):
    """An environment variable decides for every size; a name that is none is refused."""
    monkeypatch.setenv(CHOICE, choice)
    assert {algebra(size).name for size in (2, LARGE)} == {choice}
    monkeypatch.setenv(CHOICE, "nunpy")
    with pytest.raises(
        UnknownNameError, match=r"unknown DSPEX_ALGEBRA value 'nunpy'; .*\n.*did you mean 'numpy'"
    ):
        algebra(2)
