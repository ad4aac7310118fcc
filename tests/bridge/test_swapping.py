"""A module takes another's place with its signature, demos, settings and model."""

from __future__ import annotations

import dspy
import pytest
from bindable_programs import DEMO, Nested, Two, asked_of, lm_of

from dspex.bridge import prices
from dspex.bridge.binding import bind
from dspex.errors import DefinitionError


@pytest.fixture(autouse=True)
def own_prices(monkeypatch):
    monkeypatch.setattr(prices, "_declared", {})


@pytest.mark.parametrize(
    ("before", "after", "outputs"),
    [
        (dspy.Predict, dspy.ChainOfThought, ["reasoning", "answer"]),
        (dspy.ChainOfThought, dspy.Predict, ["answer"]),
        (dspy.ChainOfThought, dspy.ChainOfThought, ["reasoning", "answer"]),
        (dspy.Predict, dspy.Predict, ["answer"]),
    ],
)
def test_swapping_the_module_keeps_the_rest(before, after, outputs):
    """Signature, demos, settings and model stay, and reasoning comes or goes."""
    made = before(dspy.Signature("question -> answer: int", "Be brief."), temperature=0.3)
    predictor, own = made.predictors()[0], lm_of("own")
    predictor.demos, predictor.lm = [DEMO], own
    bound = bind(made, {"module": after})
    assert isinstance(bound, after)
    (swapped,) = bound.predictors()
    assert list(swapped.signature.output_fields) == outputs
    assert swapped.signature.instructions == "Be brief."
    assert swapped.signature.output_fields["answer"].annotation is int
    assert (swapped.demos, swapped.config) == ([DEMO], {"temperature": 0.3})
    assert asked_of(swapped.lm) is asked_of(own)


def test_demos_follow_the_fields_of_the_new_module():
    """Reasoning goes with the module that had it, and stays where the new one has it too."""
    reasoned = dspy.Example(question="2+2?", reasoning="Count.", answer="4", augmented=True)
    made = dspy.ChainOfThought("question -> answer")
    made.predict.demos = [reasoned, {"question": "q", "reasoning": "r", "answer": "a"}]
    (plain,) = bind(made, {"module": dspy.Predict}).predictors()
    assert [dict(demo) for demo in plain.demos] == [
        {"question": "2+2?", "answer": "4", "augmented": True},
        {"question": "q", "answer": "a"},
    ]
    (kept,) = bind(made, {"module": dspy.ChainOfThought}).predictors()
    assert kept.demos[0].reasoning == "Count."
    assert made.predict.demos[0] is reasoned


def test_own_reasoning_survives_the_swap():
    """A field called "reasoning" that the user wrote is not taken for ChainOfThought's."""
    bound = bind(dspy.Predict("question -> reasoning, answer"), {"module": dspy.Predict})
    assert list(bound.signature.output_fields) == ["reasoning", "answer"]


def test_every_outermost_part_is_swapped():
    """An undotted module is for every part that can be one; what DSPy's own modules hold is theirs."""
    bound = bind(Two(), {"module": dspy.Predict})
    assert [list(each.signature.output_fields) for each in bound.predictors()] == [["plan"], ["answer"]]

    class Acting(dspy.Module):
        def __init__(self):
            super().__init__()
            self.act = dspy.ReAct("question -> answer", tools=[])
            self.inner = Two()

    bound = bind(Acting(), {"module": dspy.ChainOfThought})
    assert type(bound.act.react) is dspy.Predict
    assert isinstance(bound.inner.answer, dspy.ChainOfThought)


def best_of_two(signature):
    return dspy.BestOfN(dspy.Predict(signature), N=2, reward_fn=lambda args, pred: 0.0, threshold=1.0)


@pytest.mark.parametrize(
    ("module", "n_calls"),
    [
        (lambda signature: dspy.ReAct(signature, tools=[], max_iters=0), 1),
        (best_of_two, 2),
        (dspy.ChainOfThought, 1),
    ],
    ids=["ReAct", "BestOfN", "ChainOfThought"],
)
def test_any_module_may_take_a_parts_place(module, n_calls):
    """One submodule becomes a ReAct, a BestOfN or anything made of a signature, and runs."""
    lm = lm_of()
    bound = bind(Nested(), {"inner.answer.module": module, "model": lm})
    assert bound(question="?").answer == "echo"
    assert len(asked_of(lm)) == 1 + n_calls
    assert isinstance(bound.inner.plan, dspy.ChainOfThought)


def test_what_a_new_module_has_can_be_bound_at_once():
    """The swap comes first, so that its parts and numbers have addresses."""
    bound = bind(Two(), {"answer.module": best_of_two, "answer.N": 5, "answer.module.temperature": 0.2})
    assert bound.answer.N == 5


def test_a_module_in_a_tuple_cannot_be_swapped():
    """A tuple's items cannot be replaced, and the message says what can."""
    with pytest.raises(DefinitionError, match=r"fixed\[0\] stands in a tuple.*use a list"):
        bind(Nested(), {"fixed[0].module": dspy.ChainOfThought})


def test_a_bound_part_stays_bound_as_another_module():
    """Its adapter, its model and its settings go over, through resets too."""
    lm = lm_of()
    first = bind(Two(), {"answer.adapter": "json", "answer.temperature": 0.2, "answer.model": lm})
    made = bind(first, {"answer.module": dspy.ChainOfThought}).reset_copy()
    made.answer(question="?", plan="p")
    (prompt,) = asked_of(lm)
    assert (prompt.temperature, "Outputs will be a JSON object" in prompt.system) == (0.2, True)
