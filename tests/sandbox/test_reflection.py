import json
import logging

import dspy
import pytest

from dspex import sandbox
from dspex.sandbox.families import sightings


@pytest.fixture(autouse=True)
def quiet():
    logging.disable(logging.ERROR)  # DSPy reports every unreadable answer
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def triage():
    return sandbox.task("triage")


@pytest.fixture
def gain(triage, program_of):
    def run(compiled, **settings):
        with dspy.context(lm=sandbox.lm("small", seed=3, **settings)):
            program = program_of(triage)
            before = sandbox.expected_score(program, triage.dev)
            return sandbox.expected_score(compiled(program), triage.dev) - before

    return run


def test_bootstrap_with_random_search_climbs(triage, gain):
    """Demonstrations from right runs help."""
    optimizer = dspy.BootstrapFewShotWithRandomSearch(
        metric=triage.metric, max_bootstrapped_demos=4, num_candidate_programs=2, num_threads=2
    )
    assert (
        gain(
            lambda program: optimizer.compile(
                program, trainset=triage.train[:40], valset=triage.train[60:110]
            )
        )
        > 0.05
    )


def test_mipro_climbs(triage, gain):
    """Proposed instructions and demonstrations, searched together, help."""

    def compiled(program):
        optimizer = dspy.MIPROv2(
            metric=triage.metric, auto="light", prompt_model=sandbox.lm("large"), num_threads=2, seed=1
        )
        return optimizer.compile(program, trainset=triage.train[:40], valset=triage.train[60:110])

    assert gain(compiled) > 0.05


def test_simba_climbs(triage, gain):
    """Comparing better and worse runs of the same example helps."""
    optimizer = dspy.SIMBA(
        metric=triage.metric,
        bsize=16,
        num_candidates=4,
        max_steps=4,
        max_demos=3,
        prompt_model=sandbox.lm("large"),
        num_threads=1,
    )
    assert (
        gain(lambda program: optimizer.compile(program, trainset=triage.train[:60], seed=0), resample=True)
        > 0.03
    )


def test_gepa_climbs(triage, gain):
    """Feedback that names the broken rule teaches rules."""

    def metric(gold, pred, trace=None, pred_name=None, pred_trace=None):
        score, feedback = triage.feedback(gold, pred)
        return dspy.Prediction(score=score, feedback=feedback)

    optimizer = dspy.GEPA(
        metric=metric, max_metric_calls=400, reflection_lm=sandbox.lm("large"), num_threads=2, seed=0
    )
    assert (
        gain(
            lambda program: optimizer.compile(
                program, trainset=triage.train[:40], valset=triage.train[60:100]
            )
        )
        > 0.05
    )


def test_copro_sees_no_evidence_and_gains_nothing(triage, gain, capsys):
    """Without evidence in the prompt only platitudes are proposed."""
    optimizer = dspy.COPRO(metric=triage.metric, breadth=2, depth=1, prompt_model=sandbox.lm("large"))
    assert (
        gain(lambda program: optimizer.compile(program, trainset=triage.train[:20], eval_kwargs={})) <= 0.01
    )


def test_gepa_prompt_is_answered_in_a_fenced_block(triage):
    """The plain reflection prompt gets the old instructions with the missing rules, in one block."""
    example = triage.train[0]
    rule = "An error or crash while paying is billing, not technical."
    text = (
        "I provided an assistant with these instructions:\n```\nSort the message.\n```\n"
        "Examples with feedback:\n```\n# Example 1\n## Inputs\n### message\n"
        "The photo app crashes as soon as I try to pay for the yoga mat.\n\n"
        f"## Feedback\nWrong: the label should be billing, not technical. {rule}\n```\n"
        "Your task is to write a new instruction for the assistant."
    )
    answers = [sandbox.lm("large", seed=seed)(text)[0] for seed in range(10)]
    assert example.message not in text
    assert f"```\nSort the message.\n{rule}\n```" in answers


def test_evidence_is_found_in_every_format(triage):
    """Messages are recognised as JSON, as lines, and in the repr of examples."""
    examples = triage.train[:6]
    extraction = sandbox.task("extraction").train[:3]
    lines = "\n\n".join(f"Message: {example.message}\nLabel: {example.label}" for example in examples)
    for text in (json.dumps([example.toDict() for example in examples], indent=1), repr(examples), lines):
        assert [item.answer for item in sightings(text)] == [example.label for example in examples]
    assert [item.answer for item in sightings(repr(extraction))] == [example.span for example in extraction]
