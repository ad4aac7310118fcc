import os
import random
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dspex as dx
from dspex.errors import UnknownNameError, VariableError
from dspex.variables.base import Bool, Choice, Composite, Constraint, Float, Int, Model
from dspex.variables.space import Space


@pytest.fixture
def space():
    return Space(
        temperature=Float(0.0, 1.5, default=0.7),
        demos=Int(0, 8),
        strict=Bool(),
        tone=Choice(["brief", "kind"]),
    )


# ── looking at it ───────────────────────────────────────────────────────────────────────────────


def test_a_space_is_a_mapping(space):
    """It knows its variables by name, in the order given."""
    assert list(space) == ["temperature", "demos", "strict", "tone"]
    assert (len(space), "demos" in space, "demoes" in space, 3 in space) == (4, True, False, False)
    assert space["demos"] == Int(0, 8)
    assert space.get("nothing") is None


def test_unknown_variable_names_the_nearest(space):
    """Asking for a variable that is not there is a KeyError that helps."""
    with pytest.raises(UnknownNameError, match=r"did you mean 'temperature'\?") as caught:
        space["temprature"]
    assert isinstance(caught.value, KeyError)


def test_repr_says_kinds_and_size(space):
    """The repr shows every variable's kind and how many values it has."""
    assert repr(space) == (
        "Space(temperature=Float, demos=Int, strict=Bool, tone=Choice; 9 values x 2 values x 2 values x continuous)"
    )


def test_number_of_configurations(space):
    """Sizes multiply; one continuous variable makes it infinite."""
    assert space.n_configurations == float("inf")
    assert Space(demos=Int(0, 8), strict=Bool()).n_configurations == 18


def test_default_is_the_program_as_it_stands(space):
    """The default configuration holds every variable's default and fits the space."""
    assert space.default() == {"temperature": 0.7, "demos": 0, "strict": False, "tone": "brief"}
    space.check(space.default())


def test_any_name_may_be_a_variable():
    """A variable may be called as one of Python's own parameters is."""
    assert Space(**{"self": Int(0, 3), "cls": Bool()}).default() == {"self": 0, "cls": False}  # noqa: PIE804  # a keyword cannot be written


# ── drawing from it ─────────────────────────────────────────────────────────────────────────────

VARIABLES = st.one_of(
    st.tuples(st.integers(-50, 50), st.integers(1, 50)).map(lambda pair: Int(pair[0], pair[0] + pair[1])),
    st.tuples(st.integers(1, 50), st.integers(1, 50)).map(
        lambda pair: Int(pair[0], pair[0] + pair[1], log=True)
    ),
    st.tuples(st.floats(-50, 50), st.floats(0.1, 50)).map(lambda pair: Float(pair[0], pair[0] + pair[1])),
    st.tuples(st.floats(0.001, 50), st.floats(0.1, 50)).map(
        lambda pair: Float(pair[0], pair[0] + pair[1], log=True)
    ),
    st.sampled_from([Float(0, 1, step=0.1), Float(-1, 1, step=0.5), Bool(), Bool(default=True)]),
    st.lists(
        st.one_of(st.integers(), st.text(max_size=5), st.none()), min_size=1, max_size=4, unique=True
    ).map(Choice),
)
SPACES = st.dictionaries(
    st.from_regex(r"[a-z][a-z0-9]{0,6}", fullmatch=True).filter(lambda name: name != "self"),
    VARIABLES,
    min_size=1,
    max_size=5,
)


@settings(deadline=None)
@given(SPACES, st.integers(0, 2**32))
def test_what_is_drawn_passes_the_check(variables, seed):
    """Whatever the space, a sample and the default fit it, and the same seed draws the same."""
    space = Space(**variables)
    drawn = [space.sample(rng) for rng in [random.Random(seed)] for _ in range(5)]
    for configuration in [*drawn, space.default()]:
        space.check(configuration)
    again = random.Random(seed)
    assert [space.sample(again) for _ in range(5)] == drawn


@settings(deadline=None)
@given(SPACES, st.integers(0, 2**32))
def test_keys_do_not_depend_on_order(variables, seed):
    """Variables and values in another order have the same keys."""
    names = list(variables)
    random.Random(seed).shuffle(names)
    space, shuffled = Space(**variables), Space(**{name: variables[name] for name in names})
    configuration = space.sample(random.Random(seed))
    assert shuffled.key == space.key
    assert shuffled.key_of({name: configuration[name] for name in names}) == space.key_of(configuration)


def test_candidates_are_every_combination():
    """All grids are crossed, the last variable turning fastest."""
    space = Space(demos=Int(0, 2, step=2), tone=Choice(["brief", "kind"]))
    assert list(space.candidates()) == [
        {"demos": 0, "tone": "brief"},
        {"demos": 0, "tone": "kind"},
        {"demos": 2, "tone": "brief"},
        {"demos": 2, "tone": "kind"},
    ]


@pytest.mark.parametrize(("resolution", "expected"), [(1, 4), (2, 16), (3, 36), (5, 100)])
def test_resolution_sets_the_number_of_candidates(space, resolution, expected):
    """Numbers get as many values as asked for; truth values and labels all of theirs."""
    found = list(space.candidates(resolution))
    assert len(found) == expected
    for configuration in found:
        space.check(configuration)


def test_a_huge_grid_is_walked_lazily():
    """The first candidate of a huge space costs no more than its grids."""
    space = Space(**{f"v{number}": Int(0, 100) for number in range(20)})
    assert next(space.candidates(100)) == space.default()


# ── checking ────────────────────────────────────────────────────────────────────────────────────


def test_every_failure_is_listed_at_once(space):
    """Unknown, missing and misfitting values come in one message."""
    with pytest.raises(VariableError) as caught:
        space.check({"temprature": 1, "temperature": 2.5, "demos": 2.5, "tone": "brief"})
    assert str(caught.value) == (
        "this configuration does not fit the space:\n"
        "  - temprature is not a variable of this space (did you mean 'temperature'?)\n"
        "  - temperature must be in [0, 1.5], got 2.5\n"
        "  - demos must be a whole number, got 2.5\n"
        "  - strict is missing"
    )


def test_names_of_any_type_are_reported():
    """A name that is no text is an unknown variable, not a crash."""
    with pytest.raises(VariableError, match="3 is not a variable of this space"):
        Space(demos=Int(0, 8)).check({3: 1, "demos": 0})


# ── what does not always exist ───────────────────────────────────────────────────────────────────


@pytest.fixture
def conditional():
    return Space(
        module=Choice(["Predict", "BestOfN", "ReAct"]),
        n=Int(2, 4).given(module="BestOfN"),
        tools=Choice(["few", "many"]).given(module="ReAct"),
        steps=Int(1, 2).given(tools="many"),
    )


def test_only_what_exists_is_in_a_configuration(conditional):
    """Inactive variables are absent from every configuration, and the count is exact."""
    found = [tuple(each.values()) for each in conditional.configurations()]
    assert found == [
        ("Predict",),
        ("BestOfN", 2),
        ("BestOfN", 3),
        ("BestOfN", 4),
        ("ReAct", "few"),
        ("ReAct", "many", 1),
        ("ReAct", "many", 2),
    ]
    assert conditional.n_configurations == 7
    assert list(conditional.candidates(2)) == [
        each for each in conditional.configurations() if each.get("n") != 3
    ]
    assert conditional.conditional == {"n", "tools", "steps"}
    assert conditional.order.index("tools") < conditional.order.index("steps")


def test_settings_of_what_does_not_exist_are_refused(conditional):
    """A value where nothing exists says what it hangs on and how that stands."""
    with pytest.raises(VariableError) as caught:
        conditional.check({"module": "Predict", "n": 3, "steps": 1})
    assert sorted(str(caught.value).splitlines()) == [
        "  - n exists only when module = BestOfN; module is 'Predict'",
        "  - steps exists only when tools = many; tools does not exist",
        "this configuration does not fit the space:",
    ]


def test_what_hangs_on_a_mistake_is_not_judged(conditional):
    """A misspelt choice is one failure, not also one of everything under it."""
    with pytest.raises(VariableError) as caught:
        conditional.check({"module": "BestOf", "n": 3})
    assert str(caught.value).splitlines()[1:] == [
        "  - module must be one of 'Predict', 'BestOfN', 'ReAct', got 'BestOf' (did you mean 'BestOfN'?)"
    ]


def test_what_is_left_out_is_filled_in(conditional):
    """Defaults are filled in for what exists under the values given."""
    assert conditional.complete({"module": "ReAct", "tools": "many"}) == {
        "module": "ReAct",
        "tools": "many",
        "steps": 1,
    }
    with pytest.raises(VariableError, match="n exists only when"):
        conditional.complete({"n": 3})


def test_neighbours_differ_in_one_value(conditional):
    """A neighbour changes one variable; what that brings into existence has its default."""
    near = list(conditional.neighbours({"module": "BestOfN", "n": 3}))
    assert near == [
        {"module": "Predict"},
        {"module": "ReAct", "tools": "few"},
        {"module": "BestOfN", "n": 2},
        {"module": "BestOfN", "n": 4},
    ]


def test_the_inactive_are_a_category_of_their_own(conditional):
    """In the unit cube an absent label is one bin more, an absent number stands in the middle."""
    assert [tuple(column) for column in conditional.columns] == [
        ("module", "categorical", 3, False),
        ("n", "ordered", 3, True),
        ("tools", "categorical", 3, True),
        ("steps", "ordered", 2, True),
    ]
    assert conditional.encode({"module": "Predict"}) == pytest.approx([1 / 6, 0.5, 5 / 6, 0.5])
    assert conditional.encode({"module": "ReAct", "tools": "many", "steps": 2}) == pytest.approx(
        [5 / 6, 0.5, 0.5, 0.75]
    )
    assert conditional.bounds() == [[0.0] * 4, [1.0] * 4]


def test_too_many_to_count_are_bounded():
    """Where a condition hangs on very many values, the count is an upper bound, found at once."""
    space = Space(x=Int(0, 10**9), y=Int(1, 3).given(x=5), z=Bool())
    assert space.n_configurations == (10**9 + 1) * 3 * 2


def test_a_continuous_variable_that_chooses_is_counted_as_endless():
    """Conditions on numbers hold for the numbers named."""
    space = Space(x=Int(0, 2), y=Float(0, 1).given(x=[1, 2]))
    assert space.n_configurations == float("inf")
    assert [set(each) for each in space.candidates(2)] == [{"x"}, *[{"x", "y"}] * 2]
    with pytest.raises(VariableError, match="a continuous variable has no last value: y"):
        space.configurations()


# ── rules ───────────────────────────────────────────────────────────────────────────────────────


def test_every_broken_rule_is_listed_with_its_values():
    """A configuration is told each rule it breaks, and what the rule saw."""
    space = Space(a=Int(0, 9), b=Int(0, 9), constraints=["a < b", Constraint("small", lambda a: a < 5)])
    with pytest.raises(VariableError) as caught:
        space.check({"a": 7, "b": 3})
    assert str(caught.value) == (
        "this configuration does not fit the space:\n"
        "  - the constraint 'a < b' does not hold for a=7, b=3\n"
        "  - the constraint 'small' does not hold for a=7"
    )
    assert space.breaks({"a": 7, "b": 3}).name == "a < b"
    assert space.breaks({"a": 1, "b": 3}) is None


def test_rules_hold_for_whatever_is_drawn_counted_or_near():
    """Samples, walks, counts and neighbours all keep the rules."""
    space = Space(a=Int(0, 3), b=Int(0, 3, default=1), constraints=["a < b"])
    assert {each["a"] < each["b"] for each in space.sample_many(200, random.Random(0))} == {True}
    assert space.n_configurations == len(list(space.configurations())) == 6
    assert list(space.neighbours({"a": 0, "b": 1})) == [{"a": 0, "b": 2}]


def test_an_infeasible_space_names_the_rule_that_failed_most():
    """Drawing gives up after as many attempts as were allowed."""
    attempts = []

    def never(a):
        attempts.append(a)
        return a > 8

    space = Space(
        a=Int(0, 9),
        b=Int(0, 9),
        constraints=[Constraint("a is large", never), Constraint("b is larger", "b > a + 9")],
    )
    with pytest.raises(VariableError) as caught:
        space.sample(random.Random(0), max_attempts=50)
    assert len(attempts) == 50
    assert caught.value.message.startswith(
        "no configuration kept the constraints in 50 attempts; 'a is large' failed most"
    )
    with pytest.raises(VariableError, match="'b is larger' failed most"):
        space.freeze(a=9).sample(random.Random(0), max_attempts=5)
    with pytest.raises(VariableError, match="in 20 attempts"):
        space.repair({"a": 0, "b": 0}, random.Random(0), max_attempts=20)


def test_repairs_change_only_what_the_broken_rules_read():
    """A repaired configuration keeps the rules, and what no broken rule reads stays as it was."""
    space = Space(a=Int(0, 9), b=Int(0, 9), c=Int(0, 9), total=Composite("a + b"), constraints=["total <= 6"])
    for seed in range(20):
        mended = space.repair({"a": 9, "b": 9, "c": 7}, random.Random(seed))
        space.check(mended)
        assert mended["c"] == 7
    assert space.repair({"a": 1, "b": 2, "c": 7}, random.Random(0)) == {"a": 1, "b": 2, "c": 7}


def test_defaults_must_keep_the_rules():
    """A space whose defaults break a rule says so when they are asked for."""
    with pytest.raises(VariableError, match="'a < b' does not hold for a=0, b=0"):
        Space(a=Int(0, 3), b=Int(0, 3), constraints=["a < b"]).default()


# ── identity ────────────────────────────────────────────────────────────────────────────────────


def test_key_of_a_configuration_tells_values_apart():
    """True is not 1, and "1" is not 1."""
    space = Space(x=Choice([1, "1", None]), y=Bool())
    configurations = list(space.candidates())
    assert len({space.key_of(configuration) for configuration in configurations}) == 6
    other = Space(x=Choice([True, "True"]))
    assert other.key_of({"x": True}) != other.key_of({"x": "True"})


def test_equal_numbers_have_equal_keys():
    """For a real number, 1 and 1.0 are one configuration: it must not be evaluated twice."""
    space = Space(temperature=Float(0, 1))
    assert space.key_of({"temperature": 1}) == space.key_of({"temperature": 1.0})


def test_key_of_a_space_follows_its_content(space):
    """Bounds, defaults, labels and kinds change the key."""
    keys = {
        Space(x=variable).key
        for variable in (
            Float(0, 1),
            Float(0, 2),
            Float(0, 1, default=0.1),
            Float(0, 1, step=0.5),
            Int(0, 1),
            Choice(["a"]),
            Model(["a"]),
            Choice(["a", "b"]),
            Choice(["a", "b"], default="b"),
        )
    }
    assert len(keys) == 9
    assert Space(y=Float(0, 1)).key not in keys


@pytest.mark.process
def test_keys_are_the_same_in_every_process():
    """The hash seed of a process reaches neither key."""
    code = (
        "import dspex as dx\n"
        "space = dx.Space(t=dx.Float(0, 1.5), d=dx.Int(0, 8), c=dx.Choice(['x', 'y']), m=dx.Model(['a/b']))\n"
        "print(space.key, space.key_of({'t': 0.3, 'd': 2, 'c': 'y', 'm': 'a/b'}))"
    )
    keys = {
        subprocess.run(
            [sys.executable, "-c", code],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout.strip()
        for seed in ("0", "1")
    }
    space = dx.Space(t=dx.Float(0, 1.5), d=dx.Int(0, 8), c=dx.Choice(["x", "y"]), m=dx.Model(["a/b"]))
    assert keys == {f"{space.key} {space.key_of({'m': 'a/b', 'c': 'y', 'd': 2, 't': 0.3})}"}


# ── bad definitions ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({}, "a space needs at least one variable, got none\n  → Space(temperature=Float(0, 1))"),
        (
            {"a": 3, "b": Int(0, 1), "c": [1, 2]},
            (
                "this space is not well formed:\n  - a must be a variable, got 3\n  - c must be a variable, got [1, 2]"
                "\n  → use Float, Int, Bool, Choice, Model or Module"
            ),
        ),
        (
            {"a": Float},
            (
                f"this space is not well formed:\n  - a must be a variable, got {Float!r}"
                "\n  → use Float, Int, Bool, Choice, Model or Module"
            ),
        ),
    ],
)
def test_bad_spaces_are_refused(variables, message):
    """What is no variable is named, all at once."""
    with pytest.raises(VariableError) as caught:
        Space(**variables)
    assert str(caught.value) == message
