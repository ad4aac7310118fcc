"""The bridged adapter: modules by name, class, factory or program, in this thread or in a pool."""

import threading

import dspy
import pytest

import dspex as dx
from dspex import sandbox
from dspex.adapters.conformance import QUESTION
from dspex.errors import DefinitionError, UnknownNameError, UnreadableAnswerError
from dspex.pools import make_pool

TASK = dx.signature("question -> answer: int")


class Twice(dspy.Module):
    """A program of one's own."""

    def __init__(self):
        super().__init__()
        self.first = dspy.Predict("question -> answer: int")

    def forward(self, question):
        found = self.first(question=question)
        return dspy.Prediction(answer=2 * found.answer)


@pytest.mark.parametrize(
    "module",
    ["Predict", "ChainOfThought", dspy.ChainOfThought, lambda task: dspy.ReAct(task, tools=[], max_iters=1)],
)
def test_any_module_will_do(module):
    """A name, a class and a function each make a program for the task."""
    answer = dx.adapters.bridged(module, sandbox.lm("large")).generate(TASK, question=QUESTION)
    assert isinstance(answer["answer"], int)
    assert answer.usage.calls == answer.attempts >= 1


def test_a_program_runs_as_it_is():
    """One's own program answers for itself."""
    single = dx.adapters.bridged("Predict", sandbox.lm("large")).generate(TASK, question=QUESTION)
    double = dx.adapters.bridged(Twice(), sandbox.lm("large")).generate(TASK, question=QUESTION)
    assert double["answer"] == 2 * single["answer"]


def test_a_program_takes_no_plain_prompt():
    """A program has inputs of its own, so a text is not enough."""
    with pytest.raises(DefinitionError, match="signature"):
        dx.adapters.bridged(Twice(), sandbox.lm("large")).generate(QUESTION)


def test_a_pool_runs_it_elsewhere():
    """With a pool, the program runs where the pool's work runs."""
    seen = []

    class Where(Twice):
        def forward(self, question):
            seen.append(threading.current_thread())
            return super().forward(question)

    pool = make_pool("inline", 1)
    dx.adapters.bridged(Where(), sandbox.lm("large"), pool=pool).generate(TASK, question=QUESTION)
    pool.close()
    assert seen[0] is not threading.current_thread()


def test_what_dspy_cannot_read_is_one_of_ours(server):
    """An answer in no format of DSPy's says what was written."""
    lm = dspy.LM("openai/large", api_base=server.url, api_key="any", cache=False, max_tokens=1)
    with pytest.raises(UnreadableAnswerError, match="DSPy cannot read"):
        dx.adapters.bridged("Predict", lm).generate(TASK, question=QUESTION)


def test_unknown_modules_and_models_are_named():
    """A module that DSPy does not have, and what is no model, are refused when it is made."""
    with pytest.raises(UnknownNameError, match="Predict"):
        dx.adapters.bridged("Predit", sandbox.lm("large"))
    with pytest.raises(DefinitionError, match=r"dspy\.LM"):
        dx.adapters.bridged("Predict", 3)
    with pytest.raises(DefinitionError, match="concurrency"):
        dx.adapters.bridged("Predict", sandbox.lm("large"), concurrency=0)
