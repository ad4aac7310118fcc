from dataclasses import dataclass

import dspy
import pydantic
import pytest

from dspex.native.metrics import Difference, differences, json_match


class Order(pydantic.BaseModel):
    item: str
    prices: list[float]


@dataclass
class Line:
    item: str
    prices: list


@pytest.mark.parametrize(
    "got",
    [
        {"item": "tea", "prices": [3, 4.0]},
        '{"prices": [3, 4], "item": "Tea"}',
        'Here it is:\n```json\n{"item": "tea", "prices": [3, 4]}\n```',
        Order(item="tea", prices=[3, 4]),
        Line("tea", [3, 4]),
    ],
)
def test_forms_of_the_same(got):
    """JSON values, JSON texts, fenced JSON, pydantic models and dataclasses are compared as what they hold."""
    assert differences({"item": "Tea", "prices": [3, 4]}, got) == ()


@pytest.mark.parametrize(
    ("expected", "got", "found"),
    [
        ({"a": 1}, {}, [Difference("a", "missing", expected=1), Difference("", "surplus", got={})]),
        ({"a": {"b": 1}}, {"a": {"b": 2}}, [Difference("a.b", "wrong", 1, 2)]),
        ([{"x": 1}, {"x": 2}], [{"x": 1}], [Difference("[1].x", "missing", expected=2)]),
        ({"a": True}, {"a": 1}, [Difference("a", "wrong", True, 1)]),
        ({"a": None}, {"a": "None"}, [Difference("a", "wrong", None, "None")]),
        ({"a": []}, {"a": {}}, [Difference("a", "wrong", [], {})]),
        ({"a": "5"}, {"a": 5}, []),
        ("no JSON", "No JSON!", []),
        (
            {"a": 1},
            "no JSON",
            [Difference("a", "missing", expected=1), Difference("", "surplus", got="no JSON")],
        ),
    ],
)
def test_differences(expected, got, found):
    """Each leaf that is missing, surplus or wrong is named by its path."""
    assert list(differences(expected, got)) == found


def scored(label, predicted, *, feedback=False):
    example = dspy.Example(question="?", answer=label).with_inputs("question")
    return json_match(example, dspy.Prediction(answer=predicted), feedback=feedback)


def test_score_is_the_share_of_equal_leaves():
    """What is missing and what was not asked for both count."""
    assert scored({"a": 1, "b": 2}, {"a": 1, "b": 2}) == 1.0
    assert scored({"a": 1, "b": 2}, {"a": 1, "c": 2}) == pytest.approx(1 / 3)
    assert scored({}, {}) == 1.0


def test_feedback_reports_field_by_field():
    """One line for each leaf that is not right."""
    said = scored({"a": 1, "b": "x", "d": 4}, {"a": 2, "c": 3, "d": 4}, feedback=True).feedback
    assert said == (
        "Partly right: 0.25 of 1.\nanswer: differs in\n  - a: expected 1, got 2\n  - b: missing, expected 'x'\n"
        "  - c: not asked for, got 3"
    )
