import math
import random
from collections import Counter

import dspy
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dspex.errors import DspexError, VariableError
from dspex.variables.base import Bool, Choice, Float, Int, Model, Module

N = 10_000


def draws(variable, n=N, seed=0):
    rng = random.Random(seed)
    return [variable.sample(rng) for _ in range(n)]


def largest_gap(values):
    """Return the largest gap between the values' distribution and the uniform one on [0, 1] (Kolmogorov-Smirnov)."""
    ordered = sorted(values)
    return max(
        max((k + 1) / len(ordered) - value, value - k / len(ordered)) for k, value in enumerate(ordered)
    )


# At n = 10 000, the Kolmogorov-Smirnov statistic exceeds 1.63 / sqrt(n) with a chance of 1 %.
KS_LIMIT = 1.63 / math.sqrt(N)


# ── numbers ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "variable",
    [
        Float(0, 1),
        Float(-3.5, 2.25),
        Float(0, 1, step=0.25),
        Float(0, 1, step=0.4),
        Float(0, 1, step=0.6),
        Float(0, 1, step=0.35),
        Float(-1, 1, step=0.1),
        Float(1e-4, 1, log=True),
        Int(0, 8),
        Int(-5, 5),
        Int(0, 9, step=4),
        Int(1, 1000, log=True),
        Bool(),
        Choice(["brief", "kind", 3, None]),
        Model(["a/x", "b/y"]),
        Module(["Predict", "ChainOfThought"]),
    ],
    ids=repr,
)
def test_what_is_drawn_is_allowed(variable):
    """10 000 samples, the grid and the default all pass the variable's own check, and samples are of one type."""
    values = draws(variable)
    assert {variable.problem_with(value) for value in values} == {None}
    for resolution in (1, 2, 3, 5, 100):
        grid = variable.grid(resolution)
        assert {variable.problem_with(value) for value in grid} == {None}
        assert len(grid) == len(set(grid)) > 0
    assert variable.problem_with(variable.default) is None
    if isinstance(variable, Float):
        assert {type(value) for value in values} <= {float, int}
    if isinstance(variable, Int):
        assert {type(value) for value in values} == {int}


@settings(deadline=None)
@given(st.floats(-1e3, 1e3), st.floats(0.01, 1e3), st.floats(0.001, 1), st.integers(0, 2**32))
def test_any_stepped_float_stays_on_its_steps(low, width, share, seed):
    """Whatever the bounds and the step, samples, grid and default are on a step and within the bounds."""
    step = share * width
    assume(0 < step <= (low + width) - low)
    variable = Float(low, low + width, step=step)
    for value in [*draws(variable, 30, seed), *variable.grid(7), variable.default]:
        assert variable.problem_with(value) is None


@settings(deadline=None)
@given(st.integers(-1000, 1000), st.integers(1, 1000), st.integers(1, 50), st.integers(0, 2**32))
def test_any_stepped_int_stays_on_its_steps(low, width, step, seed):
    """Whatever the bounds and the step, samples, grid and default are on a step and within the bounds."""
    assume(step <= width)
    variable = Int(low, low + width, step=step)
    for value in [*draws(variable, 30, seed), *variable.grid(7), variable.default]:
        assert variable.problem_with(value) is None


def test_float_is_uniform():
    """Samples spread evenly over the range."""
    assert largest_gap([(value + 2) / 5 for value in draws(Float(-2, 3))]) < KS_LIMIT


def test_log_float_is_uniform_in_its_logarithm():
    """On a log scale every decade gets the same share."""
    values = draws(Float(1e-4, 1, log=True))
    assert largest_gap([math.log10(value) / 4 + 1 for value in values]) < KS_LIMIT


def test_log_int_is_uniform_in_its_logarithm():
    """On a log scale each whole number has the share that its unit interval has of the logarithm."""
    counts, whole = Counter(draws(Int(1, 100, log=True))), math.log(100.5) - math.log(0.5)
    for value in (1, 2, 3, 10, 100):
        share = (math.log(value + 0.5) - math.log(value - 0.5)) / whole
        assert abs(counts[value] / N - share) < 4 * math.sqrt(share * (1 - share) / N) + 1e-3


@pytest.mark.parametrize(
    "variable",
    [Int(0, 4), Int(0, 8, step=2), Bool(), Choice(["a", "b", "c"]), Float(0, 1, step=0.25)],
    ids=repr,
)
def test_values_are_equally_likely(variable):
    """Every value is drawn as often as any other, those at the ends included."""
    counts, n = Counter(draws(variable)), variable.n_values
    assert len(counts) == n
    for count in counts.values():
        assert abs(count / N - 1 / n) < 4 * math.sqrt(1 / n * (1 - 1 / n) / N)


@pytest.mark.parametrize(
    ("variable", "resolution", "expected"),
    [
        (Float(0, 1), 5, [0, 0.25, 0.5, 0.75, 1]),
        (Float(0, 1, default=0.3), 1, [0.3]),
        (Float(0.01, 1, log=True), 3, [0.01, 0.1, 1]),
        (Float(0, 1, step=0.5), 5, [0, 0.5, 1]),
        (Float(0, 1, step=0.4), 5, [0, 0.4, 0.8]),
        (Int(0, 3), 5, [0, 1, 2, 3]),
        (Int(0, 100), 5, [0, 25, 50, 75, 100]),
        (Int(0, 9, step=4), 5, [0, 4, 8]),
        (Bool(), 5, [False, True]),
        (Choice(["b", "a"]), 1, ["b", "a"]),
    ],
)
def test_grid(variable, resolution, expected):
    """The grid holds every value where there are few, and evenly spaced ones from end to end otherwise."""
    assert variable.grid(resolution) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        (Float(0, 1), 0.5),
        (Float(0, 1, default=0), 0),
        (Float(0.01, 1, log=True), 0.1),
        (Float(0, 1, step=0.4), 0.4),
        (Int(3, 9), 3),
        (Int(3, 9, default=4), 4),
        (Int(0, 9, default=0), 0),
        (Bool(), False),
        (Bool(default=True), True),
        (Choice(["b", "a"]), "b"),
        (Choice(["b", "a"], default="a"), "a"),
        (Choice([1, 0], default=0), 0),
        (Choice([None, "a"]), None),
    ],
)
def test_default(variable, expected):
    """What is left out stands for the middle, the low end, or the first option."""
    assert variable.default == pytest.approx(expected)


def test_float_default_left_out():
    """None is "left out" for a Float as it is for an Int."""
    assert Float(0, 1, default=None).default == 0.5


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        (Float(0, 1), math.inf),
        (Float(0, 1, step=0.1), 11),
        (Float(0, 1, step=0.4), 3),
        (Int(0, 8), 9),
        (Int(0, 9, step=4), 3),
        (Bool(), 2),
        (Choice(["abc"]), 1),
        (Choice(["a", "b"]), 2),
    ],
)
def test_number_of_values(variable, expected):
    """A continuous variable has infinitely many values, every other one a count."""
    assert variable.n_values == expected


@pytest.mark.parametrize(
    ("variable", "value", "problem"),
    [
        (Float(0, 1), 1.5, "must be in [0, 1], got 1.5"),
        (Float(0, 1), -1e-9, "must be in [0, 1], got -1e-09"),
        (Float(0, 1), math.inf, "must be in [0, 1], got inf"),
        (Float(0, 1), math.nan, "must be a number, got nan"),
        (Float(0, 1), "0.5", "must be a number, got '0.5'"),
        (Float(0, 1), True, "must be a number, got True"),
        (Float(0, 1), None, "must be a number, got None"),
        (Float(0, 1, step=0.25), 0.3, "must be 0 plus a multiple of 0.25, got 0.3"),
        (Int(0, 8), 9, "must be in [0, 8], got 9"),
        (Int(0, 8), 4.0, "must be a whole number, got 4.0"),
        (Int(0, 8), True, "must be a whole number, got True"),
        (Int(0, 8, step=2), 3, "must be 0 plus a multiple of 2, got 3"),
        (Bool(), 1, "must be True or False, got 1"),
        (Bool(), "true", "must be True or False, got 'true'"),
        (
            Choice(["brief", "kind"]),
            "breif",
            "must be one of 'brief', 'kind', got 'breif' (did you mean 'brief'?)",
        ),
        (Choice([1, 2]), True, "must be one of 1, 2, got True"),
        (Choice([True, False]), 1, "must be one of True, False, got 1"),
        (Choice([1, 2]), 9, "must be one of 1, 2, got 9"),
    ],
)
def test_problems_are_named(variable, value, problem):
    """A value that does not fit says the rule and the value."""
    assert variable.problem_with(value) == problem


@pytest.mark.parametrize("value", [1 + 1e-9, 1.0000001])
def test_a_value_just_outside_is_shown_as_it_is(value):
    """A message never says that 1 is not in [0, 1]."""
    assert repr(value) in Float(0, 1).problem_with(value)


@pytest.mark.parametrize(
    ("variable", "value"),
    [(Float(0, 1), 1), (Float(0, 1, step=0.1), 0.30000000000000004), (Choice([1.5]), 1.5)],
)
def test_numbers_that_fit(variable, value):
    """Whole numbers are real numbers, and a step need not be exact in binary."""
    assert variable.problem_with(value) is None


# ── labels ──────────────────────────────────────────────────────────────────────────────────────


def test_labels_stand_for_objects():
    """A dict gives any object a label; the configuration holds the label."""
    tool = object()
    variable = Choice({"search": tool, "none": None}, default="none")
    assert (variable.default, variable.resolve("search"), variable.resolve("none")) == ("none", tool, None)
    assert repr(variable) == "Choice(['search', 'none'], default='none')"
    assert Choice(["a", 2]).resolve(2) == 2


def test_default_may_be_none_where_none_is_an_option():
    """None as an option can be the default, wherever it stands."""
    assert Choice(["a", None], default=None).default is None


def test_model_labels():
    """A model goes by its name, whether given as a name or as a `dspy.LM`."""
    lm = dspy.LM("openai/gpt-4o-mini", api_key="test")
    variable = Model([lm, "sandbox/small"])
    assert list(variable.options) == ["openai/gpt-4o-mini", "sandbox/small"]
    assert variable.resolve("openai/gpt-4o-mini") is lm
    assert "test" not in repr(variable)


def careful(signature):
    return dspy.ChainOfThought(signature)


class Custom(dspy.Module):
    """A module of the user's own."""


def test_module_labels():
    """A module goes by DSPy's name, an import string, or its class's or function's own name."""
    variable = Module(["Predict", "dspy:ChainOfThought", Custom, careful])
    assert variable.options == {
        "Predict": dspy.Predict,
        "dspy:ChainOfThought": dspy.ChainOfThought,
        "Custom": Custom,
        "careful": careful,
    }
    assert Module({"slow": dspy.ChainOfThought, "fast": "Predict"}).resolve("fast") is dspy.Predict


def test_equal_choices_are_equal():
    """Choices compare and hash by what they say, and a Model is no Choice."""
    assert Choice(["a", "b"]) == Choice(["a", "b"])
    assert hash(Choice(["a", "b"])) == hash(Choice(["a", "b"]))
    assert Choice(["a", "b"]) != Choice(["a", "b"], default="b")
    assert Choice(["a"]) != Model(["a"])


# ── bad definitions ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Float(3, 1), "low must be < high, got low=3, high=1\n  → swap them?"),
        (lambda: Float(1, 1), "low must be < high, got low=1, high=1"),
        (lambda: Float(math.nan, 1), "low must be a finite number, got nan"),
        (lambda: Float(0, math.inf), "high must be a finite number, got inf"),
        (lambda: Float("0", 1), "low must be a finite number, got '0'"),
        (lambda: Float(False, 1), "low must be a finite number, got False"),
        (lambda: Float(0, 1, default=2), "the default must be in [0, 1], got 2"),
        (lambda: Float(0, 1, default="x"), "the default must be a number, got 'x'"),
        (lambda: Float(0, 1, default=0.3, step=0.5), "the default must be 0 plus a multiple of 0.5, got 0.3"),
        (lambda: Float(0, 1, step=0), "step must be in (0, high - low], got step=0 with high - low = 1"),
        (lambda: Float(0, 1, step=2), "step must be in (0, high - low], got step=2 with high - low = 1"),
        (lambda: Float(0, 1, step="x"), "step must be a number, got 'x'"),
        (lambda: Float(0, 1, log=True), "a log scale needs low > 0, got low=0"),
        (lambda: Float(1, 9, log=True, step=1), "a log scale has no step, got step=1"),
        (lambda: Int(0.5, 3), "an Int's low must be a whole number, got 0.5"),
        (lambda: Int(0, True), "an Int's high must be a whole number, got True"),
        (lambda: Int(0, 8, step=0.5), "an Int's step must be a whole number, got 0.5"),
        (lambda: Int(5, 0), "low must be < high, got low=5, high=0\n  → swap them?"),
        (lambda: Int(0, 8, step=9), "step must be in (0, high - low], got step=9 with high - low = 8"),
        (lambda: Int(0, 8, default=9), "the default must be in [0, 8], got 9"),
        (lambda: Int(0, 8, default="3"), "the default must be a whole number, got '3'"),
        (lambda: Int(0, 8, log=True), "a log scale needs low > 0, got low=0"),
        (lambda: Int(1, 8, log=True, step=2), "a log scale has no step, got step=2"),
        (lambda: Bool(default=1), "the default must be True or False, got 1"),
        (lambda: Choice([]), "a Choice needs at least one option, got none"),
        (lambda: Choice({}), "a Choice needs at least one option, got none"),
        (lambda: Choice("abc"), "options must be a list, got the text 'abc'\n  → write ['abc']"),
        (lambda: Choice(["a", "b", "a"]), "options must differ, got a more than once"),
        (lambda: Choice(["a"], default="b"), "the default must be one of 'a', got 'b'"),
        (
            lambda: Choice([[1]]),
            "an option that is no number, truth value or text needs a label, got [1]\n  → give a dict: {'label': object}",
        ),
        (lambda: Model([]), "a Model needs at least one option, got none"),
        (lambda: Model([3]), "a model is a name such as 'openai/gpt-4o-mini' or a dspy.LM, got 3"),
        (lambda: Model([""]), "a model is a name such as 'openai/gpt-4o-mini' or a dspy.LM, got ''"),
        (lambda: Model({"a": 3}), "a model is a name such as 'openai/gpt-4o-mini' or a dspy.LM, got 3"),
    ],
)
def test_bad_definitions_are_refused(make, message):
    """A variable that makes no sense is refused when it is written, with the rule and the values."""
    with pytest.raises(VariableError) as caught:
        make()
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "make", [lambda: Choice(5), lambda: Choice({("a",): 1}), lambda: Choice({"a": 1, 2.5j: 2})]
)
def test_labels_must_fit_a_configuration(make):
    """What is no list, or a label that JSON cannot hold, is refused at the definition too."""
    with pytest.raises(VariableError):
        make()


def test_bad_modules_are_listed_together():
    """Every option that is no module is reported, with what is wrong with it."""
    with pytest.raises(VariableError) as caught:
        Module(["Predikt", "nowhere:X", "json:JSONDecoder", "json:nothing", "Predict"])
    message = str(caught.value)
    assert message.startswith("every option must be a module:\n  - unknown DSPy module 'Predikt'; known: ")
    for part in (
        "did you mean 'Predict'?",
        "  - cannot import the module 'nowhere:X': No module named 'nowhere'",
        "  - a module must be a dspy.Module class, got JSONDecoder",
        "  - cannot import the module 'json:nothing': module 'json' has no attribute 'nothing'",
    ):
        assert part in message


@pytest.mark.parametrize("option", [":X", ".relative:X", "json:", 5, "LM", "Example"])
def test_bad_module_is_a_definition_error(option):
    """However a module is misnamed, the message is ours."""
    with pytest.raises(DspexError):
        Module([option])
