import dspy
import pytest

from dspex.errors import DataError, UnknownNameError
from dspex.native.metrics import within


def example(**labels):
    return dspy.Example(question="?", **labels).with_inputs("question")


@pytest.mark.parametrize(
    ("label", "predicted", "expected"),
    [
        (10, 10.5, True),
        (10, 10.51, False),
        (10, "9.5", True),
        ("10", 10, True),
        (10, "ten", False),
        (10, None, False),
        (10, float("nan"), False),
        (10, [10], False),
    ],
)
def test_within(label, predicted, expected):
    """A number, or a text that reads as one, is right within the tolerance, ends included."""
    assert within(0.5, field="answer")(example(answer=label), dspy.Prediction(answer=predicted)) is expected


def test_within_names_itself():
    """The metric's name says field and tolerance, as tables show it."""
    assert within(0.5, field="price").__name__ == "price_within_0.5"


def test_within_of_a_missing_field_is_wrong():
    """A prediction without the field is wrong; it is no crash."""
    assert within(0.5, field="answer")(example(answer=1), dspy.Prediction(other=1)) is False


@pytest.mark.parametrize("name", ["items", "keys", "values", "get"])
def test_fields_named_like_methods(name):
    """A field may have the name of one of the prediction's own methods."""
    assert within(0, field=name)(example(**{name: 3}), dspy.Prediction(**{name: "3"})) is True


@pytest.mark.parametrize(
    ("label", "predicted", "expected"),
    [
        (200, 210, True),
        (200, 211, False),
        (-200, "-190", True),
        (0, 0.4, True),  # 5 % of nothing is nothing: the absolute allowance counts
        (0, 0.6, False),
        (10**400, 1, False),  # too large for a float is no number to be near to
    ],
)
def test_the_larger_allowance_counts(label, predicted, expected):
    """A share of the label, or the absolute tolerance, whichever allows more."""
    metric = within(0.5, relative=0.05, field="answer")
    assert metric(example(answer=label), dspy.Prediction(answer=predicted)) is expected


def test_names_tell_tolerances_apart():
    """A study's identity holds the metric's name, so two tolerances have two names."""
    assert within(0.5, relative=0.05).__qualname__ == "within_0.5_or_5%"
    assert within(2).__qualname__ == "within_2"


def test_without_a_field_every_label_is_compared():
    """Each label must be near enough."""
    metric = within(1)
    assert metric(example(a=1, b=5), dspy.Prediction(a=2, b=5)) is True
    assert metric(example(a=1, b=5), dspy.Prediction(a=2, b=7)) is False


@pytest.mark.parametrize("tolerance", [-1, float("nan"), "1", None, True])
def test_a_tolerance_is_a_number(tolerance):
    """What could never be met, or compared, is refused."""
    with pytest.raises(DataError, match="tolerance must be a number >= 0"):
        within(tolerance, field="answer")


def test_an_unknown_label_names_the_nearest():
    """A misspelt field is an error of the definition, with the name that was meant."""
    with pytest.raises(UnknownNameError, match="unknown label 'prise'; known: price, question"):
        within(1, field="prise")(example(price=3), dspy.Prediction(prise=3))


@pytest.mark.parametrize(
    ("label", "predicted", "expected"),
    [
        (10, 12, "answer: expected 10, got 12: off by 2, at most 1 is allowed"),
        (10, "ten", "answer: expected a number near 10, got 'ten'"),
        ("ten", 10, "answer: the label 'ten' is no number"),
    ],
)
def test_feedback_says_how_far_off(label, predicted, expected):
    """The distance and the allowance, or what is no number."""
    metric = within(1, field="answer")
    found = metric(example(answer=label), dspy.Prediction(answer=predicted), feedback=True)
    assert found.feedback == f"Wrong.\n{expected}"
