import random
from collections import Counter

import pytest

from dspex.errors import VariableError
from dspex.variables.choice import Bool, Choice

CHI_SQUARE_99 = {2: 9.21, 3: 11.345}
"""What a chi-square statistic exceeds with a chance of 1 %, by degrees of freedom."""


def answer_briefly(question):
    return question


@pytest.mark.parametrize("weights", [[5, 3, 2], {"a": 5, "c": 2, "b": 3}])
def test_draws_match_the_weights(weights):
    """10 000 draws fit the weights by a chi-square test at 1 %, however they are given."""
    variable, rng = Choice(["a", "b", "c"], weights=weights), random.Random(0)
    counts = Counter(variable.sample(rng) for _ in range(10_000))
    expected = {"a": 5000, "b": 3000, "c": 2000}
    statistic = sum((counts[label] - n) ** 2 / n for label, n in expected.items())
    assert statistic < CHI_SQUARE_99[2]


def test_what_weighs_nothing_is_never_drawn():
    """An option of weight 0 is a value, but not drawn."""
    variable, rng = Choice(["a", "b", "c"], weights=[1, 1, 0]), random.Random(0)
    assert {variable.sample(rng) for _ in range(1000)} == {"a", "b"}
    assert variable.problem_with("c") is None


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1, 2], "weights must be as many as the 3 options, got 2"),
        ([1, 2, -1], "weights must be numbers >= 0 and not all 0, got [1, 2, -1]"),
        ([0, 0, 0], "weights must be numbers >= 0 and not all 0, got [0, 0, 0]"),
        ({"a": 1, "z": 1}, "a weight is given for what is no option: 'z'"),
    ],
)
def test_bad_weights_are_refused(weights, message):
    """Weights that do not fit the options are refused with the rule and the values."""
    with pytest.raises(VariableError) as caught:
        Choice(["a", "b", "c"], weights=weights)
    assert str(caught.value) == message


def test_labels_have_a_bin_each():
    """The unit interval is cut into equal parts, whatever the weights, and each label sits in the middle of its."""
    variable = Choice(["a", "b", "c", None], weights=[9, 1, 1, 1])
    assert [variable.encode(label) for label in variable.options] == [0.125, 0.375, 0.625, 0.875]
    assert [variable.decode(k / 8) for k in range(9)] == ["a", "a", "b", "b", "c", "c", None, None, None]
    assert (variable.decode(-0.1), variable.decode(1.1)) == ("a", None)


def test_order_matters_where_it_is_said():
    """An ordered choice has only the next options near, and its position as a feature."""
    sizes = ["small", "medium", "large"]
    plain, ordered = Choice(sizes), Choice(sizes, ordered=True)
    assert plain.neighbours("small") == ["medium", "large"]
    assert ordered.neighbours("small") == ["medium"]
    assert ordered.neighbours("medium") == ["small", "large"]
    assert (plain.scale, ordered.scale) == ("categorical", "ordered")
    assert (plain.features("medium"), ordered.features("medium")) == ({}, {"position": 0.5})
    assert plain != ordered


def test_classes_and_functions_go_by_their_names():
    """Whatever has a stable name is its own label; a lambda has none."""
    variable = Choice([answer_briefly, dict])
    assert variable.options == {"answer_briefly": answer_briefly, "dict": dict}
    with pytest.raises(VariableError, match="needs a label"):
        Choice([lambda question: question])


def test_truth_values_halve_the_unit_interval():
    """False is its lower half, and each is the other's neighbour."""
    variable = Bool(default=True)
    assert [variable.decode(place) for place in (0.0, 0.49, 0.5, 1.0)] == [False, False, True, True]
    assert [variable.decode(variable.encode(value)) for value in (False, True)] == [False, True]
    assert variable.neighbours(True) == [False]
    assert repr(variable.given(a=1)) == "Bool(default=True).given(a=1)"
