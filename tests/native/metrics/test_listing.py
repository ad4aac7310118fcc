import difflib

import dspy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.native.metrics import edit_similarity, list_f1, set_f1
from dspex.native.metrics.listing import common_length, edits, items_of

SHORT = st.lists(st.sampled_from("abc"), max_size=7)


def score(metric, label, predicted):
    example = dspy.Example(question="?", answer=label).with_inputs("question")
    return metric(example, dspy.Prediction(answer=predicted))


def feedback(metric, label, predicted):
    example = dspy.Example(question="?", answer=label).with_inputs("question")
    return metric(example, dspy.Prediction(answer=predicted), feedback=True).feedback


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (["a", "b"], ["a", "b"]),
        ("a, b; c\nd", ["a", "b", "c", "d"]),
        ('["a, b", 2]', ["a, b", 2]),
        ("[1] and so on", ["[1] and so on"]),
        ("", []),
        (None, []),
        (7, [7]),
        ({"k": 1}, [{"k": 1}]),
    ],
)
def test_lists_are_read(value, expected):
    """Lists as they are, JSON, and texts with something between their items."""
    assert items_of(value) == expected


@pytest.mark.parametrize(
    ("label", "predicted", "expected"),
    [
        (["red", "green"], ["Green", "RED."], 1.0),
        (["red", "green"], ["red", "red"], 2 / 3),  # precision 1, recall 1/2
        (["red", "green", "blue"], "green, pink", 0.4),  # 1 common of 3 and 2
        ([1, 2.5], "1.0, 2.5", 1.0),
        ([1.5], ["15"], 0.0),
        ([], [], 1.0),
        (["red"], [], 0.0),
        ([{"a": 1, "b": 2}], [{"b": 2, "a": 1}], 1.0),
    ],
)
def test_set_f1(label, predicted, expected):
    """Order and repetition make no difference; numbers are equal by value."""
    assert score(set_f1, label, predicted) == pytest.approx(expected)


def test_list_f1_is_rouge_l():
    """The example of Lin (2004), section 3: "police killed the gunman" against two candidates, 3/4 and 2/4."""
    reference = ["police", "killed", "the", "gunman"]
    assert score(list_f1, reference, ["police", "kill", "the", "gunman"]) == pytest.approx(3 / 4)
    # Articles are dropped by `normalize`, but an item that is one keeps its place.
    assert score(list_f1, reference, ["the", "gunman", "kill", "police"]) == pytest.approx(2 / 4)


def test_list_f1_wants_the_order():
    """The same items the other way round share one item in order."""
    assert score(list_f1, ["a1", "b1", "c1"], ["c1", "b1", "a1"]) == pytest.approx(1 / 3)
    assert score(list_f1, [], []) == 1.0
    assert score(list_f1, ["a1"], []) == 0.0


@pytest.mark.parametrize(
    ("label", "predicted", "expected"),
    [
        ("kitten", "sitting", 1 - 3 / 7),  # Levenshtein's textbook pair: 3 edits
        ("saturday", "sunday", 1 - 3 / 8),
        ("Same", "same!", 1.0),
        ("", "", 1.0),
        (["x1", "x2", "x3"], ["x1", "x3"], 1 - 1 / 3),
        (12, "13", 0.5),
    ],
)
def test_edit_similarity(label, predicted, expected):
    """Characters of texts and items of lists are edited."""
    assert score(edit_similarity, label, predicted) == pytest.approx(expected)


@given(SHORT, SHORT, SHORT)
def test_edits_are_a_distance(a, b, c):
    """Zero for equals only, symmetric, and no detour is shorter."""
    assert (edits(a, b) == 0) == (a == b)
    assert edits(a, b) == edits(b, a)
    assert edits(a, c) <= edits(a, b) + edits(b, c)
    assert abs(len(a) - len(b)) <= edits(a, b) <= max(len(a), len(b))


@given(SHORT, SHORT)
def test_common_length_is_at_least_what_difflib_finds(a, b):
    """It is symmetric, bounded by both, and no shorter than the standard library's matching blocks."""
    found = sum(
        block.size for block in difflib.SequenceMatcher(None, a, b, autojunk=False).get_matching_blocks()
    )
    assert found <= common_length(a, b) == common_length(b, a) <= min(len(a), len(b))
    # With insertions and deletions alone, what is not common is edited.
    assert edits(a, b) <= len(a) + len(b) - 2 * common_length(a, b)


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (set_f1, "answer: missing items: 'green'; items too many: 'pink'"),
        (
            list_f1,
            "answer: expected ['red', 'green'], got ['pink', 'red']; missing items: 'green'; items too many: 'pink'",
        ),
        (edit_similarity, "answer: expected ['red', 'green'], got ['pink', 'red']; 2 items differ"),
    ],
)
def test_feedback_names_the_items(metric, expected):
    """What is missing, what is too many, and how many edits there are."""
    assert feedback(metric, ["red", "green"], ["pink", "red"]).splitlines()[1] == expected


def test_feedback_on_order_alone():
    """Where the items are right, the order is named."""
    said = feedback(list_f1, ["red", "green"], ["green", "red"])
    assert said.endswith("the items are right, their order or number is not")
