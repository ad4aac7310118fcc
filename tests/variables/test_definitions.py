import json
import os
import random
import subprocess
import sys

import dspy
import pytest

import dspex as dx
from dspex.errors import UnknownNameError, VariableError
from dspex.variables.base import (
    Bool,
    Choice,
    Composite,
    Constraint,
    DemoSet,
    Float,
    Instruction,
    Int,
    Model,
    Module,
)
from dspex.variables.space import Space


def short(n):
    return n <= 4


@pytest.fixture
def space():
    return Space(
        {"plan.temperature": Float(0, 1.5, default=0.7)},
        module=Choice(["Predict", "BestOfN"]),
        n=Int(2, 5).given(module="BestOfN"),
        double=Composite("n * 2"),
        constraints=[Constraint("short", short), "n * plan.temperature <= 4"],
    )


# ── put together ────────────────────────────────────────────────────────────────────────────────


def test_merged_spaces_have_everything_of_both(space):
    """Variables, composites, constraints and frozen values of both are there; what both say alike is there once."""
    other = Space(
        n=Int(2, 5).given(module="BestOfN"), module=Choice(["Predict", "BestOfN"]), x=Int(0, 9)
    ).freeze(x=3)
    both = space | other
    assert set(both.definitions) == {"plan.temperature", "module", "n", "double", "x"}
    assert both.frozen == {"x": 3}
    assert both.constraints == space.constraints
    assert both == other.merge(space) == both.merge(both)


def test_conflicting_definitions_are_all_named(space):
    """Spaces that define a name differently do not merge; both sides are shown."""
    other = Space(
        n=Int(2, 9),
        module=Choice(["a"]),
        z=Int(0, 1),
        constraints=[Constraint("short", "n < 3")],
        frozen={"z": 1},
    )
    with pytest.raises(VariableError) as caught:
        space.merge(other)
    assert str(caught.value) == (
        "these spaces say different things:\n"
        "  - module is Choice(['Predict', 'BestOfN'], default='Predict') here and Choice(['a'], default='a') there\n"
        "  - n is Int(2, 5).given(module='BestOfN') here and Int(2, 9) there\n"
        "  - short is Constraint('short', short(n)) here and Constraint('short', 'n < 3') there"
    )


def test_a_part_keeps_what_it_can(space):
    """A subset drops composites and constraints that read what is left out; a condition needs its variable."""
    part = space.only("module", "plan.temperature", "double")
    assert list(part.definitions) == ["plan.temperature", "module"]
    assert part.constraints == ()
    assert space.without("plan.temperature").constraints == space.constraints[:1]
    with pytest.raises(VariableError, match="n hangs on 'module', which is no variable"):
        space.without("module")
    with pytest.raises(UnknownNameError, match="did you mean 'module'"):
        space.only("modul")
    with pytest.raises(UnknownNameError, match="did you mean 'module'"):
        space.without("modul")


def test_frozen_variables_leave_the_search_but_are_resolved(space):
    """A frozen value is in no configuration and no column, yet conditions, constraints and resolve see it."""
    frozen = space.freeze(module="BestOfN")
    assert list(frozen) == ["plan.temperature", "n"]
    assert len(frozen.columns) == 2
    assert frozen.default() == {"plan.temperature": 0.7, "n": 2}
    assert frozen.resolve(frozen.default())["module"] == "BestOfN"
    assert frozen.values_of("module") == ["BestOfN"]
    assert "n" not in space.freeze(module="Predict").default()
    with pytest.raises(VariableError, match="module is frozen at 'BestOfN'"):
        frozen.check({**frozen.default(), "module": "Predict"})
    assert repr(frozen).startswith(
        "Space(plan.temperature=Float, module=Choice, n=Int, double=Composite; 4 values"
    )
    assert "module frozen at 'BestOfN'" in repr(frozen)
    nothing_left = space.freeze({"plan.temperature": 1}, module="Predict", n=2)
    assert (nothing_left.n_configurations, nothing_left.default()) == (1, {})


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"n": 9}, "n must be in [2, 5], got 9"),
        ({"m": 9}, "m is frozen, but no variable"),
        ({"double": 9}, "double is computed from n, and never set"),
    ],
)
def test_only_values_freeze(space, values, problem):
    """What is frozen must be a variable, and the value one of its."""
    with pytest.raises(VariableError) as caught:
        space.freeze(values)
    assert str(caught.value) == f"this space is not well formed:\n  - {problem}"


def test_a_difference_names_what_changed(space):
    """What is added, removed and changed, frozen values and constraints included; nothing is false."""
    other = space.without("double").freeze(module="BestOfN") | Space(x=Int(0, 1))
    found = space.diff(other)
    assert list(found.added) == ["x", "module frozen"]
    assert list(found.removed) == ["double"]
    assert space.diff(Space({**space.definitions, "n": Int(2, 9)})).changed["n"] == (space["n"], Int(2, 9))
    assert not space.diff(space)
    assert str(space.diff(space)) == "no difference"
    assert str(Space(a=Int(0, 1), b=Int(0, 1)).diff(Space(b=Int(0, 2), c=Int(0, 1)))) == (
        "+ c: Int(0, 1)\n- a: Int(0, 1)\n~ b: Int(0, 1) → Int(0, 2)"
    )


def test_proposers_fill_in_a_space():
    """A prepared space holds the instructions proposed for the program, and all else as it was."""
    space = Space(
        tone=Instruction(["Be brief."], proposer=lambda program, examples: [f"{program} {len(examples)}"]),
        n=Int(0, 3),
        constraints=["n < 3"],
    ).freeze(n=1)
    ready = space.prepared("Solve", [1, 2])
    assert ready["tone"].grid(1) == ["Be brief.", "Solve 2"]
    assert (ready.frozen, ready.constraints) == (space.frozen, space.constraints)


# ── identity ────────────────────────────────────────────────────────────────────────────────────


def test_a_key_follows_conditions_constraints_and_frozen_values(space):
    """Whatever changes the search changes the key."""
    variants = [
        space,
        space.freeze(module="BestOfN"),
        space.freeze(module="Predict"),
        Space(space.definitions, constraints=space.constraints[:1]),
        Space({**space.definitions, "n": Int(2, 5)}, constraints=space.constraints),
        Space({**space.definitions, "double": Composite("n * 3")}, constraints=space.constraints),
    ]
    assert len({each.key for each in variants}) == len(variants)
    assert len(set(variants)) == len(variants)
    reordered = Space(space.definitions, constraints=reversed(space.constraints))
    assert (reordered.key, reordered) == (space.key, space)


@pytest.mark.process
def test_keys_are_the_same_in_every_process():
    """The hash seed of a process reaches no key of a conditional space."""
    code = (
        "import dspex as dx\n"
        "space = dx.Space(m=dx.Choice(['a', 'b']), n=dx.Int(1, 3).given(m={'a', 'b'}),"
        " constraints=['n < 3'])\n"
        "print(space.key, space.key_of(space.default()))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("0", "1", "2", "3")
    }
    assert len(found) == 1


# ── JSON ────────────────────────────────────────────────────────────────────────────────────────


def test_everything_is_read_from_json(space):
    """Functions and classes travel as where they are imported from, data as data, models as what is known of them."""
    whole = space | Space(
        model=Model(
            ["openai/gpt-4o"], info={"openai/gpt-4o": dx.ModelInfo(price=dx.Price(1, 2), context_tokens=9)}
        ),
        chain=Module(
            {"slow": dspy.ChainOfThought, "fast": "Predict"}, costs={"slow": 2}, interface=["forward"]
        ),
        shown=DemoSet({"none": [], "one": [{"q": "1+1?", "a": "2"}]}),
        sizes=Choice({"two": [1, 2], "builtin": dict}, weights=[1, 3]),
        picked=dx.Demos(0, 4, examples=[{"q": 1}], choose="random", seed=3),
        format=dx.Adapter(["chat", "json"]),
        frozen={"format": "json"},
    )
    again = Space.from_json(whole.to_json())
    assert again == whole
    assert again.key == whole.key
    assert again["chain"].resolve("slow") is dspy.ChainOfThought
    assert again["sizes"].options == {"two": [1, 2], "builtin": dict}
    assert again["shown"].resolve("one") == [{"q": "1+1?", "a": "2"}]
    assert again["picked"] == whole["picked"]
    assert again.constraints[0].formula.function is short


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: Space(x=Choice({"a": object()})), "the option 'a'"),
        (lambda: Space(x=Int(0, 1), constraints=[Constraint("c", lambda x: x)]), "the constraint 'c'"),
        (lambda: Space(x=Int(0, 1), y=Composite(lambda x: x)), "the composite"),
        (lambda: Space(x=Model([dspy.LM("openai/gpt-4o", api_key="secret")])), "the option 'openai/gpt-4o'"),
        (lambda: Space(x=Instruction(proposer=lambda program, examples: [])), "the proposer"),
    ],
)
def test_what_cannot_be_imported_is_refused(make, what):
    """An object that is neither data nor importable is named, rather than lost."""
    with pytest.raises(VariableError) as caught:
        make().to_json()
    assert str(caught.value).startswith(f"{what} cannot be written as JSON: ")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"kind": "flaot"}, "did you mean 'float'"),
        ({"kind": "float", "low": 1, "high": 0}, "low must be < high"),
        ({"kind": "float", "lo": 1}, "a float cannot be made of"),
        (
            {"kind": "choice", "options": [["a", {"import": "nowhere:x"}]]},
            "cannot import 'nowhere:x': No module named 'nowhere'",
        ),
    ],
)
def test_bad_json_is_refused(spec, message):
    """What no `to_dict` can have said is refused with the rule it breaks."""
    with pytest.raises((VariableError, UnknownNameError), match=message):
        Space.from_json(json.dumps({"variables": {"x": spec}}))


# ── bad definitions ─────────────────────────────────────────────────────────────────────────────


def test_all_that_does_not_fit_together_is_listed():
    """Conditions, formulas and constraints that name what is not there come in one message."""
    with pytest.raises(VariableError) as caught:
        Space(
            module=Choice(["Predict", "BestOfN"]),
            n=Int(1, 3).given(modul="BestOfN"),
            m=Int(1, 3).given(module="BestOf"),
            total=Composite("n * k"),
            constraints=["n < mm", Constraint("c", "n < 2"), Constraint("c", "n < 3")],
        )
    assert str(caught.value) == (
        "this space is not well formed:\n"
        "  - n hangs on 'modul', which is no variable (did you mean 'module'?)\n"
        "  - m hangs on a value of module, which must be one of 'Predict', 'BestOfN', got 'BestOf' "
        "(did you mean 'BestOfN'?)\n"
        "  - total reads k, which is no variable\n"
        "  - the constraint 'n < mm' reads mm, which is no variable (did you mean 'm'?)\n"
        "  - the constraint 'c' is there 2 times"
    )


def test_names_are_texts():
    """A name that is no text is refused."""
    with pytest.raises(VariableError, match="a name must be a text, got 3"):
        Space({3: Int(0, 1)})


def test_a_space_sampled_after_changes_is_the_same(space):
    """Operations leave the space that they start from alone."""
    before = space.key
    space.freeze(module="BestOfN")
    space.without("double")
    space.merge(Space(x=Int(0, 1)))
    assert space.key == before
    assert space.sample(random.Random(0)).keys() <= space.keys()
    with pytest.raises(TypeError):
        space.definitions["x"] = Int(0, 1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Space(Int(0, 1)),
            "definitions map names to variables, got Int(0, 1)\n  → Space(temperature=Float(0, 1))",
        ),
        (
            lambda: Space("a: int = 0 .. 1"),
            "definitions map names to variables, got 'a: int = 0 .. 1'\n  → Space.parse(text) reads a text",
        ),
        (
            lambda: Space({"a": Int(0, 1)}, a=Int(0, 2)),
            "each name is defined once, got a in the mapping and as a keyword",
        ),
        (
            lambda: Space(a=Int(0, 1), constraints=[3]),
            "a constraint is a Constraint or a formula as text, got 3\n  → 'a <= b'",
        ),
        (
            lambda: Space(a=Int(0, 1)) | {"b": 1},
            "a space merges with a space, got {'b': 1}\n  → space | Space(x=Int(0, 1))",
        ),
        (
            lambda: Int(0, 1).given("module"),
            "conditions map variables to their values, got 'module'\n  → .given(module='BestOfN')",
        ),
        (
            lambda: Int(0, 1).given(a=[[0.5]]),
            "a condition's values are numbers, truth values and texts, got ([0.5],) for a",
        ),
        (
            lambda: Space.from_json("{}"),
            "this is no space's JSON: KeyError: 'variables'",
        ),
        (lambda: Space(a=Int(0, 1)).decode([0.1, 0.2]), "a point has 1 coordinates, got 2"),
        (
            lambda: Space(a=Int(0, 1), b=Bool()).encode({"a": "x"}),
            "this configuration does not fit the space:\n  - a must be a whole number, got 'x'\n  - b is missing",
        ),
    ],
)
def test_what_is_no_part_of_a_space_is_refused(make, message):
    """Other things in the place of definitions, rules, spaces and points say what belongs there."""
    with pytest.raises(VariableError) as caught:
        make()
    assert str(caught.value) == message
