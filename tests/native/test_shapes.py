from typing import Annotated

import numpy as np
import pydantic
import pytest

from dspex.native.shapes import Shape


class Torch:
    """What a torch tensor looks like from outside."""

    def __init__(self, values, dtype="torch.float32"):
        self.array, self.dtype = np.array(values), dtype
        self.shape = self.array.shape

    def tolist(self):
        return self.array.tolist()


@pytest.mark.parametrize(
    ("shape", "value"),
    [
        (Shape((3,)), [1, 2.5, 3]),
        (Shape((3,)), (1, 2, 3)),
        (Shape((3,)), np.zeros(3)),
        (Shape((3,)), np.zeros(3, dtype=np.float16)),
        (Shape((3,)), np.arange(3)),
        (Shape((2, 2)), [np.zeros(2), [1, 2]]),
        (Shape((2, 2)), Torch([[1.0, 2], [3, 4]])),
        (Shape((2, 2)), Torch([[1.0, 2], [3, 4]], "torch.bfloat16")),
        (Shape((2, None)), np.zeros((2, 9))),
        (Shape((None,)), []),
        (Shape((2,), "int"), np.array([1, 2])),
        (Shape((2,), "int"), [np.int64(1), 2]),
    ],
)
def test_fitting_arrays_pass(shape, value):
    """Lists, numpy's arrays and torch's tensors pass when shape and kind are right."""
    assert shape.check(value) == ()


@pytest.mark.parametrize(
    ("shape", "value", "messages"),
    [
        (Shape((3,)), np.zeros(4), ["expected embedding(3), got shape (4,)"]),
        (Shape((3,)), [1, 2], ["expected embedding(3), got shape (2,)"]),
        (Shape((3,)), [], ["expected embedding(3), got shape (0,)"]),
        (Shape((3, 4)), np.zeros((4, 3)), ["expected tensor(3, 4), got shape (4, 3)"]),
        (Shape((2, 2)), np.zeros(4), ["expected tensor(2, 2), got shape (4,)"]),
        (Shape((2, 2)), Torch([1.0, 2]), ["expected tensor(2, 2), got shape (2,)"]),
        (
            Shape((2, 2), "int"),
            Torch([[1.0, 2], [3, 4]]),
            ["expected tensor(2, 2, int), got dtype float32; give numbers: .astype(int)"],
        ),
        (
            Shape((2,)),
            np.array([True, False]),
            ["expected embedding(2), got dtype bool; give numbers: .astype(float)"],
        ),
        (
            Shape((2, 2, 2)),
            [[[1, 2], [3]], [[1, 2], [3, "4"]]],
            [
                "[0][1]: expected tensor(2, 2, 2), got a ragged list: 1 here, 2 at [0][0]",
                "[1][1][1]: expected a number, got '4' (str)",
            ],
        ),
        (Shape((2,), "int"), [1, 2.0], ["[1]: expected an int, got 2.0 (float)"]),
        (Shape((2,)), [1, True], ["[1]: expected a number, got True (bool)"]),
        (Shape((2, 2)), [1, 2], ["[0]: expected a list, got 1 (int)", "[1]: expected a list, got 2 (int)"]),
        (
            Shape((2,)),
            [[1], [2]],
            ["[0]: expected a number, got [1] (list)", "[1]: expected a number, got [2] (list)"],
        ),
        (
            Shape((2,)),
            "ab",
            ["expected embedding(2), got 'ab' (str); give a list, a numpy array or a torch tensor"],
        ),
    ],
)
def test_what_does_not_fit_is_named(shape, value, messages):
    """Expected and actual shape or kind are in the message; ragged lists and entries that are no numbers by path."""
    assert [failure.text for failure in shape.check(value)] == messages


def test_pydantic_checks_shapes_and_takes_arrays():
    """Where it annotates a type, pydantic gives lists for arrays, refuses other shapes, and tells models the sizes."""
    shape = Shape((2, 3))
    adapter = pydantic.TypeAdapter(Annotated[shape.annotation, shape])
    assert adapter.validate_python(np.ones((2, 3))) == [[1.0] * 3] * 2
    with pytest.raises(pydantic.ValidationError, match=r"expected tensor\(2, 3\), got shape \(3, 2\)"):
        adapter.validate_python(np.ones((3, 2)))
    assert adapter.json_schema() == {
        "type": "array",
        "minItems": 2,
        "maxItems": 2,
        "items": {"type": "array", "minItems": 3, "maxItems": 3, "items": {"type": "number"}},
    }
