import math
import pickle
from dataclasses import FrozenInstanceError

import pytest

from dspex.errors import DefinitionError
from dspex.records import (
    MISSING,
    Change,
    Execution,
    Field,
    Label,
    Objective,
    Outcome,
    Price,
    Prompt,
    Requirements,
    Score,
    Strategy,
    Trial,
    Usage,
)

RECORDS = [
    Prompt("m", "be kind", (("user", "hi"),), 0.5, 10, {"type": "object"}),
    Usage(1, 2, 3, 4.0, 5.0),
    Price(0.15, 0.6),
    Field("answer", "output", float, "float", "a number"),
    Field("tags", "output", list[str], "list[str]", None, ["a"], "Tags!"),
    Strategy("m", "Predict"),
    Objective(),
    Outcome({"answer": 1}, Usage()),
    Execution(
        "x", 1.0, Requirements("QA", "k", 3, 1, False, "low"), Strategy("m", "P"), "policy", {}, True, Usage()
    ),
    Label("x", 1.0, 2.0),
    Change(1, 2.0, "me", "", {"t": 0.5}, {"t": 0.2}),
    Score("c", "e", 0.5),
    Trial(0, {"t": 0.5}, "k", 0.5, 4, 0, Usage(), 1.0, 2.0),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_records_are_frozen_and_cross_process_borders(record):
    """A record cannot be changed, carries no dict, and equals itself after pickling."""
    name = next(iter(record.__slots__))
    with pytest.raises(FrozenInstanceError):
        setattr(record, name, None)
    assert not hasattr(record, "__dict__")
    assert pickle.loads(pickle.dumps(record)) == record  # noqa: S301  # our own bytes


def test_usages_add_up():
    """Usages add field by field."""
    assert Usage(1, 2, 3, 0.5, 1.5) + Usage(10, 20, 30, 0.25, 0.5) == Usage(11, 22, 33, 0.75, 2.0)


def test_price_is_per_million_tokens():
    """A call's cost weighs what goes in and what comes out."""
    assert Price(0.15, 0.6).cost_usd(1_000_000, 500_000) == pytest.approx(0.45)
    assert Price(0.15, 0.6).cost_usd(0, 0) == 0


def test_strategy_reads_well_and_sorts():
    """A strategy names model and module, and strategies have an order."""
    assert str(Strategy("openai/x", "Predict")) == "openai/x · Predict"
    assert sorted([Strategy("b", "A"), Strategy("a", "Z")]) == [Strategy("a", "Z"), Strategy("b", "A")]


def test_outcome_is_ok_without_an_error():
    """An outcome is ok exactly when no error is noted."""
    assert Outcome({"a": 1}, Usage()).ok
    assert not Outcome(None, Usage(), "it broke").ok


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (
            {"quality": 0.9},
            "an objective's weights must be >= 0 and add up to 1, got quality=0.9, speed=0.2, cheapness=0.2",
        ),
        (
            {"quality": 1.2, "speed": -0.2, "cheapness": 0.0},
            "an objective's weights must be >= 0 and add up to 1, got quality=1.2, speed=-0.2, cheapness=0.0",
        ),
        (
            {"quality": math.nan},
            "an objective's weights must be >= 0 and add up to 1, got quality=nan, speed=0.2, cheapness=0.2",
        ),
        ({"half_latency_s": 0.0}, "half_latency_s and half_cost_usd must be > 0, got 0.0 and 0.0005"),
        ({"half_cost_usd": -1.0}, "half_latency_s and half_cost_usd must be > 0, got 2.0 and -1.0"),
        ({"half_latency_s": math.nan}, "half_latency_s and half_cost_usd must be > 0, got nan and 0.0005"),
    ],
)
def test_bad_objectives_are_refused(weights, message):
    """An objective that cannot be weighed says which rule it breaks, with the values."""
    with pytest.raises(DefinitionError) as caught:
        Objective(**weights)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("score", "n_examples", "expected"),
    [(0.5, 100, 0.05), (1.0, 10, 0.0), (0.5, 0, math.inf), (1.5, 10, 0.0)],
)
def test_standard_error_of_a_trial(score, n_examples, expected):
    """A mean of scores in [0, 1] has at most the standard error of a coin; nothing seen is no certainty."""
    trial = Trial(0, {}, "k", score, n_examples, 0, Usage(), 0.0, 1.0)
    assert trial.stderr == pytest.approx(expected)


def test_no_default_is_one_thing_in_every_process():
    """What stands for "no default" is the same object after pickling, and is not None."""
    arrived = pickle.loads(pickle.dumps(Field("a", "input")))  # noqa: S301  # our own bytes
    assert arrived.default is MISSING
    assert repr(arrived.default) == "MISSING"
