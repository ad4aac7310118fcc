import abc
from typing import Protocol

import dspy
import pytest

from dspex.bridge import prices
from dspex.errors import VariableError
from dspex.records import ModelInfo, Price
from dspex.variables.program import Adapter, Instruction, Model, Module


class Plans(Protocol):
    """What a planner has."""

    depth: int

    def plan(self, goal): ...

    def revise(self, plan): ...


class Abstract(abc.ABC):
    """The same as an abstract class."""

    depth: int

    @abc.abstractmethod
    def plan(self, goal): ...

    def revise(self, plan):
        return plan


class Planner(dspy.Module):
    depth: int

    def plan(self, goal): ...

    def revise(self, plan): ...


class Half(dspy.Module):
    def plan(self, goal): ...


def planner(signature):
    made = Planner()
    made.depth = 3
    return made


def broken(signature):
    raise RuntimeError(signature)


# ── models ──────────────────────────────────────────────────────────────────────────────────────


def test_models_know_price_window_and_capabilities():
    """What LiteLLM's table says of a model is its features, those of the others included as 0."""
    model = Model(["openai/gpt-4o-mini", "openai/gpt-4"])
    assert model.info("openai/gpt-4").context_tokens == 8192
    small, large = model.features("openai/gpt-4o-mini"), model.features("openai/gpt-4")
    assert small["log_price"] < large["log_price"]
    assert (small["vision"], large["vision"]) == (1.0, 0.0)
    assert small.keys() == large.keys() <= model.feature_names()


def test_declared_facts_win():
    """What is declared of a model counts, and what nobody knows is left out."""
    info = ModelInfo(price=Price(1, 9), context_tokens=500, capabilities=frozenset({"vision"}))
    model = Model({"mine": "acme/one", "other": "acme/two"}, info={"mine": info})
    assert model.features("mine") == {
        "input_usd": 1,
        "output_usd": 9,
        "log_price": 1.0,
        "context_tokens": 500.0,
        "vision": 1.0,
    }
    assert model.features("other") == {"vision": 0.0}
    assert Model.from_dict({k: v for k, v in model.to_dict().items() if k != "kind"}) == model


def test_declared_prices_are_known():
    """A simulated model's price is known from when it was made."""
    prices.declare("acme/three", Price(2, 3))
    assert Model(["acme/three"]).info("acme/three").price == Price(2, 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Model(["a/b"], info={"a/c": ModelInfo()}),
            "a label of info must be one of 'a/b', got 'a/c' (did you mean 'a/b'?)",
        ),
        (lambda: Model(["a/b"], info={"a/b": 3}), "info must be a ModelInfo for each label, got 'a/b': 3"),
        (lambda: Module(["Predict"], costs={"Predict": 0}), "costs must be numbers > 0, got {'Predict': 0}"),
        (
            lambda: Module(["Predict"], depths={"Predikt": 1}),
            "a label of depths must be one of 'Predict', got 'Predikt' (did you mean 'Predict'?)",
        ),
        (
            lambda: Adapter(["chta"]),
            "unknown adapter 'chta'; known: chat, json, xml\n  → did you mean 'chat'?",
        ),
        (lambda: Adapter({"a": 3}), "an adapter is a dspy.Adapter or one of chat, json, xml, got 3"),
        (
            Instruction,
            "an Instruction needs texts or a proposer, got neither\n  → Instruction(['Be brief.'])",
        ),
        (lambda: Instruction(["Be brief.", " "]), "instructions are a text, got ' '"),
        (lambda: Instruction(proposer=3), "a proposer is called as proposer(program, examples), got 3"),
    ],
)
def test_bad_definitions_are_refused(make, message):
    """What makes no sense is refused when it is written, with the rule and the values."""
    with pytest.raises(VariableError) as caught:
        make()
    assert str(caught.value) == message


# ── modules ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("interface", [Plans, Abstract, ["plan", "revise", "depth"]])
def test_modules_that_lack_the_interface_are_refused(interface):
    """Every option that lacks something is named with all that it lacks, classes and functions alike."""
    assert Module([Planner, planner], interface=interface).default == "Planner"
    with pytest.raises(VariableError) as caught:
        Module([Planner, Half, dspy.Predict, "ChainOfThought", broken], interface=interface)
    order = ["plan", "revise", "depth"] if isinstance(interface, list) else ["depth", "plan", "revise"]
    without_plan = ", ".join(name for name in order if name != "plan")
    assert str(caught.value) == (
        "every option must have what the interface asks for:\n"
        f"  - Half lacks {without_plan}\n"
        f"  - Predict lacks {', '.join(order)}\n"
        f"  - ChainOfThought lacks {', '.join(order)}\n"
        "  - broken could not be made to be looked at: RuntimeError: question -> answer"
    )


def test_costs_and_depths_are_features():
    """A prior of cost or depth is a feature of its module, and 1 where none was given."""
    module = Module(
        ["Predict", "ChainOfThought"], costs={"ChainOfThought": 2.5}, depths={"ChainOfThought": 2}
    )
    assert module.features("ChainOfThought") == {"cost": 2.5, "depth": 2.0}
    assert module.features("Predict") == {"cost": 1.0, "depth": 1.0}
    assert Module(["Predict"]).features("Predict") == {}


# ── adapters and instructions ───────────────────────────────────────────────────────────────────


def test_adapters_resolve_to_dspys():
    """A name, a class and an object all resolve to an adapter that DSPy takes."""
    mine = dspy.JSONAdapter()
    variable = Adapter(["chat", dspy.XMLAdapter, mine])
    assert list(variable.options) == ["chat", "XMLAdapter", "JSONAdapter"]
    assert variable.resolve("JSONAdapter") is mine
    assert isinstance(variable.resolve("chat"), dspy.ChatAdapter)
    assert isinstance(variable.resolve("XMLAdapter"), dspy.XMLAdapter)


def test_proposed_instructions_become_options():
    """A proposer is asked once with program and examples; what is new is added, with the average weight."""
    asked = []

    def propose(program, examples):
        asked.append((program, list(examples)))
        return ["Be brief.", "Think.", "Think."]

    variable = Instruction([None, "Be brief."], proposer=propose, weights=[3, 1]).given(a=1)
    ready = variable.prepared("program", [1, 2])
    assert asked == [("program", [1, 2])]
    assert list(ready.options) == [None, "Be brief.", "Think."]
    assert ready.weights == (3, 1, 2)
    assert ready.when == {"a": (1,)}
    assert Instruction(proposer=propose).default is None
    plain = Instruction(["a"])
    assert plain.prepared("program", []) is plain
