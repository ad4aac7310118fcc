"""Parting examples, and metrics that remember since when they hold."""

from __future__ import annotations

import dspy
import pytest

from dspex.bridge.identity import key_of_function
from dspex.errors import DataError
from dspex.optimizers.promotion import Since, halves, without


def numbered(*numbers):
    return [dspy.Example(number=each, answer="x").with_inputs("number") for each in numbers]


def test_halves_share_nothing():
    """Every example is in one half, and one seed parts them the same way."""
    examples = numbered(*range(9))
    searched, checked = halves(examples, seed=1)
    assert (len(searched), len(checked)) == (4, 5)
    assert {each.number for each in searched + checked} == set(range(9))
    assert (searched, checked) == halves(examples, seed=1)
    assert (searched, checked) != halves(examples, seed=2)


def test_too_few_examples_are_refused():
    """Three examples cannot be searched and checked."""
    with pytest.raises(DataError, match="the trainset has 3"):
        halves(numbered(1, 2, 3), seed=0)


def test_without_leaves_out_what_is_known_and_what_comes_twice():
    """Examples are the same when their content is."""
    assert without(numbered(1, 2, 2, 3), numbered(3)) == numbered(1, 2)


def test_a_metric_is_another_one_later():
    """It scores alike and has another key, so that old rows are not taken for new ones."""

    def right(example, prediction, trace=None):
        return example == prediction

    first, second = Since(right, "one"), Since(right, "two")
    assert first(1, 1) is second(1, 1) is True
    assert first(1, 2, trace=None) is False
    assert key_of_function(first) == key_of_function(Since(right, "one"))
    assert key_of_function(first) != key_of_function(second)
    assert first.__name__ == "right"
