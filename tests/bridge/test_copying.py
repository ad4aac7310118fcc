"""A quick copy is what DSPy's own copy is, and shares with the original only what nobody changes."""

from __future__ import annotations

import dspy
import pytest
from bindable_programs import DEMO, Locked, Nested, Two, asked_of, lm_of

from dspex.bridge import prices
from dspex.bridge.copying import Copies, copied


@pytest.fixture(autouse=True)
def own_prices(monkeypatch):
    monkeypatch.setattr(prices, "_declared", {})


class Looped(dspy.Module):
    """Knows itself, one part under two names, a method, and collections of every kind."""

    def __init__(self):
        super().__init__()
        self.first = dspy.Predict("question -> answer")
        self.again = self.first
        self.own = self
        self.ask = self.forward_twice
        self.counts = {"a": [1, {2}], "b": (3, [4])}
        self.module_class = dspy.ChainOfThought
        self.act = dspy.ReAct("question -> answer", tools=[len])

    def forward_twice(self, question):
        return self.first(question=question)

    def forward(self, question):
        return self.ask(question)


def rich():
    made = Nested()
    made.set_lm(lm_of(temperature=0.4))
    for predictor in made.predictors():
        predictor.demos = [DEMO, {"question": "q", "answer": "a"}]
        predictor.config = {"n": 1}
    made.history.append("a call")
    return made


def shape_of(value, seen=None):
    """Describe everything that can be reached, by content and by what is the same object."""
    seen = {} if seen is None else seen
    if id(value) in seen:
        return f"#{seen[id(value)]}"
    if isinstance(value, (dspy.Module, dspy.BaseLM, list, dict, set)):
        seen[id(value)] = len(seen)
    if isinstance(value, (dspy.Module, dspy.BaseLM)):
        own = {name: each for name, each in vars(value).items() if not name.startswith("_engine_lock")}
        return type(value), {
            name: shape_of(each, seen) for name, each in sorted(own.items()) if name != "callbacks"
        }
    if isinstance(value, dict):
        return {key: shape_of(each, seen) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [shape_of(each, seen) for each in value]
    return value if isinstance(value, (str, int, float, set, type(None), type)) else type(value)


@pytest.mark.parametrize("make", [Two, Nested, Looped, rich, lambda: dspy.Predict("q -> a")])
def test_a_copy_is_what_dspys_copy_is(make):
    """The same modules, with the same contents, and the same parts being one object."""
    made = make()
    ours, theirs = copied(made), made.deepcopy()
    for program in (ours, theirs):
        for _, module in program.named_sub_modules():
            for lm in [getattr(module, "lm", None)]:
                if lm is not None:
                    lm.history = []
    assert str(shape_of(ours)) == str(shape_of(theirs))


def test_nothing_that_may_change_is_shared():
    """Modules, lists, models and other objects are the copy's own; signatures and demos are values."""
    made = rich()
    ours = copied(made)
    originals = {id(module) for _, module in made.named_sub_modules()}
    assert not originals & {id(module) for _, module in ours.named_sub_modules()}
    for before, after in zip(made.predictors(), ours.predictors(), strict=True):
        assert after.signature is before.signature
        assert after.demos[0] is before.demos[0]
        assert after.demos is not before.demos
        assert after.demos[1] is not before.demos[1]
        assert after.config is not before.config
        assert after.lm is not before.lm
        assert after.lm.kwargs == before.lm.kwargs
        assert asked_of(after.lm) is asked_of(before.lm)
    assert ours.inner.retriever is not made.inner.retriever
    assert len({id(predictor.lm) for predictor in ours.predictors()}) == 1


def test_methods_and_loops_lead_into_the_copy():
    """What refers to the program refers to its copy."""
    made = Looped()
    ours = copied(made)
    assert ours.own is ours
    assert ours.again is ours.first
    assert ours.ask.__self__ is ours
    ours.counts["a"][1].add(9)
    assert made.counts["a"][1] == {2}


def test_a_class_that_says_how_it_is_copied_is_asked():
    """Its own `__deepcopy__` makes the copy."""

    class Own(dspy.Module):
        def __deepcopy__(self, memo):
            made = Own()
            made.asked = True
            return made

    assert copied(Own()).asked


def test_what_cannot_be_copied_is_shared_and_named():
    """As in DSPy's own copies; the caller learns which objects those are."""
    made, copies = Locked(), Copies()
    ours = copied(made, copies)
    assert ours.lock is made.lock
    assert ours.client is made.client
    assert list(copies.shared.values()) == [made.lock, made.client]
