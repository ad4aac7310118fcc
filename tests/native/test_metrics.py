import dspy
import pytest

from dspex.errors import DataError
from dspex.native.metrics import exact_match, normalize, token_f1, within


def example(**labels):
    return dspy.Example(question="?", **labels).with_inputs("question")


# Worked through with the definition in SQuAD's evaluation script (`evaluate-v1.1.py`: normalize_answer, f1_score,
# exact_match_score; Rajpurkar et al. 2016). The first rows are its documented behaviour: lower case, no
# punctuation, no articles, single spaces.
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The  Eiffel Tower!", "eiffel tower"),
        ("a cat, an owl and the dog.", "cat owl and dog"),
        ("  \tA\n", ""),
        ("U.S.A.", "usa"),
        ("anthem theory", "anthem theory"),
        ("it's", "its"),
        ("Über-Straße", "überstraße"),
        ("1,000.5", "10005"),
        (42, "42"),
        (None, "none"),
    ],
)
def test_normalized_as_squad_does(text, expected):
    """Case, punctuation, articles and spaces make no difference; articles within words stay."""
    assert normalize(text) == expected


@pytest.mark.parametrize(
    ("label", "predicted", "expected"),
    [
        ("Denver Broncos", "The Denver Broncos!", 1.0),
        ("Denver Broncos", "Broncos", 2 / 3),  # precision 1, recall 1/2
        ("Santa Clara, California", "Levi's Stadium in Santa Clara", 0.5),  # 2 common of 5 and 3
        ("the cat", "cat cat", 2 / 3),  # a multiset: one cat of two counts
        ("to be or not to be", "to be", 0.5),  # precision 1, recall 1/3
        ("Denver", "Carolina", 0.0),
        ("the", "", 1.0),  # nothing is left on either side
        ("the", "cat", 0.0),
        ("cat", "", 0.0),
    ],
)
def test_token_f1_as_squad_does(label, predicted, expected):
    """Words are compared as multisets after normalising."""
    assert token_f1(example(answer=label), dspy.Prediction(answer=predicted)) == pytest.approx(expected)


def test_f1_is_averaged_over_the_labels():
    """Two labels, one right: half."""
    assert token_f1(example(a="x", b="y"), dspy.Prediction(a="x", b="z")) == 0.5


def test_f1_of_a_missing_field_is_zero():
    """A field that the prediction lacks overlaps with nothing."""
    assert token_f1(example(answer="none at all"), dspy.Prediction(other="x")) == 0.0


@pytest.mark.parametrize(
    ("label", "predicted", "expected"),
    [
        ("Paris", "paris.", True),
        ("Paris", "Paris, France", False),
        (5, 5.0, True),
        (5, "5", True),
        (5, "5.0", True),
        (5, "6", False),
        (0.1 + 0.2, 0.1 + 0.2, True),
        (1.5, "15", False),
        (50, "5.0", False),
        ("15", 1.5, False),
        (-3, "3", False),
        (True, True, True),
        (True, "true", True),
        (False, True, False),
        (["x", "y"], ["x", "y"], True),
        (["x", "y"], ["y", "x"], False),
        (None, None, True),
    ],
)
def test_exact_match(label, predicted, expected):
    """Numbers are compared by value, the rest after normalising."""
    assert exact_match(example(answer=label), dspy.Prediction(answer=predicted)) is expected


def test_exact_match_wants_every_label():
    """One wrong field of two is wrong; what the prediction holds beside the labels does not matter."""
    assert exact_match(example(a="x", b="y"), dspy.Prediction(a="X", b="y", reasoning="so")) is True
    assert exact_match(example(a="x", b="y"), dspy.Prediction(a="x", b="z")) is False


@pytest.mark.parametrize("label", ["Paris", "None", 0, ""])
def test_exact_match_of_a_missing_field_is_wrong(label):
    """A field that the prediction lacks is never right, not even where the label says "None"."""
    assert exact_match(example(answer=label), dspy.Prediction(other="x")) is False


@pytest.mark.parametrize("name", ["items", "keys", "values", "get"])
def test_fields_named_like_methods(name):
    """A field may have the name of one of the prediction's own methods."""
    good, bad = dspy.Prediction(**{name: "3"}), dspy.Prediction(**{name: "4"})
    assert exact_match(example(**{name: "3"}), good) is True
    assert token_f1(example(**{name: "3"}), good) == 1.0
    assert within(0, field=name)(example(**{name: 3}), good) is True
    assert exact_match(example(**{name: "3"}), bad) is False


@pytest.mark.parametrize("metric", [exact_match, token_f1])
def test_an_example_without_labels_cannot_be_scored(metric):
    """Nothing to compare is an error, not a perfect score."""
    with pytest.raises(DataError, match="this example has only inputs"):
        metric(example(), dspy.Prediction(answer="x"))


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


@pytest.mark.parametrize("metric", [exact_match, token_f1, within(1, field="answer")])
def test_metrics_follow_dspys_protocol(metric):
    """DSPy calls a metric with a trace as its third argument."""
    assert metric(example(answer="1"), dspy.Prediction(answer="1"), []) == 1
