"""What holds for every space: of random ones, conditional, with arrays, priors and composites."""

import json
import keyword
import math
import pickle
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspex.variables.base import Bool, Choice, Composite, Embedding, Float, Int, Normal, Probability, Tensor
from dspex.variables.space import Space

LABELS = st.lists(
    st.one_of(st.integers(), st.text(max_size=5), st.none()), min_size=1, max_size=4, unique=True
)
VARIABLES = st.one_of(
    st.tuples(st.integers(-50, 50), st.integers(1, 50)).map(lambda pair: Int(pair[0], sum(pair))),
    st.tuples(st.integers(1, 50), st.integers(1, 50)).map(lambda pair: Int(pair[0], sum(pair), log=True)),
    st.tuples(st.floats(-50, 50), st.floats(0.1, 50)).map(lambda pair: Float(pair[0], sum(pair))),
    st.tuples(st.floats(0.001, 50), st.floats(0.1, 50)).map(lambda pair: Float(pair[0], sum(pair), log=True)),
    st.tuples(LABELS, st.booleans()).map(lambda pair: Choice(pair[0], ordered=pair[1])),
    st.sampled_from(
        [
            Float(0, 1, step=0.1),
            Float(-1, 1, step=0.35),
            Float(0, 2, prior=Normal(0.7, 0.2)),
            Bool(default=True),
            Choice(["a", "b"], weights=[3, 1]),
            Probability(),
            Embedding(3),
            Embedding(9, normalised=True, rank=2),
            Tensor((2, 2), dtype="int", low=0, high=3),
        ]
    ),
)
NAMES = st.from_regex(r"[a-z][a-z0-9]{0,6}(\.[a-z]{1,3})?", fullmatch=True).filter(
    # Formulas are Python's expressions, which have no such names.
    lambda name: not any(keyword.iskeyword(part) for part in name.split("."))
)


@st.composite
def spaces(draw) -> Space:
    """Draw a space in which some variables exist only where an earlier one has some of its values."""
    made: dict = {}
    for name in draw(st.lists(NAMES, min_size=1, max_size=6, unique=True)):
        variable = draw(VARIABLES)
        parents = [each for each, other in made.items() if other.n_values <= 60]
        if parents and draw(st.booleans()):
            parent = draw(st.sampled_from(parents))
            values = made[parent].grid(60)
            variable = variable.given(
                {parent: draw(st.lists(st.sampled_from(values), min_size=1, max_size=3))}
            )
        made[name] = variable
    first = next(iter(made))
    return Space({**made, "z_composite": Composite(f"{first} == {first}")})


SEEDS = st.integers(0, 2**32)


def drawn(space, seed, n=5):
    return space.sample_many(n, random.Random(seed))


def same(one, other):
    """Whether two configurations agree up to rounding."""
    flat = [
        json.loads(json.dumps(each), parse_float=lambda text: round(float(text), 9)) for each in (one, other)
    ]
    return flat[0] == flat[1] or all(
        flat[0][name] == pytest.approx(flat[1][name], rel=1e-6, abs=1e-6)
        for name in flat[0].keys() | flat[1].keys()
    )


@settings(deadline=None)
@given(spaces(), SEEDS)
def test_what_is_drawn_fits_and_is_json(space, seed):
    """Draws, the default and neighbours pass the check, hold no composite, and survive JSON with their key."""
    for configuration in [*drawn(space, seed), space.default(), *space.neighbours(space.default())]:
        space.check(configuration)
        again = json.loads(json.dumps(configuration))
        assert again == configuration
        assert space.key_of(again) == space.key_of(configuration)
        assert space.complete(configuration) == configuration


@settings(deadline=None)
@given(spaces(), SEEDS)
def test_configurations_come_back_from_the_unit_cube(space, seed):
    """Every configuration is a point in the cube, of one length, and the point means the configuration."""
    for configuration in [*drawn(space, seed), space.default()]:
        point = space.encode(configuration)
        assert len(point) == len(space.columns)
        assert all(0 <= place <= 1 for place in point)
        assert same(space.decode(point), configuration)


@settings(deadline=None)
@given(spaces(), SEEDS)
def test_every_point_of_the_cube_is_a_configuration(space, seed):
    """Any point decodes to a configuration that fits."""
    rng = random.Random(seed)
    for point in [[rng.random() for _ in space.columns], *space.bounds()]:
        space.check(space.decode(point))


@settings(deadline=None)
@given(spaces())
def test_spaces_come_back_from_json_and_pickle(space):
    """What is written as JSON or pickled reads as an equal space with the same key."""
    pickled = pickle.loads(pickle.dumps(space))  # noqa: S301  # our own
    for again in (Space.from_json(space.to_json()), pickled):
        assert again == space
        assert again.key == space.key
        assert repr(again) == repr(space)
        assert list(again) == list(space)


@settings(deadline=None, max_examples=30)
@given(spaces(), SEEDS)
def test_spaces_and_configurations_come_back_from_pydantic(space, seed):
    """The model takes every configuration and gives it back; its schema gives the variables back."""
    model = space.to_pydantic()
    for configuration in [*drawn(space, seed), space.default()]:
        said = model.model_validate(configuration)
        assert same(said.configuration(), configuration)
        assert model.model_validate_json(json.dumps(configuration)).configuration() == said.configuration()
    again = Space.from_pydantic(model)
    assert dict(again) == dict(space)


@settings(deadline=None)
@given(spaces(), SEEDS)
def test_order_changes_no_key(space, seed):
    """Definitions in another order make an equal space, and equal keys of configurations."""
    names = list(space.definitions)
    random.Random(seed).shuffle(names)
    shuffled = Space({name: space.definitions[name] for name in names})
    assert shuffled == space
    assert shuffled.key == space.key
    for configuration in drawn(space, seed):
        assert shuffled.key_of(configuration) == space.key_of(configuration)


@settings(deadline=None, max_examples=50)
@given(spaces())
def test_the_count_is_the_number_of_configurations(space):
    """A finite space lists as many different configurations as it counts, and each fits."""
    if space.n_configurations > 3000:
        return
    found = list(space.configurations())
    assert len({space.key_of(each) for each in found}) == len(found) == space.n_configurations
    for configuration in found[:20]:
        space.check(configuration)


@settings(deadline=None)
@given(spaces(), SEEDS)
def test_what_does_not_exist_is_absent(space, seed):
    """A configuration holds exactly the variables whose conditions hold in it."""
    for configuration in drawn(space, seed):
        for name, variable in space.items():
            holds = all(
                parent in configuration and configuration[parent] in values
                for parent, values in variable.when.items()
            )
            assert (name in configuration) == holds


@settings(deadline=None)
@given(spaces())
def test_columns_describe_the_cube(space):
    """A column says whether its variable may be absent; categories count that as one of their own."""
    for column in space.columns:
        variable = space[column.name.partition("[")[0]]
        assert column.conditional == bool(variable.when)
        if variable.width == 1 and variable.n_values < math.inf:
            assert column.n_values - variable.n_values == (
                variable.scale == "categorical" and column.conditional
            )
