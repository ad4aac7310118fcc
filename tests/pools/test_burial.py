"""A worker that dies costs the task that killed it, and nobody else's."""

from __future__ import annotations

import os

import pytest
from tasks import There, die, die_once, long_answer_then_die, nap_and_square, square

from dspex.errors import PoisonTaskError

TIMEOUT_S = 30


@pytest.mark.parametrize(
    ("how", "kind", "cost"),
    [("SIGKILL", "killed", 3), ("SIGSEGV", "segfault", 2), ("exit", "exit", 2), ("abort", "abort", 2)],
)
def test_innocents_survive(make_pool, how, kind, cost):
    """Of 120 tasks around one that kills its workers, each is answered; the killer is tried so often and no more."""
    pool = make_pool(workers=2)
    before = [pool.submit(nap_and_square, k) for k in range(60)]
    killer = pool.submit(die, how)
    after = [pool.submit(nap_and_square, k) for k in range(60, 120)]
    assert [each.result(TIMEOUT_S) for each in before + after] == [k * k for k in range(120)]
    error = killer.exception(TIMEOUT_S)
    assert (type(error), error.kind) == (PoisonTaskError, kind)
    assert f"has cost {cost} workers, the last by {kind}" in str(error)
    with pytest.raises(PoisonTaskError):
        pool.submit(die, how)
    assert pool.submit(die_once, There()).result(TIMEOUT_S) == "well"
    assert pool.stats().crashed == cost


def test_a_worker_killed_in_the_middle_of_a_long_answer(make_pool):
    """A worker that dies while its answer is half sent holds up nobody."""
    pool = make_pool(workers=1, max_result_mib=512)
    future = pool.submit(long_answer_then_die, poison := os.urandom(4))
    assert type(future.exception(TIMEOUT_S)) is PoisonTaskError
    assert poison
    assert pool.submit(square, 2).result(TIMEOUT_S) == 4
