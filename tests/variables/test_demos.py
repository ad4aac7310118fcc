from collections import Counter

import dspy
import pytest

from dspex.errors import VariableError
from dspex.variables.demos import Demos, DemoSet

POOL = [{"text": str(k), "label": "rare" if k == 7 else "usual"} for k in range(10)]


def test_the_first_ones_are_picked_in_order():
    """By default the pool's first examples are shown."""
    assert Demos(0, 8).resolve(3).pick(POOL) == POOL[:3]


def test_random_demos_follow_their_seed():
    """One seed picks one order, of which fewer are the beginning; another seed picks another."""
    variable = Demos(0, 8, choose="random", seed=1)
    assert variable.resolve(5).pick(POOL)[:3] == variable.resolve(3).pick(POOL)
    assert variable.resolve(8).pick(POOL) != Demos(0, 8, choose="random", seed=2).resolve(8).pick(POOL)
    assert sorted(POOL, key=lambda example: int(example["text"])) == POOL


def test_balanced_demos_show_every_value():
    """Each value of the field comes once before any comes twice; DSPy's examples are taken alike."""
    pool = [dspy.Example(**example) for example in POOL]
    picked = Demos(0, 8, choose="balanced", by="label").resolve(4).pick(pool)
    assert Counter(example["label"] for example in picked) == {"usual": 3, "rare": 1}
    assert {example["label"] for example in picked[:2]} == {"usual", "rare"}


def test_demos_of_their_own_come_before_the_studys():
    """Examples given with the variable are picked from, whatever the pool."""
    assert Demos(0, 2, examples=[{"q": 1}, {"q": 2}]).resolve(1).pick(POOL) == [{"q": 1}]


def test_a_set_stands_for_its_examples():
    """A label stands for a list."""
    variable = DemoSet({"none": [], "two": (POOL[0], POOL[1])})
    assert variable.resolve("two") == POOL[:2]
    assert variable.default == "none"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Demos(-1, 3), "a number of demos must be >= 0, got low=-1"),
        (lambda: Demos(0, 3, choose="best"), "demos are chosen first, random, balanced, got 'best'"),
        (
            lambda: Demos(0, 3, choose="balanced"),
            (
                "by= names the field that 'balanced' balances, got choose='balanced', by=None\n"
                "  → Demos(0, 8, choose='balanced', by='label')"
            ),
        ),
        (lambda: DemoSet(["a"]), "a DemoSet is label → list of examples, got ['a']\n  → {'none': []}"),
        (lambda: DemoSet({"a": "text"}), "the demos of 'a' must be a list of examples, got 'text'"),
        (
            lambda: Demos(0, 3, choose="balanced", by="lable").resolve(1).pick(POOL[:1]),
            "demos are balanced by 'lable', which an example lacks: {'text': '0', 'label': 'usual'}",
        ),
    ],
)
def test_bad_definitions_are_refused(make, message):
    """What makes no sense is refused with the rule and the values."""
    with pytest.raises(VariableError) as caught:
        make()
    assert str(caught.value) == message
