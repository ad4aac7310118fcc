import itertools

import dspy
import pytest

from dspex import sandbox
from dspex.errors import UnknownNameError
from dspex.sandbox import triage
from dspex.sandbox.families import FAMILIES, recognise

NAMES = ("triage", "arithmetic", "extraction")


@pytest.mark.parametrize("name", NAMES)
def test_splits_are_large_enough_and_disjoint(name):
    """Each split has at least 200 examples, and no example comes twice."""
    task = sandbox.task(name)
    splits = [task.train, task.dev, task.test]
    keys = [tuple(example.inputs().toDict().items()) for split in splits for example in split]
    assert min(map(len, splits)) >= 200
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("name", NAMES)
def test_seed_decides_the_examples(name):
    """The same seed draws the same examples, and another one draws others."""
    first, again, other = sandbox.task(name), sandbox.task(name), sandbox.task(name, seed=1)
    assert first.dev == again.dev
    assert first.dev != other.dev


@pytest.mark.parametrize("name", NAMES)
def test_solver_understands_every_generated_example(name):
    """The solver gives the label of every example, and no wrong answer equals the right one."""
    task, family = sandbox.task(name), FAMILIES[name]
    for example in itertools.chain(task.train, task.dev, task.test):
        item = recognise(example.inputs().toDict())
        assert item is not None
        assert item.family == name
        assert item.answer == example[family.output]
        assert all(need.slip != item.answer for need in item.needs)


def test_triage_shows_every_rule_in_twelve_messages():
    """Any twelve messages in a row show each of the eight house rules once."""
    needed = [
        recognise({"message": example.message}).needs[1:] for example in sandbox.task("triage").train[:12]
    ]
    rules = [needs[0].skill for needs in needed if needs]
    assert sorted(rules) == sorted({*triage._RULED, *triage._ADDED})


@pytest.mark.parametrize(
    ("message", "label"),
    [
        ("I want a refund of $40 for a broken promise.", "refund"),
        ("I want a refund of $900 for the sofa!", "escalation"),
        ("My lawyer will ask about the invoice.", "escalation"),
        ("The parcel came with a cracked vase.", "refund"),
        ("My account is locked: no password reset link arrives.", "technical"),
    ],
)
def test_solver_understands_what_people_type(message, label):
    """Texts that nobody generated are labelled by the same rules."""
    assert recognise({"message": message}).answer == label


def test_arithmetic_answers_are_whole_and_not_negative():
    """No word problem ends below zero."""
    assert all(
        isinstance(example.answer, int) and example.answer >= 0 for example in sandbox.task("arithmetic").dev
    )


def test_metric_compares_texts_and_numbers():
    """A number is right however it was typed, and a label up to blanks around it."""
    arithmetic, triage_task = sandbox.task("arithmetic"), sandbox.task("triage")
    assert arithmetic.metric(dspy.Example(answer=12), dspy.Prediction(answer=12.0))
    assert arithmetic.metric(dspy.Example(answer=12), dspy.Prediction(answer="12"))
    assert not arithmetic.metric(dspy.Example(answer=12), dspy.Prediction(answer=13))
    assert triage_task.metric(dspy.Example(label="refund"), dspy.Prediction(label="refund "))
    assert not triage_task.metric(dspy.Example(label="refund"), None)


def test_feedback_names_the_broken_rule():
    """Feedback says what was right, and which rule explains the mistake."""
    task = sandbox.task("triage")
    gold = dspy.Example(message="I was charged twice for the tea kettle.", label="refund").with_inputs(
        "message"
    )
    assert task.feedback(gold, dspy.Prediction(label="refund")) == (1.0, "Right.")
    score, text = task.feedback(gold, dspy.Prediction(label="billing"))
    assert score == 0.0
    assert text == (
        "Wrong: the label should be refund, not billing. "
        "A payment that was charged twice is a refund, not billing."
    )


def test_values_say_that_they_are_simulated():
    """Reprs begin with the word, and descriptions contain it."""
    assert repr(sandbox.task("triage")) == "simulated task triage: 200 train, 300 dev, 300 test examples"
    assert repr(sandbox.SimulatedModel("small")) == "simulated model sandbox/small (seed 0, sandbox-1)"
    assert all("simulated" in sandbox.task(name).description for name in NAMES)


def test_unknown_task_is_refused_with_the_nearest():
    """A misspelt task names the one that was probably meant."""
    with pytest.raises(UnknownNameError, match="did you mean 'triage'"):
        sandbox.task("triag")
