"""Micro-batching: what meets goes together, nothing waits for a timer, and each caller gets his own."""

from __future__ import annotations

import asyncio
import os
import signal
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from conformance import until

from dspex.errors import CancelledError, DefinitionError, PoolSaturatedError
from dspex.pools.batching import Batched

TIMEOUT_S = 30


class Worker:
    """Takes lists, and answers when it is told to."""

    def __init__(self):
        self.lists = []
        self.futures = []

    def __call__(self, items):
        self.lists.append(items)
        self.futures.append(Future())
        return self.futures[-1]

    def answer(self, k, results=None):
        self.futures[k].set_result([10 * item for item in self.lists[k]] if results is None else results)


@pytest.fixture
def worker():
    return Worker()


def test_an_idle_worker_is_given_a_call_at_once(worker):
    """Nothing is under way, so a single call goes out alone, without waiting for others."""
    future = Batched(worker).submit(1)
    assert worker.lists == [[1]]
    worker.answer(0)
    assert future.result(0) == 10


def test_calls_meet_while_the_worker_is_busy(worker):
    """What comes meanwhile goes together, in its order, as many as may, and each gets its own result."""
    batched = Batched(worker, max_batch=3)
    futures = [batched.submit(k) for k in range(6)]
    assert worker.lists == [[0]]
    worker.answer(0)
    assert worker.lists[1:] == [[1, 2, 3]]
    worker.answer(1)
    assert worker.lists[2:] == [[4, 5]]
    assert repr(batched) == "<Batched: 0 calls wait, 1 lists of at most 3 run>"
    worker.answer(2)
    assert [each.result(0) for each in futures] == [0, 10, 20, 30, 40, 50]


def test_several_lists_can_be_under_way(worker):
    """With `at_once=2` a second call need not wait for the first."""
    batched = Batched(worker, at_once=2)
    futures = [batched.submit(k) for k in range(4)]
    assert worker.lists == [[0], [1]]
    worker.answer(1)
    assert worker.lists[2:] == [[2, 3]]
    worker.answer(2)
    worker.answer(0)
    assert [each.result(0) for each in futures] == [0, 10, 20, 30]


def fail_on(bad):
    """Run lists on threads; one with a bad item fails whole."""
    threads = ThreadPoolExecutor(1)

    def work(items):
        if bad & set(items):
            raise ValueError(f"bad: {sorted(bad & set(items))}")
        return [10 * item for item in items]

    return lambda items: threads.submit(work, items)


def test_a_failure_is_its_own_items(worker):
    """One bad item among many is found by halving; its neighbours get their results."""
    batched = Batched(fail_on({5, 11}), max_batch=64)
    futures = [batched.submit(k) for k in range(16)]
    for k, each in enumerate(futures):
        if k in {5, 11}:
            with pytest.raises(ValueError, match=rf"bad: \[{k}\]"):
                each.result(TIMEOUT_S)
        else:
            assert each.result(TIMEOUT_S) == 10 * k


def test_a_result_can_be_an_error(worker):
    """A function that knows which item is bad says so in that item's place, and nothing is tried again."""
    batched = Batched(worker)
    batched.submit(0)
    good, bad = batched.submit(1), batched.submit(2)
    worker.answer(0)
    worker.answer(1, [10, ValueError("no such token")])
    assert good.result(0) == 10
    with pytest.raises(ValueError, match="no such token"):
        bad.result(0)
    assert len(worker.lists) == 2


@pytest.mark.parametrize(("results", "got"), [([1, 2], "2 for 1"), (None, "NoneType for 1")])
def test_a_result_too_few_is_an_error(results, got):
    """A function that does not answer item by item is told what it should return."""
    future = Future()
    future.set_result(results)
    with pytest.raises(DefinitionError, match=f"a list with a result for each item, got {got} items"):
        Batched(lambda items: future)(0)


def test_a_call_that_was_cancelled_is_not_sent(worker):
    """Who no longer waits costs nothing, and the others are not touched."""
    batched = Batched(worker)
    batched.submit(0)
    gone, stays = batched.submit(1), batched.submit(2)
    assert gone.cancel()
    worker.answer(0)
    assert worker.lists == [[0], [2]]
    worker.answer(1)
    assert stays.result(0) == 20


def test_a_list_that_nobody_wants_is_stopped(worker):
    """A running call cannot be taken out of its list; when all of them are unwanted, the list is stopped."""
    batched = Batched(worker)
    batched.submit(0)
    both = [batched.submit(1), batched.submit(2)]
    worker.answer(0)
    assert not both[0].stop()
    assert not worker.futures[1].cancelled()
    assert both[1].stop()
    assert worker.futures[1].cancelled()
    with pytest.raises(CancelledError):
        both[1].result(0)
    after = batched.submit(3)
    worker.answer(2)
    assert after.result(0) == 30


def test_unwanted_calls_are_not_tried_again(worker):
    """If a list fails, only those that somebody waits for are tried once more."""
    batched = Batched(worker)
    batched.submit(0)
    gone, stays = batched.submit(1), batched.submit(2)
    worker.answer(0)
    gone.stop()
    worker.futures[1].set_exception(ValueError("bad"))
    assert worker.lists[2:] == [[2]]
    with pytest.raises(CancelledError, match="the call was stopped"):
        gone.result(0)
    worker.answer(2)
    assert stays.result(0) == 20


def test_too_many_are_refused(worker):
    """A queue has an end, and a worker that cannot be asked fails every call of its list."""
    batched = Batched(worker, queue_limit=2)
    for k in range(3):
        batched.submit(k)
    with pytest.raises(PoolSaturatedError, match="2 calls wait to be batched, and 2 may"):
        batched.submit(3)

    def refuse(items):
        raise PoolSaturatedError("the pool is full")

    with pytest.raises(PoolSaturatedError, match="the pool is full"):
        Batched(refuse)(1)


@pytest.mark.parametrize("option", ["max_batch", "at_once", "queue_limit"])
def test_options_are_checked(worker, option):
    """Each is a number of things, and none of nothing."""
    with pytest.raises(DefinitionError, match=f"{option} must be > 0, got 0"):
        Batched(worker, **{option: 0})


# ── with a pool ─────────────────────────────────────────────────────────────────────────────────


def add_all(state, items):
    state.append(len(items))
    return [(item, os.getpid(), list(state)) for item in items]


def test_calls_meet_in_a_session(make_pool):
    """Single calls of many threads reach one worker with its state, in fewer lists than there are calls."""
    pool = make_pool(workers=1)
    pool.session("s", list)
    batched = pool.batched(add_all, max_batch=8, session="s")
    found = batched.map(range(40))
    assert [each[0] for each in found] == list(range(40))
    assert len({each[1] for each in found}) == 1
    assert found[-1][2] == [8] * 5
    with pytest.raises(DefinitionError, match="a pool runs functions, got 3"):
        pool.batched(3)


def die_with(items):
    if 3 in items:
        os.kill(os.getpid(), signal.SIGSEGV)
    return items


def test_an_item_that_kills_its_worker_kills_no_other(make_pool):
    """Even a crash is one item's own: the rest of its list is answered."""
    pool = make_pool(workers=1)
    batched = pool.batched(die_with, max_batch=4)
    futures = [batched.submit(k) for k in range(6)]
    assert [each.result(TIMEOUT_S) for k, each in enumerate(futures) if k != 3] == [0, 1, 2, 4, 5]
    with pytest.raises(Exception, match="has cost 2 workers"):
        futures[3].result(TIMEOUT_S)


def test_calls_can_be_awaited(make_pool):
    """Many awaiting callers meet in lists too, and need no threads."""
    batched = make_pool(workers=1).batched(list)

    async def ask():
        return await asyncio.gather(*(asyncio.wrap_future(batched.submit(k)) for k in range(50)))

    assert asyncio.run(ask()) == list(range(50))
    until(lambda: repr(batched) == "<Batched: 0 calls wait, 0 lists of at most 32 run>")
