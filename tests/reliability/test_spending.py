"""Spending: right under threads, and a limit that names what was spent."""

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from dspex.errors import BudgetError
from dspex.records import Usage
from dspex.reliability.spending import Spending, check


def limit(usd=None, calls=None, tokens=None):
    return SimpleNamespace(usd=usd, calls=calls, tokens=tokens)


def test_nothing_is_lost_on_many_threads():
    """Four thousand calls on eight threads are four thousand calls."""
    spending = Spending()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: spending.add(f"m{n % 2}", Usage(1, 2, 3, 0.5)), range(4_000)))
    assert spending.total == Usage(4_000, 8_000, 12_000, 2_000.0)
    assert spending.by_model["m0"].calls == 2_000
    assert repr(spending) == "<Spending $2000.000000 on 4000 call(s) and 20000 tokens>"


@pytest.mark.parametrize(
    ("given", "named"),
    [(limit(usd=0.5), r"\$0\.5"), (limit(calls=3), "3 calls"), (limit(tokens=10), "10 tok")],
)
def test_what_is_reached_refuses(given, named):
    """Each limit by itself; one call less is let through."""
    check(given, Usage(2, 4, 5, 0.49), whose="session")
    with pytest.raises(
        BudgetError, match=rf"this session may spend {named}.* and has spent \$0\.5"
    ) as caught:
        check(given, Usage(3, 5, 5, 0.5), whose="session")
    assert caught.value.spent == "$0.500000 on 3 call(s) and 10 tokens"


def test_no_limit_is_no_limit():
    """Neither a missing budget nor an empty one refuses."""
    check(None, Usage(9, 9, 9, 9.0), whose="call")
    check(limit(), Usage(9, 9, 9, 9.0), whose="call")
