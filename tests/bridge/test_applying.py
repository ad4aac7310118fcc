"""Values are set on all of the objects one has, or on none, and taken back exactly."""

from __future__ import annotations

from types import SimpleNamespace

import dspy
import pytest
from bindable_programs import Retriever, Two, asked_of, lm_of

import dspex as dx
from dspex.bridge import prices
from dspex.bridge.applying import apply
from dspex.errors import DefinitionError, UnknownNameError


@pytest.fixture(autouse=True)
def own_prices(monkeypatch):
    monkeypatch.setattr(prices, "_declared", {})


class Guarded:
    """Has a property, a slot-like class attribute, and a say in what is set."""

    kind = "plain"

    def __init__(self):
        self._rate = 0.5
        self.stages = [SimpleNamespace(k=1), SimpleNamespace(k=2)]
        self.limits = {"tokens": 100}

    @property
    def rate(self):
        return self._rate

    @rate.setter
    def rate(self, value):
        if not 0 <= value <= 1:
            raise ValueError(f"a rate is in [0, 1], got {value}")
        self._rate = value


def test_several_targets_are_set_and_restored():
    """Attributes, properties, items, and what only the class had; the names say which target."""
    guarded, retriever = Guarded(), Retriever()
    before = repr((vars(guarded), vars(retriever)))
    values = {
        "g.rate": 0.9,
        "g.kind": "own",
        "g.stages[1].k": 7,
        "g.limits['tokens']": 0,
        "g.limits.tokens": 5,
        "r.k": 8,
    }
    del values["g.limits['tokens']"]
    applied = dx.apply(values, {"g": guarded, "r": retriever})
    assert (guarded.rate, guarded.kind, guarded.stages[1].k) == (0.9, "own", 7)
    assert (guarded.limits, retriever.k) == ({"tokens": 5}, 8)
    assert repr(applied) == "Applied(in force)"
    applied.restore()
    assert repr((vars(guarded), vars(retriever))) == before
    assert Guarded.kind == guarded.kind == "plain"
    assert repr(applied) == "Applied(restored)"
    applied.restore()
    assert repr((vars(guarded), vars(retriever))) == before


@pytest.mark.parametrize("first", ["g", "r", "p"])
def test_a_failure_half_way_leaves_every_target_as_it_was(first):
    """Whichever comes first: a property that refuses takes everything back."""
    guarded, retriever, program = Guarded(), Retriever(), Two()
    values = {
        "r.k": 8,
        "p.temperature": 0.4,
        "p.answer.module": dspy.ChainOfThought,
        "g.stages[0].k": 5,
        "g.rate": 3,
    }
    values = dict(sorted(values.items(), key=lambda each: each[0][0] != first))
    kinds, inside = type(program.answer), dict(vars(program))
    with pytest.raises(ValueError, match="a rate is in"):
        apply(values, {"g": guarded, "r": retriever, "p": program})
    assert (guarded.rate, guarded.stages[0].k, retriever.k) == (0.5, 1, 3)
    assert (type(program), type(program.answer), vars(program)) == (Two, kinds, inside)


def test_nothing_is_set_when_something_is_not_there():
    """Names are looked up on every target first."""
    retriever, program = Retriever(), Two()
    for values, message in (
        ({"r.k": 8, "r.kk": 1, "r.q.k": 2}, "Retriever has none of kk, q.k; it has k"),
        ({"r.k": 8, "x.k": 1, "k": 2}, "no target is meant by x.k, k; there are r, p"),
        ({"r.k": 8, "p.temprature": 1}, "Two has none of temprature"),
    ):
        with pytest.raises(UnknownNameError, match=message):
            apply(values, {"r": retriever, "p": program})
        assert retriever.k == 3


def test_one_target_needs_no_name():
    """For one object, addresses begin within it; the block's end restores, exceptions or not."""
    retriever = Retriever()

    def within():
        with apply({"k": 8}, retriever) as given:
            assert (given, retriever.k) == (retriever, 8)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        within()
    assert retriever.k == 3


def test_a_program_runs_the_new_way_within_the_block():
    """Temperature, adapter and module of the user's own program, and then again its own."""
    lm, program = lm_of(), Two()
    program.set_lm(lm)
    answer = program.answer
    with apply({"temperature": 0.4, "answer.module": dspy.ChainOfThought, "rounds": 3}, program):
        assert "reasoning" in program(question="?")
    assert [prompt.temperature for prompt in asked_of(lm)] == [0.4] * 3
    asked_of(lm).clear()
    program(question="?")
    assert [prompt.temperature for prompt in asked_of(lm)] == [None] * 2
    assert program.answer is answer
    assert program.answer.lm is lm


def test_what_refuses_to_go_back_is_told_after_all_the_others_are_back():
    """One object that cannot be restored does not keep the rest."""
    retriever, guarded = Retriever(), Guarded()
    guarded._rate = 7  # not allowed, and so cannot be put back
    applied = apply({"r.k": 8, "g.rate": 0.5}, {"r": retriever, "g": guarded})
    with pytest.raises(ValueError, match="a rate is in"):
        applied.restore()
    assert retriever.k == 3


def test_a_private_attribute_is_not_there():
    """What begins with an underscore is its object's own."""
    with pytest.raises(DefinitionError):
        apply({"_rate": 0.1}, Guarded())
