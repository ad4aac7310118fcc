import dspy
import pytest
from dspy.evaluate.metrics import EM, F1
from dspy.evaluate.metrics import normalize_text as normalize_as_dspy
from hypothesis import given
from hypothesis import strategies as st

from dspex.errors import DataError, NotSupportedError
from dspex.native.metrics import any_answer, contains, exact_match, matches, normalize, token_f1
from dspex.native.metrics.text import _normalized


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
    assert exact_match(example(**{name: "3"}), bad) is False


@pytest.mark.parametrize("metric", [exact_match, token_f1])
def test_an_example_without_labels_cannot_be_scored(metric):
    """Nothing to compare is an error, not a perfect score."""
    with pytest.raises(DataError, match="this example has only inputs"):
        metric(example(), dspy.Prediction(answer="x"))


# ── reference values ────────────────────────────────────────────────────────────────────────────


# The examples of the SQuAD metric card (huggingface/datasets, metrics/squad/README.md), which wraps the official
# evaluate-v1.1.py; the scores there are means in per cent: 100, 0 and 66.67 for both metrics.
@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([("1976", "1976")], 1.0),
        ([("1976", "1999")], 0.0),
        (
            [("1976", "1976"), ("Beyoncé and Bruno Mars", "Beyonce"), ("climate change", "climate change")],
            2 / 3,
        ),
    ],
)
@pytest.mark.parametrize("metric", [any_answer(exact_match), any_answer(token_f1)])
def test_squads_published_examples(metric, pairs, expected):
    """The metric card's examples get the metric card's scores."""
    scores = [metric(example(answer=[label]), dspy.Prediction(answer=answer)) for label, answer in pairs]
    assert sum(scores) / len(scores) == pytest.approx(expected)


WORDS = st.lists(
    st.sampled_from(
        ["the", "a", "An", "cat", "CAT!", "dog", "d.o.g", "7", "it's", "ΟΔΟΣ", "ß", "\t", "-", "them"]
    )
).map(" ".join)
TEXTS = WORDS | st.text()


def composed(text):
    """Whether DSPy's Unicode decomposition leaves a text as it is."""
    import unicodedata

    return unicodedata.normalize("NFD", text) == text


@given(TEXTS, TEXTS)
def test_equal_to_dspys_own(label, predicted):
    """On texts that Unicode decomposition leaves alone, EM is DSPy's, and so is F1 where a word is left."""
    if not (composed(label) and composed(predicted)):
        return
    made, got = example(answer=label), dspy.Prediction(answer=predicted)
    assert normalize(label) == normalize_as_dspy(label)
    assert exact_match(made, got) == EM(predicted, [label])
    if normalize(label) or normalize(predicted):
        assert token_f1(made, got) == pytest.approx(F1(predicted, [label]))


def test_where_dspys_own_differ(capsys):
    """DSPy folds composed and decomposed letters together, and calls two empty texts no overlap; SQuAD neither."""
    in_one, in_two = "caf\u00e9", "cafe\u0301"
    assert EM(in_two, [in_one])
    assert not exact_match(example(answer=in_one), dspy.Prediction(answer=in_two))
    assert F1("the", ["a"]) == 0
    assert token_f1(example(answer="a"), dspy.Prediction(answer="the")) == 1.0
    capsys.readouterr()  # DSPy prints a remark about the empty texts


@given(st.lists(TEXTS, min_size=1))
def test_normalized_together_as_alone(texts):
    """Many texts in one pass come out as each alone, final sigmas and articles at their ends included."""
    if any("\0" in text for text in texts):
        with pytest.raises(NotSupportedError, match="the character that separates texts"):
            _normalized(texts)
    else:
        assert _normalized(texts) == [normalize(text) for text in texts]


# ── contains, matches ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("label", "predicted", "expected"),
    [
        ("Denver Broncos", "It was the Denver Broncos, I think.", True),
        ("Denver Broncos", "Broncos from Denver", False),
        ("cat", "a category of its own", False),
        (7, "on February 7", True),
        ("the", "anything", True),
        ("cat", "", False),
    ],
)
def test_contains(label, predicted, expected):
    """The label's words must stand in a row; parts of words do not count, and no word is always there."""
    assert contains(example(answer=label), dspy.Prediction(answer=predicted)) is expected


def test_matches_looks_at_the_prediction_only():
    """The example may be of any kind; a missing field and a text without the pattern are wrong, in words."""
    dated = matches(r"\d{4}", field="date")
    assert dated.__name__ == r"date_matches_\d{4}"
    assert dated(None, {"date": 2024}) is True
    assert dated(None, {"date": "in 2024"}, feedback=True).feedback == "Right.\ndate: right"
    assert dated(None, {"date": "today"}, feedback=True).feedback == (
        "Wrong.\ndate: nothing in 'today' matches the pattern \\d{4}"
    )
    assert dated(None, {}, feedback=True).feedback == "Wrong.\ndate: the prediction has no such field"


def test_a_broken_pattern_is_said_at_once():
    """A regular expression that cannot be read never reaches a study."""
    with pytest.raises(DataError, match="is no regular expression: unterminated"):
        matches("[a", field="x")


# ── feedback ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("metric", "label", "predicted", "expected"),
    [
        (exact_match, "Paris", "paris", "Right.\nanswer: right"),
        (exact_match, "Paris", "Oslo", "Wrong.\nanswer: expected 'Paris', got 'Oslo'"),
        (
            token_f1,
            "the big cat",
            "big big dog",
            (
                "Partly right: 0.40 of 1.\nanswer: expected 'the big cat', got 'big big dog'; "
                "missing words: cat; words too many: big, dog"
            ),
        ),
        (contains, "cat", "dogs", "Wrong.\nanswer: expected a text that contains 'cat', got 'dogs'"),
    ],
)
def test_feedback_says_what_is_wrong(metric, label, predicted, expected):
    """Which field, what was expected, what came, and which words make the difference."""
    found = metric(example(answer=label), dspy.Prediction(answer=predicted), feedback=True)
    assert found.feedback == expected
