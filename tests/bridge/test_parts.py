"""Everything that can be bound has an address, as DSPy writes them."""

from __future__ import annotations

import dspy
import pytest
from bindable_programs import Locked, Nested, Two

from dspex.bridge.parts import BINDABLE, Address, Parts


def test_addresses_are_those_of_dspys_predictors():
    """Every predictor that DSPy names is found under that name."""
    for made in (Two(), Nested()):
        parts = Parts(made)
        assert parts.predictors("") == sorted(
            (name for name, _ in made.named_predictors()), key=list(parts).index
        )
        assert all(parts[name].module is predictor for name, predictor in made.named_predictors())


@pytest.mark.parametrize(
    ("name", "address", "rank"),
    [
        ("temperature", ("", "temperature"), (0, 0)),
        ("plan.temperature", ("plan", "temperature"), (2, 4)),
        ("*.temperature", ("*", "temperature"), (1, 0)),
        ("tools[0].k", ("tools[0]", "k"), (2, 8)),
        ("routes['a.b'].k", ("routes['a.b']", "k"), (2, 13)),
        ("odd]", ("", "odd]"), (0, 0)),
    ],
)
def test_names_are_read_from_the_end(name, address, rank):
    """The last part says what is set, the rest where."""
    assert Address.of(name) == address
    assert Address.of(name).rank == rank


def test_patterns_match_any_part():
    """A star stands for anything, and never for the program itself."""
    parts = Parts(Nested())
    assert parts.matching("inner.*") == ["inner.plan", "inner.answer", "inner.plan.predict"]
    assert parts.matching("tools*") == ["tools[0]", "tools[1]"]
    assert "" not in parts.matching("*")
    assert parts.matching("nowhere") == []


def test_everything_that_can_be_bound_is_listed():
    """For all at once, then for each part that users think of, then their own numbers and texts."""
    assert Parts(dspy.Predict("question -> answer")).bindable() == list(BINDABLE)
    assert Parts(dspy.ChainOfThought("question -> answer")).bindable() == list(BINDABLE)
    listed = Parts(Two()).bindable()
    assert listed[: len(BINDABLE) + 3] == [*BINDABLE, "rounds", "tone", "retriever.k"]
    assert listed[len(BINDABLE) + 3 :] == [
        *(f"plan.{name}" for name in BINDABLE),
        *(f"answer.{name}" for name in BINDABLE),
    ]
    nested = Parts(Nested()).bindable()
    assert {"inner.rounds", "inner.plan.temperature", "tools[1].module", "routes['de'].model"} <= set(nested)


def test_module_is_bindable_only_where_there_is_one_to_swap():
    """What DSPy's own modules are made of is theirs, and their numbers are for anyone."""
    react = Parts(dspy.ReAct("question -> answer", tools=[]))
    assert "module" not in react.bindable()
    assert "max_iters" in react.bindable()
    assert react.units() == []

    class Acting(dspy.Module):
        def __init__(self):
            super().__init__()
            self.act = dspy.ReAct("question -> answer", tools=[])

    listed = Parts(Acting()).bindable()
    assert "act.temperature" in listed
    assert "act.max_iters" in listed
    assert not {"module", "act.module", "act.react.temperature"} & set(listed)


def test_other_objects_numbers_are_listed():
    """One object further on, and no private ones."""
    assert "client.retries" in Parts(Locked()).bindable()
    assert not [name for name in Parts(Two()).bindable() if "hidden" in name]
