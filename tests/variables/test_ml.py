import random

import pytest

from dspex.errors import VariableError
from dspex.variables.ml import (
    BatchSize,
    Confidence,
    Cost,
    Latency,
    Penalty,
    Probability,
    Temperature,
    TokenCount,
    TopP,
)

KINDS = [BatchSize, Confidence, Cost, Latency, Penalty, Probability, Temperature, TokenCount, TopP]


@pytest.mark.parametrize("kind", KINDS)
def test_usual_bounds_need_not_be_said(kind):
    """Each kind has bounds and a default of its own, and draws within them."""
    variable, rng = kind(), random.Random(0)
    assert {variable.problem_with(variable.sample(rng)) for _ in range(1000)} == {None}
    assert variable.problem_with(variable.default) is None


@pytest.mark.parametrize("kind", [Probability, Confidence])
@pytest.mark.parametrize("value", [-1e-9, 1 + 1e-9, float("nan"), "0.5"])
def test_probabilities_end_at_0_and_1(kind, value):
    """A value the least bit outside of [0, 1] is no probability."""
    assert kind().problem_with(value) is not None
    assert kind().problem_with(0) is kind().problem_with(1.0) is None


@pytest.mark.parametrize(
    ("variable", "default"),
    [
        (Temperature(), 1.0),
        (Temperature(0, 0.5), 0.5),
        (TopP(), 1.0),
        (Penalty(), 0.0),
        (TokenCount(), 1024),
        (TokenCount(1, 100), 100),
        (BatchSize(), 8),
        (Probability(), 0.5),
    ],
)
def test_defaults_change_nothing(variable, default):
    """The default is what providers take when nothing is said, as near as the bounds allow."""
    assert variable.default == default


def test_units_and_scales():
    """Money and time are counted in dollars and seconds on a log scale."""
    assert (Cost.unit, Latency.unit, TokenCount.unit) == ("USD", "s", "tokens")
    assert Cost().log
    assert Latency(1, 10, log=False).encode(5.5) == 0.5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Probability(0, 2), "a probability lies in [0, 1], got low=0, high=2"),
        (lambda: Confidence(-1, 1), "a confidence lies in [0, 1], got low=-1, high=1"),
        (lambda: Temperature(-1, 1), "a temperature is >= 0, got low=-1"),
        (lambda: TopP(0, 1), "top_p is > 0, got low=0"),
        (lambda: BatchSize(0, 4, log=False), "a batch holds at least 1, got low=0"),
        (lambda: Cost(0, 1), "a log scale needs low > 0, got low=0"),
    ],
)
def test_impossible_bounds_are_refused(make, message):
    """Bounds outside of what the kind can be are refused when they are written."""
    with pytest.raises(VariableError) as caught:
        make()
    assert str(caught.value) == message
