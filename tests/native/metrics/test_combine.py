import dspy
import pytest

from dspex.errors import DataError
from dspex.native.metrics import (
    all_of,
    any_answer,
    any_of,
    exact_match,
    json_match,
    matches,
    metric,
    not_,
    threshold,
    token_f1,
    weighted,
    within,
)

EXAMPLE = dspy.Example(question="?", answer="Denver Broncos").with_inputs("question")
HALF = dspy.Prediction(answer="Broncos")  # token F1 2/3, exact match wrong
WHOLE = dspy.Prediction(answer="The Denver Broncos")


@metric
def never(example, prediction):
    raise AssertionError("it is not to be asked")


def test_weights_need_not_add_up():
    """The score is the weighted mean, and the name says the shares."""
    mixed = weighted({exact_match: 1, token_f1: 3})
    assert mixed(EXAMPLE, HALF) == pytest.approx(0.5)
    assert mixed(EXAMPLE, WHOLE) == 1.0
    assert mixed.__name__ == "0.25*exact_match + 0.75*token_f1"


def test_plain_functions_are_parts_too():
    """A function of the user's own is weighed like one of ours."""

    def brief(example, prediction):
        return len(prediction.answer) < 10

    assert weighted({exact_match: 1, brief: 1})(EXAMPLE, HALF) == 0.5


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({exact_match: -1}, "a weight must be a number >= 0, exact_match has -1"),
        ({exact_match: "1"}, "a weight must be a number"),
        ({exact_match: float("inf")}, "a weight must be a number"),
        ({exact_match: 0}, "must add up to more than 0"),
        ({}, "must add up to more than 0"),
    ],
)
def test_weights_are_checked(weights, message):
    """What cannot be a mean is refused."""
    with pytest.raises(DataError, match=message):
        weighted(weights)


def test_all_of_and_any_of():
    """Of right and wrong they are "and" and "or", of numbers the lowest and the highest."""
    assert all_of(exact_match, token_f1)(EXAMPLE, WHOLE) is True
    assert all_of(token_f1, exact_match)(EXAMPLE, HALF) is False
    assert any_of(exact_match, token_f1)(EXAMPLE, HALF) == pytest.approx(2 / 3)
    assert any_of(exact_match, matches("x", field="answer"))(EXAMPLE, HALF) is False


def test_no_more_is_asked_than_needed():
    """Once the outcome is certain, the rest is spared: a judge behind it costs nothing."""
    assert any_of(exact_match, never)(EXAMPLE, WHOLE) is True
    assert all_of(exact_match, never)(EXAMPLE, HALF) is False
    assert any_of(exact_match, never)(EXAMPLE, WHOLE, None, "predict", None).score == 1.0


def test_not_and_threshold():
    """Wrong becomes right, a share becomes what is left of 1, and a bound makes a number right or wrong."""
    assert not_(exact_match)(EXAMPLE, HALF) is True
    assert not_(token_f1)(EXAMPLE, HALF) == pytest.approx(1 / 3)
    assert threshold(token_f1, 0.6)(EXAMPLE, HALF) is True
    assert threshold(token_f1, 0.7)(EXAMPLE, HALF) is False
    assert threshold(token_f1, 0.7).__name__ == "token_f1_at_least_0.7"


def test_feedback_of_every_part_is_kept():
    """The parts' words stand one below the other."""
    said = weighted({exact_match: 1, token_f1: 1})(EXAMPLE, HALF, feedback=True)
    assert said.score == pytest.approx(1 / 3)
    assert said.feedback.splitlines() == [
        "Partly right: 0.33 of 1.",
        "0.5*exact_match + 0.5*token_f1 looks at:",
        "exact_match: Wrong.",
        "answer: expected 'Denver Broncos', got 'Broncos'",
        "token_f1: Partly right: 0.67 of 1.",
        "answer: expected 'Denver Broncos', got 'Broncos'; missing words: denver",
    ]


@pytest.mark.parametrize(
    ("inner", "label", "predicted", "expected"),
    [
        (exact_match, ["Denver Broncos", "Broncos"], "broncos", True),
        (exact_match, ["Denver Broncos"], "broncos", False),
        (exact_match, "a text, not a list", "a text not a list", True),
        (exact_match, [], "x", False),
        (token_f1, ["Denver Broncos", "the Broncos team"], "Denver", 2 / 3),
        (within(1), [3, 10], 9.5, True),
    ],
)
def test_any_answer(inner, label, predicted, expected):
    """The best of several right answers counts."""
    example = dspy.Example(question="?", answer=label).with_inputs("question")
    assert any_answer(inner)(example, dspy.Prediction(answer=predicted)) == pytest.approx(expected)


def test_any_answer_says_which_there_were():
    """All answers that would have been right are named."""
    example = dspy.Example(question="?", answer=["x1", "x2"]).with_inputs("question")
    said = any_answer(exact_match)(example, dspy.Prediction(answer="y"), feedback=True).feedback
    assert said == "Wrong.\nanswer: expected one of 'x1', 'x2', got 'y'"


def test_parts_are_checked():
    """No part, no metric, and what compares no labels are refused."""
    with pytest.raises(DataError, match="needs at least one metric"):
        all_of()
    with pytest.raises(DataError, match="a metric must be callable"):
        not_("exact_match")
    with pytest.raises(DataError, match="any_answer needs a metric that compares labels"):
        any_answer(not_(json_match))
    with pytest.raises(DataError, match="at_least must be a number"):
        threshold(token_f1, "high")
