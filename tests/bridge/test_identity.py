"""Keys: the same for what is the same, in every process, and different for what is not."""

from __future__ import annotations

import functools
import subprocess
import sys

import dspy
import pytest

from dspex import metrics, sandbox
from dspex.bridge.identity import fingerprint, key_of_function, run_key, said_by

TASK = sandbox.task("triage")
LM = sandbox.lm("small")
LIMIT = 3


def short(example, prediction):
    return len(prediction.answer) < LIMIT


def key(program, lm=LM):
    return run_key(program, said_by(program), lm)


def test_a_metric_is_what_it_computes():
    """Code, closures, defaults and the values it names make the key; the name and the place do not."""

    def make(limit, default=1):
        def metric(example, prediction, weight=default):
            return weight * (len(prediction.answer) < limit)

        return metric

    assert key_of_function(make(3)) == key_of_function(make(3))
    keys = [
        key_of_function(each)
        for each in (make(3), make(4), make(3, 2), short, functools.partial(short, None))
    ]
    assert len(set(keys)) == len(keys)


def test_what_a_metric_calls_is_part_of_it(monkeypatch):
    """A constant of its module that changes makes it another metric."""
    before = key_of_function(short)
    monkeypatch.setitem(short.__globals__, "LIMIT", 4)
    assert key_of_function(short) != before


def test_ready_made_metrics_differ():
    """Each has a key of its own, and restricting one to a label gives another."""
    made = [
        *metrics.NAMED.values(),
        metrics.exact_match.on("label"),
        metrics.threshold(metrics.token_f1, 0.5),
    ]
    assert len({key_of_function(each) for each in made}) == len(made)


def test_keys_are_the_same_in_every_process():
    """What is kept in a store is found by the next process."""
    code = (
        "from dspex import metrics, sandbox\n"
        "from dspex.bridge.identity import *\n"
        "import dspy\n"
        "task = sandbox.task('triage')\n"
        "program = dspy.ChainOfThought(task.signature); program.predict.demos = task.train[:2]\n"
        "print(key_of_function(metrics.exact_match), run_key(program, said_by(program), sandbox.lm('small')))"
    )
    said = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    assert len(said) == 1


def test_a_program_is_what_it_says_and_to_whom():
    """Instructions, demonstrations, module, model, its settings and its engine each make another program."""
    plain = dspy.Predict(TASK.signature)
    shown, told = plain.deepcopy(), plain.deepcopy()
    shown.demos = TASK.train[:1]
    told.signature = told.signature.with_instructions("Think.")
    keys = {
        key(plain),
        key(shown),
        key(told),
        key(dspy.ChainOfThought(TASK.signature)),
        key(plain, LM.copy(temperature=0.1)),
        key(plain, sandbox.lm("medium")),
        key(plain, sandbox.lm("small", seed=1)),
    }
    assert len(keys) == 7


@pytest.mark.parametrize("change", [{"rollout_id": 3}, {"cache": True}])
def test_which_draw_it_is_does_not_change_the_program(change):
    """Nor does looking replies up: both are the same program, asked another way."""
    plain = dspy.Predict(TASK.signature)
    assert key(plain, LM.copy(**change)) == key(plain)


def test_a_program_that_has_run_is_still_the_same():
    """Its history is no part of it, nor is the copy that ran."""
    program = dspy.ChainOfThought(TASK.signature)
    before = key(program)
    with dspy.context(lm=LM):
        program(message=TASK.dev[0].message)
    assert key(program) == key(program.deepcopy()) == before


def test_instructions_that_are_written_in_place_are_noticed():
    """InferRules assigns to the signature itself."""
    program = dspy.Predict(TASK.signature)
    before = fingerprint(said_by(program))
    program.signature.instructions = "Think."
    assert fingerprint(said_by(program)) != before
