import math
import random
import statistics

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dspex.errors import VariableError
from dspex.variables.numeric import Float, Int
from dspex.variables.priors import Normal

FLOATS = [
    Float(-2, 3),
    Float(1e-4, 1, log=True),
    Float(0, 1, step=0.1),
    Float(0, 1, step=0.35),
    Float(0, 1, prior=Normal(0.7, 0.1)),
]
INTS = [Int(0, 8), Int(-5, 5, step=2), Int(1, 1000, log=True), Int(0, 20, prior=Normal(3, 2))]


@pytest.mark.parametrize("variable", [*FLOATS, *INTS], ids=repr)
def test_what_is_encoded_is_decoded(variable):
    """Every value has a place in [0, 1] that means it again, steps and whole numbers exactly."""
    rng = random.Random(0)
    for value in [variable.sample(rng) for _ in range(300)] + variable.grid(7):
        place = variable.encode(value)
        assert 0 <= place <= 1
        assert variable.decode(place) == pytest.approx(value, rel=1e-12, abs=1e-12)
        if variable.n_values < math.inf:
            assert variable.decode(place) == value


@pytest.mark.parametrize("variable", [*FLOATS, *INTS], ids=repr)
def test_every_place_means_a_value(variable):
    """The whole unit interval decodes to allowed values in order, and a little beyond it to the ends."""
    found = [variable.decode(k / 200) for k in range(201)]
    assert found == sorted(found)
    assert {variable.problem_with(value) for value in found} == {None}
    assert variable.decode(1 + 1e-9) == found[-1]
    assert variable.decode(-1e-9) == found[0]


@settings(deadline=None)
@given(st.integers(-1000, 1000), st.integers(1, 1000), st.integers(1, 50), st.booleans())
def test_any_int_is_decoded_exactly(low, width, step, log):
    """Whatever the bounds, the step and the scale, every whole number comes back as itself."""
    assume(step <= width and (low > 0 or not log))
    variable = Int(low, low + width, log=log) if log else Int(low, low + width, step=step)
    for value in variable.grid(width + 1):
        assert variable.decode(variable.encode(value)) == value


def test_a_prior_is_drawn_from():
    """Draws centre on the mean with the prior's spread, and stay in the bounds where it is cut off."""
    rng = random.Random(0)
    variable = Float(0, 2, prior=Normal(0.7, 0.1))
    drawn = [variable.sample(rng) for _ in range(5000)]
    assert statistics.mean(drawn) == pytest.approx(0.7, abs=0.01)
    assert statistics.stdev(drawn) == pytest.approx(0.1, abs=0.01)
    cut = Float(0, 2, prior=Normal(0, 0.5))
    assert 0 <= min(cut.sample(rng) for _ in range(5000)) < 0.01


def test_a_prior_on_a_log_scale_is_normal_in_the_logarithm():
    """The median is the mean that was said, and one deviation a factor."""
    rng = random.Random(0)
    variable = Float(1e-4, 1, log=True, prior=Normal(0.01, math.log(2)))
    logs = [math.log(variable.sample(rng)) for _ in range(5000)]
    assert statistics.mean(logs) == pytest.approx(math.log(0.01), abs=0.03)
    assert statistics.stdev(logs) == pytest.approx(math.log(2), abs=0.03)


def test_a_prior_on_whole_numbers_keeps_them_whole():
    """An Int with a prior is drawn whole, and mostly near the mean."""
    rng = random.Random(0)
    variable = Int(0, 20, prior=Normal(3, 1))
    drawn = [variable.sample(rng) for _ in range(5000)]
    assert {type(value) for value in drawn} == {int}
    assert statistics.mean(drawn) == pytest.approx(3, abs=0.1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Normal(0, 0), "a normal prior needs a finite mean and sd > 0, got mean=0, sd=0"),
        (lambda: Float(0, 1, prior=0.5), "a prior is Normal(mean, sd), got 0.5\n  → Normal(0.7, 0.2)"),
        (
            lambda: Float(0.1, 1, log=True, prior=Normal(-1, 1)),
            "on a log scale a prior needs mean > 0, got mean=-1",
        ),
        (
            lambda: Float(0, 1, prior=Normal(90, 0.1)),
            "the prior Normal(mean=90, sd=0.1) leaves nothing in [0.0, 1.0]",
        ),
    ],
)
def test_bad_priors_are_refused(make, message):
    """A prior that makes no sense is refused when it is written."""
    with pytest.raises(VariableError) as caught:
        make()
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        (Float(0, 1), 0.5, [0.4, 0.6]),
        (Float(0, 1), 0.0, [0.1]),
        (Float(0.01, 1, log=True), 0.1, [0.1 * 100**-0.1, 0.1 * 100**0.1]),
        (Float(0, 1, step=0.25), 0.5, [0.25, 0.75]),
        (Int(0, 4), 0, [1]),
        (Int(0, 100), 50, [40, 49, 51, 60]),
    ],
)
def test_neighbours_are_a_step_or_a_tenth_of_the_scale_away(variable, value, expected):
    """Neighbours lie on both sides and in the bounds; a value is not its own."""
    assert variable.neighbours(value) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        (Float(0, 1), "Float(0.0, 1.0)"),
        (Float(0, 1.5, default=0.7, step=0.1), "Float(0.0, 1.5, default=0.7, step=0.1)"),
        (
            Int(1, 9, log=True).given(module="a", deep=[1, 2]),
            "Int(1, 9, log=True).given(module='a', deep=[1, 2])",
        ),
        (Int(1, 9).given({"plan.module": "a"}), "Int(1, 9).given({'plan.module': 'a'})"),
    ],
)
def test_a_repr_says_what_is_not_usual(variable, expected):
    """The repr is the code that makes it."""
    assert repr(variable) == expected


def test_equal_numbers_are_equal_variables():
    """1 and 1.0 make one Float, by value, hash and repr; a condition makes another."""
    assert (Float(0, 1), hash(Float(0, 1)), repr(Float(0, 1))) == (
        Float(0.0, 1.0),
        hash(Float(0.0, 1.0)),
        repr(Float(0.0, 1.0)),
    )
    assert Float(0, 1).given(a=1) != Float(0, 1)
    assert Float(0, 1).given(a=1) == Float(0, 1, when={"a": [1]})


def test_conditions_add_up():
    """Conditions on other variables are kept, and one named again is replaced."""
    assert Int(0, 1).given(a={"y", "x"}) == Int(0, 1).given(a=["x", "y", "x"])
    assert Int(0, 1).given(a=1).given(b=2).given(a=3).when == {"a": (3,), "b": (2,)}
    with pytest.raises(VariableError, match="a condition needs at least one value, got none for a"):
        Int(0, 1).given(a=[])
