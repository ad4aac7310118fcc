import json
import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspex.errors import VariableError
from dspex.variables.tensor import Embedding, Tensor


@pytest.mark.parametrize(
    ("variable", "value", "problem"),
    [
        (Tensor((2, 3)), [[0.1, 0.2], [0.1, 0.2]], "must have shape (2, 3), got shape (2, 2)"),
        (
            Tensor((2, 3)),
            [[0.1, 0.2, 0.3], [0.1]],
            "must have shape (2, 3), got a ragged list: row [1] has 1, row [0] has 3",
        ),
        (
            Tensor((2, 1, 2)),
            [[[0, 1]], [[0]]],
            "must have shape (2, 1, 2), got a ragged list: row [1] has 1 x 1, row [0] has 1 x 2",
        ),
        (
            Tensor((2,)),
            [0.5, [1]],
            "must have shape (2,), got a ragged list: row [1] has 1, row [0] has a number",
        ),
        (Tensor((2,)), 0.5, "must have shape (2,), got 0.5"),
        (Tensor((2,)), [0.5, math.nan], "must hold numbers, got nan"),
        (Tensor((2,)), [0.5, "x"], "must hold numbers, got 'x'"),
        (Tensor((2,)), [0.5, True], "must hold numbers, got True"),
        (Tensor((2,)), [0.5, 1.5], "must hold numbers in [-1, 1], got 1.5"),
        (Tensor((2,), dtype="int", high=9), [1, 2.5], "must hold whole numbers, got 2.5"),
        (Embedding(3), [0.5, 0.5], "must have shape (3,), got shape (2,)"),
        (Embedding(3), np.zeros((3, 1)), "must have shape (3,), got shape (3, 1)"),
        (Embedding(3), np.array([0.0, np.nan, 0.0]), "must hold numbers, got nan"),
        (Embedding(2, normalised=True), [0.5, 0.5], "must have length 1, got 0.707107"),
        (Embedding(9, rank=2), [0.5, 1.5], "must have coordinates in [-1, 1], got 1.5"),
        (Embedding(9, rank=2), [0.5] * 8, "must have shape (9,), got shape (8,)"),
    ],
)
def test_wrong_arrays_say_what_was_expected(variable, value, problem):
    """What is wrong with an array names the shape expected and the one there, or the number."""
    assert variable.problem_with(value) == problem


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        (Tensor((2, 2)), np.array([[0.5, -0.5], [0.0, 1.0]], dtype=np.float32)),
        (Tensor((2, 2)), ((0, 1), (1, 0))),
        (Tensor((3,), dtype="int", low=0, high=9), np.array([1, 2, 3])),
        (Embedding(2, normalised=True), np.array([0.6, 0.8])),
        (Embedding(9, rank=2), np.array([0.5, -0.5])),
    ],
)
def test_arrays_are_taken_as_lists(variable, value):
    """Numpy's arrays and tuples fit as lists do, and become lists that JSON holds."""
    assert variable.problem_with(value) is None
    kept = variable.canonical(value)
    assert json.loads(json.dumps(kept)) == kept
    assert variable.canonical(kept) == kept


VARIABLES = [
    Tensor((2, 3)),
    Tensor((2, 2), dtype="int", low=-3, high=3),
    Tensor((4, 4), rank=3, seed=5),
    Tensor((4, 4), dtype="int", low=0, high=9, rank=2),
    Embedding(5),
    Embedding(5, normalised=True),
    Embedding(40, normalised=True, rank=3),
]


@pytest.mark.parametrize("variable", VARIABLES, ids=repr)
def test_draws_fit_and_resolve_to_the_shape(variable):
    """Draws, the default, grid and neighbours fit; each stands for an array of the shape, within the bounds."""
    rng = random.Random(0)
    for value in [variable.default, *variable.grid(3), *(variable.sample(rng) for _ in range(200))]:
        assert variable.problem_with(value) is None
        array = np.array(variable.resolve(value))
        assert array.shape == variable.shape
        assert variable.low <= array.min() <= array.max() <= variable.high
    near = variable.neighbours(variable.default)
    assert near
    assert {variable.problem_with(each) for each in near} == {None}


@pytest.mark.parametrize("variable", VARIABLES, ids=repr)
def test_what_is_drawn_is_encoded_and_decoded(variable):
    """Values come back from their columns in the unit cube as they were, up to rounding."""
    rng = random.Random(1)
    for value in [variable.sample(rng) for _ in range(100)]:
        places = variable.encode(value)
        assert len(places) == variable.width
        assert all(0 <= place <= 1 for place in places)
        assert np.allclose(variable.decode(places), value, atol=1e-9)


def test_a_subspace_is_small_seeded_and_around_the_default():
    """Its middle is the default, the same seed gives the same arrays, and its dimension is the rank."""
    variable = Embedding(50, rank=2, seed=3, default=[0.25] * 50, low=-9, high=9)
    assert variable.default == [0.0, 0.0]
    assert variable.resolve([0.0, 0.0]) == [0.25] * 50
    rng = random.Random(0)
    moved = (
        np.array([variable.resolve(variable.decode([rng.uniform(0.45, 0.55)] * 2)) for _ in range(9)]) - 0.25
    )
    assert np.linalg.matrix_rank(moved, tol=1e-9) == 1
    assert variable.resolve([0.1, 0.2]) == Embedding(
        50, rank=2, seed=3, default=[0.25] * 50, low=-9, high=9
    ).resolve([0.1, 0.2])
    assert variable.resolve([0.1, 0.2]) != Embedding(50, rank=2, seed=4, low=-9, high=9).resolve([0.1, 0.2])


def test_a_whole_array_is_a_value_of_a_subspace():
    """It resolves to itself, and is encoded as its projection."""
    variable = Tensor((3, 4), rank=2, low=-1, high=1)
    inside = variable.resolve([0.05, -0.02])
    assert variable.resolve(inside) == inside
    assert variable.decode(variable.encode(inside)) == pytest.approx([0.05, -0.02])


def test_small_whole_tensors_are_counted():
    """Whole numbers in a small shape have a number of arrays, and a grid of them all if it is asked for so many."""
    variable = Tensor((1, 2), dtype="int", low=0, high=2)
    assert variable.n_values == 9
    assert len(variable.grid(9)) == 9
    assert variable.grid(9)[1] == [[0, 1]]
    assert variable.grid(8) == [variable.default]
    assert Tensor((1000,), dtype="int", low=0, high=9).n_values == math.inf


def test_normalised_draws_point_everywhere_alike():
    """Directions are drawn uniformly on the sphere: no coordinate, and no diagonal, is favoured."""
    rng = random.Random(0)
    drawn = np.array([Embedding(3, normalised=True).sample(rng) for _ in range(5000)])
    assert np.allclose(np.linalg.norm(drawn, axis=1), 1)
    assert np.abs(drawn.mean(axis=0)).max() < 0.03
    # On a sphere in three dimensions each coordinate is uniform (Archimedes).
    assert np.allclose(np.quantile(drawn, [0.25, 0.5, 0.75], axis=0), [[-0.5], [0], [0.5]], atol=0.04)


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=3), st.sampled_from(["float", "int"]), st.integers(0, 99)
)
def test_any_tensor_is_read_from_its_json(shape, dtype, seed):
    """Whatever the shape, JSON makes the same variable again."""
    variable = Tensor(shape, dtype=dtype, low=-2, high=3, seed=seed)
    said = json.loads(json.dumps(variable.to_dict()))
    assert said.pop("kind") == "tensor"
    assert Tensor.from_dict(said) == variable


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Tensor(()), "a shape is whole numbers >= 1, got ()"),
        (lambda: Tensor((2, 0)), "a shape is whole numbers >= 1, got (2, 0)"),
        (lambda: Tensor((2,), dtype="bool"), "a dtype is float or int, got 'bool'"),
        (lambda: Tensor((2,), dtype="int", low=0.2, high=0.8), "there is no whole number in [0.2, 0.8]"),
        (lambda: Tensor((2,), low=1, high=1), "low must be < high, got low=1, high=1"),
        (
            lambda: Tensor((2,), rank=2),
            "a rank is a whole number from 1 to below the 2 numbers there are, got 2",
        ),
        (
            lambda: Tensor((2, 2), default=[1, 1]),
            "the default must have shape (2, 2), got shape (2,)",
        ),
    ],
)
def test_bad_definitions_are_refused(make, message):
    """What makes no sense is refused when it is written, with the rule and the values."""
    with pytest.raises(VariableError) as caught:
        make()
    assert str(caught.value) == message
