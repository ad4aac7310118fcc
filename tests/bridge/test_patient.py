"""Models whose calls somebody answers for: asked as often as that one says, and ordinary ones otherwise."""

from __future__ import annotations

import dspy
import pytest
from dspy.clients.lm import LM

from dspex import sandbox
from dspex.bridge.patient import Patient, in_charge, patient
from dspex.errors import UnavailableError


@pytest.fixture(scope="module")
def server():
    with sandbox.serve() as running:
        yield running


@pytest.fixture
def lm(server):
    server.set_faults(None)
    made = dspy.LM("openai/sandbox/small", api_base=server.url, api_key="none", cache=False)
    return patient(made.copy())


def test_who_is_in_charge_decides_how_often_it_asks(lm, server):
    """Each time it is asked once, whatever DSPy's retries are; failures come as ours, and go on as DSPy's."""
    server.set_faults([{"kind": "server_error"}])
    met, n_before = [], len(server.calls)

    def decide(model, key, ask):
        assert (model, key.startswith("openai http")) == ("openai/sandbox/small", True)
        for _ in range(2):
            with pytest.raises(UnavailableError) as caught:
                ask()
            met.append(caught.value)
        return ask()

    with in_charge(decide), pytest.raises(dspy.LMError):
        lm("Hello")
    assert [each.provider for each in met] == ["openai/sandbox/small"] * 2
    assert len(server.calls) - n_before == 3


def test_it_goes_with_copies_and_threads(lm):
    """DSPy copies models, and runs programs on threads of its own; whoever is in charge hears of these too."""
    heard = []
    program = dspy.Predict("message -> label")
    examples = [dspy.Example(message=f"Hello {k}").with_inputs("message") for k in range(3)]
    evaluate = dspy.Evaluate(devset=examples, metric=lambda example, prediction: 1.0, num_threads=2)

    def decide(model, key, ask):
        heard.append(key)
        return ask()

    with in_charge(decide), dspy.context(lm=lm.copy(temperature=0.5)):
        evaluate(program)
    assert len(heard) >= 3


def test_without_anybody_it_is_an_ordinary_model(lm):
    """It answers, retries as DSPy does, can be given other retries, and is saved as the model that it is a copy of."""
    assert lm("Hello")
    assert lm.num_retries == 3
    lm.num_retries = 1
    assert lm.copy().num_retries == 1
    state = lm.dump_state()
    assert type(LM.load_state(state)) is dspy.LM
    assert state["num_retries"] == 1


def test_only_models_of_providers_are_patient(lm):
    """What runs in this process answers the same when it is asked again; a class of somebody's own stays its own."""

    class Own(dspy.LM):
        pass

    assert type(lm) is Patient
    assert type(patient(sandbox.lm("small"))) is dspy.LM
    assert type(patient(Own("openai/x"))) is Own
