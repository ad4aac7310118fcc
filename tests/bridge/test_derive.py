"""Derived signatures and modules are what DSPy would make, made once, and never somebody else's edit."""

from __future__ import annotations

import dspy
import pytest

from dspex.bridge import derive


def test_instructions_are_derived_once():
    """The same request gives the same class; the same instructions give the class itself."""
    signature = dspy.Signature("question -> answer", "Be brief.")
    first = derive.instructed(signature, "Be kind.")
    assert first.equals(signature.with_instructions("Be kind."))
    assert derive.instructed(signature, "Be kind.") is first
    assert derive.instructed(signature, "Be brief.") is signature


def test_a_class_that_was_written_to_is_not_given_again():
    """InferRules writes to signatures; the next program must not get its rules."""
    signature = dspy.Signature("question -> answer", "Be brief.")
    derive.instructed(signature, "Be kind.").instructions = "Rules."
    assert derive.instructed(signature, "Be kind.").instructions == "Be kind."
    thought = dspy.ChainOfThought(signature)
    derive.outside(thought).instructions = "Rules."
    assert derive.outside(thought).instructions == "Be brief."
    derive.made(dspy.Predict, signature).signature.instructions = "Rules."
    assert signature.instructions == "Rules."


def test_outside_leaves_a_signature_without_reasoning_alone():
    """Only ChainOfThought adds the field, so only its is taken away."""
    own = dspy.Predict("question -> reasoning, answer")
    assert derive.outside(own) is own.signature
    assert list(derive.outside(dspy.ChainOfThought("q -> a")).output_fields) == ["a"]


@pytest.mark.parametrize("module", [dspy.Predict, dspy.ChainOfThought])
def test_modules_are_copies_of_one(module):
    """Two of them share nothing but their signature."""
    signature = dspy.Signature("question -> answer", "Be brief.")
    first, second = derive.made(module, signature), derive.made(module, signature)
    assert type(first) is module
    assert first.predictors()[0].signature is second.predictors()[0].signature
    first.predictors()[0].demos.append(1)
    assert second.predictors()[0].demos == []
    assert derive.made(module, signature).predictors()[0].demos == []


def test_a_changed_signature_makes_another_module():
    """What was made before the instructions changed is not given again."""
    signature = dspy.Signature("question -> answer", "Be brief.")
    derive.made(dspy.ChainOfThought, signature)
    signature.instructions = "Rules."
    assert derive.made(dspy.ChainOfThought, signature).predict.signature.instructions == "Rules."


def test_other_modules_are_made_anew():
    """A factory of the user's may give something else each time."""
    made = []

    def factory(signature):
        made.append(dspy.Predict(signature))
        return made[-1]

    signature = dspy.Signature("question -> answer")
    assert [derive.made(factory, signature), derive.made(factory, signature)] == made
