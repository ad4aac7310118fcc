import os
import random
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dspex as dx
from dspex.errors import UnknownNameError, VariableError
from dspex.variables.base import Bool, Choice, Float, Int, Model
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
