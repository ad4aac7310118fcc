"""Hedges: how many there may be, when one is due, and which settings are refused."""

import math
import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from dspex.errors import DefinitionError
from dspex.reliability import HedgeBudget, Reliability
from dspex.reliability.hedging import p95_s, wait_s


def test_one_call_in_ten_is_hedged():
    """Where every call is slow, the first hedge is given and each of the others takes ten calls."""
    budget = HedgeBudget()
    taken = 0
    for _ in range(1_000):
        budget.earn()
        taken += budget.take()
    assert taken == 101


def test_calm_does_not_pay_for_a_storm():
    """A thousand calls that were quick are worth ten hedges at once, and no more."""
    budget = HedgeBudget()
    for _ in range(1_000):
        budget.earn()
    assert [budget.take() for _ in range(11)] == [True] * 10 + [False]
    assert repr(budget) == "<HedgeBudget 0.0 of 10 saved, 10 % of the calls>"


def test_no_hedge_is_spent_twice():
    """Eight threads that want the ten that are saved get ten."""
    budget = HedgeBudget(1.0)
    for _ in range(20):
        budget.earn()
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(lambda _: budget.take(), range(200))) == 10


@pytest.mark.parametrize(("share", "most"), [(0.0, 10.0), (1.5, 10.0), (0.1, 0.5)])
def test_a_budget_that_allows_none_is_refused(share, most):
    """As is one that would ask everything twice and more."""
    with pytest.raises(DefinitionError, match="hedges are a share above 0 and up to 1 of the calls"):
        HedgeBudget(share, most=most)


@pytest.mark.parametrize(("after", "expected"), [(0.5, 0.5), (3, 3), ("p95", 1.5)])
def test_a_hedge_is_due_when_it_was_said_to_be(after, expected):
    """After so many seconds, or once the call takes longer than it was predicted to."""
    assert wait_s(after, 1.5) == expected


@pytest.mark.parametrize("doubt", [0.0, 0.5])
def test_five_calls_in_a_hundred_take_longer_than_expected(doubt):
    """Whether the mean is known well or hardly: its own doubt and the scatter of the calls are both in it."""
    rng = random.Random(0)
    bound = p95_s(2.0, 2.0 * math.exp(1.645 * doubt))
    calls = [2.0 * math.exp(rng.gauss(0, doubt) + rng.gauss(0, 0.4)) for _ in range(20_000)]
    assert sum(each < bound for each in calls) / len(calls) == pytest.approx(0.95, abs=0.01)


@pytest.mark.parametrize("after", [0, -1.0, float("nan"), True, "p99", "0.5"])
def test_what_cannot_be_waited_for_is_refused(after):
    """With what may be given, and what was."""
    with pytest.raises(
        DefinitionError, match=r"hedge_after_s must be above 0, or 'p95', or None for never, got"
    ):
        Reliability(hedge_after_s=after)


def test_nothing_is_hedged_unless_it_is_asked_for():
    """The default is never."""
    assert Reliability().hedge_after_s is None
