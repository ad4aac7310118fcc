"""What is proposed for a program fits it, and begins with how it runs now."""

from __future__ import annotations

import dspy
import pytest
from bindable_programs import DEMO, Two, lm_of

from dspex.bridge import prices
from dspex.bridge.inference import Suggestion, suggestions


@pytest.fixture(autouse=True)
def own_prices(monkeypatch):
    monkeypatch.setattr(prices, "_declared", {})


def named(program, **options):
    return {each.name: each for each in suggestions(program, **options)}


def test_a_predictor_gets_what_every_program_understands():
    """Temperature, module, demos and adapter; a model only where there is a choice."""
    found = named(dspy.ChainOfThought("question -> answer"))
    assert list(found) == ["temperature", "module", "demos", "adapter"]
    assert found["module"] == Suggestion(
        "module", "module", "ChainOfThought", options=("Predict", "ChainOfThought")
    )
    assert found["demos"] == Suggestion("demos", "demos", 0, 0, 8)
    assert named(dspy.Predict("q -> a"), models=["a/x", "a/y"])["model"].options == ("a/x", "a/y")


def test_defaults_are_how_it_runs_now():
    """The model's or the predictor's own temperature, its demos and its model."""
    made = Two()
    made.plan.predict.lm, made.answer.lm = lm_of("a", temperature=0.2), lm_of("b")
    made.answer.config, made.answer.demos = {"temperature": 2.0}, [DEMO] * 3
    found = named(made, each_part=True)
    assert (found["plan.temperature"].default, found["answer.temperature"].default) == (0.2, 1.5)
    assert found["answer.demos"].default == 3
    assert found["answer.model"].default == "echo/b"
    assert found["answer.model"].options == ("echo/a", "echo/b")
    assert found["answer.module"].default == "Predict"
    assert "temperature" not in found


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3, ("int", 1, 6)),
        (0, ("int", 0, 1)),
        (-2, ("int", -4, 2)),
        (0.25, ("float", 0.0, 1.0)),
        (4.0, ("float", 2.0, 8.0)),
        (-4.0, ("float", -8.0, -2.0)),
        (True, ("bool", 0, 0)),
    ],
)
def test_numbers_get_a_range_around_them(value, expected):
    """Half to twice as much; a share stays one."""
    made = Two()
    made.rounds = made.retriever.k = value
    found = named(made)
    for name in ("rounds", "retriever.k"):
        each = found[name]
        assert (each.kind, each.low, each.high) == expected
        assert each.default == value


def test_what_has_no_range_is_left_out():
    """Texts and infinities."""
    made = Two()
    made.rounds = float("inf")
    assert not {"rounds", "tone"} & set(named(made))
