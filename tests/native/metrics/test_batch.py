import logging
import math
from itertools import combinations

import dspy
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.errors import DataError
from dspex.native.metrics import accuracy, exact_match, pass_at_k, score_all, token_f1, within
from dspex.native.metrics.batch import scored

VALUES = (
    st.sampled_from(["the cat", "Cat!", "a dog", "", "x\0y", "ΟΔΟΣ", 3, 3.0, "3", None, True, ["x"]])
    | st.text()
)
PAIRS = st.lists(st.tuples(VALUES, VALUES, st.booleans()), max_size=6)


def pair(label, predicted, lacks=False):
    example = dspy.Example(question="?", answer=label, kind="k").with_inputs("question")
    return example, dspy.Prediction(kind="K") if lacks else dspy.Prediction(answer=predicted, kind="K")


@given(PAIRS)
@pytest.mark.parametrize(
    "metric", [exact_match, token_f1, exact_match.on("answer"), token_f1.on("answer", "kind")]
)
def test_together_as_one_by_one(metric, pairs):
    """Whatever labels and predictions are, scoring many gives what scoring each gives."""
    made = [pair(*each) for each in pairs]
    found = score_all(metric, [each[0] for each in made], [each[1] for each in made])
    assert found.dtype == np.float64
    assert found.tolist() == [metric(*each) for each in made]


def test_texts_are_scored_at_once_and_the_rest_visibly_not():
    """The fast way is taken for texts; why it was not is counted."""
    texts, numbers = pair("a cat", "cat"), pair(3, "3")
    before = dict(scored.fallbacks)
    assert score_all(exact_match, [texts[0]] * 2, [texts[1]] * 2).tolist() == [1.0, 1.0]
    assert scored.fallbacks == before
    score_all(exact_match, [numbers[0]], [numbers[1]])
    score_all(within(1, field="answer"), [numbers[0]], [numbers[1]])
    more = {reason: count - before.get(reason, 0) for reason, count in scored.fallbacks.items()}
    assert more["a label or a prediction is no text"] == 1
    assert more["the metric has no form for many texts at once"] == 1


def test_what_cannot_be_scored_is_zero_and_said(caplog):
    """A metric that raises, and a program that gave nothing, are data points."""
    example, prediction = pair("a", "a")
    with caplog.at_level(logging.WARNING, "dspex"):
        assert score_all(exact_match, [example, example], [prediction, None]).tolist() == [1.0, 0.0]
    assert caplog.messages == [
        "1 of 2 could not be scored and count 0: AttributeError: 'NoneType' object has no attribute 'get'"
    ]


def test_equally_many_are_wanted():
    """A prediction too many is no data point but a mistake."""
    example, prediction = pair("a", "a")
    with pytest.raises(DataError, match="must be equally many, got 1 and 2"):
        score_all(exact_match, [example], [prediction, prediction])


def test_accuracy_is_the_share_that_is_right():
    """By exact match unless another metric is given; nothing has no accuracy."""
    pairs = [pair("a1", "a1"), pair("a1", "b1"), pair("a1 b1", "b1")]
    examples, predictions = zip(*pairs, strict=True)
    assert accuracy(examples, predictions) == pytest.approx(1 / 3)
    assert accuracy(examples, predictions, token_f1.on("answer")) == pytest.approx((1 + 0 + 2 / 3) / 3)
    assert score_all(exact_match, [], []).shape == (0,)
    with pytest.raises(DataError, match="at least one example"):
        accuracy([], [])


# The first rows are the examples of the code_eval metric card (huggingface/datasets, metrics/code_eval/README.md).
@pytest.mark.parametrize(
    ("samples", "correct", "k", "expected"),
    [(1, 1, 1, 1.0), (1, 0, 1, 0.0), (2, 1, 1, 0.5), (2, 1, 2, 1.0), (200, 1, 100, 0.5), (10, 9, 2, 1.0)],
)
def test_pass_at_k_of_published_examples(samples, correct, k, expected):
    """The metric card's examples, and those one sees at a glance."""
    assert pass_at_k(samples, correct, k) == expected


@given(st.integers(1, 200), st.data())
def test_pass_at_k_is_the_papers_product(samples, data):
    """The estimator as Chen et al. (2021) compute it: 1 - prod(1 - k / (n - c + 1 ... n))."""
    correct, k = data.draw(st.integers(0, samples)), data.draw(st.integers(1, samples))
    product = (
        0.0
        if samples - correct < k
        else math.prod(1 - k / each for each in range(samples - correct + 1, samples + 1))
    )
    assert pass_at_k(samples, correct, k) == pytest.approx(1 - product, abs=1e-12)


@given(st.integers(1, 6), st.data())
def test_pass_at_k_is_the_share_of_drawings_that_pass(samples, data):
    """Counting all drawings of k answers gives the same."""
    correct, k = data.draw(st.integers(0, samples)), data.draw(st.integers(1, samples))
    drawings = [min(drawn) < correct for drawn in combinations(range(samples), k)]
    assert pass_at_k(samples, correct, k) == pytest.approx(sum(drawings) / len(drawings))


@pytest.mark.parametrize(
    ("samples", "correct", "k"), [(5, 1, 0), (5, 1, 6), (5, 6, 1), (5, -1, 1), (0, 0, 1)]
)
def test_pass_at_k_is_checked(samples, correct, k):
    """One cannot draw more answers than there are."""
    with pytest.raises(DataError, match="1 <= k <= samples"):
        pass_at_k(samples, correct, k)
