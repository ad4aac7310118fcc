"""Workers are replaced when they hang, hold too much, or have served long enough, and nothing is lost by it."""

from __future__ import annotations

import os
import signal
import time

import pytest
from conformance import Gate, until
from tasks import hold, nap_and_square, push, square

from dspex.errors import WorkerMemoryError
from dspex.events import SessionEnded, WorkerDied, WorkerRecycled

TIMEOUT_S = 30


def pids(pool):
    return {each.pid for each in pool.stats().workers if each.state == "ready"}


def test_recycling_loses_nothing(make_pool, events):
    """Workers are replaced after so many tasks while a hundred are under way, and each is answered."""
    pool = make_pool(workers=2, max_tasks=10)
    futures = [pool.submit(nap_and_square, k) for k in range(100)]
    assert [each.result(TIMEOUT_S) for each in futures] == [k * k for k in range(100)]
    until(lambda: pool.stats().recycled >= 2)
    assert {each.reason for each in events if isinstance(each, WorkerRecycled)} == {"tasks"}
    assert pool.stats().crashed == 0


def test_workers_are_replaced_by_age(make_pool, events):
    """A worker that is old enough gives way to a new one, idle or not."""
    pool = make_pool(workers=1, max_age_s=0.3, beat_s=0.05)
    first = pool.submit(os.getpid).result(TIMEOUT_S)
    until(lambda: pids(pool) and first not in pids(pool))
    until(lambda: "age" in {each.reason for each in events if isinstance(each, WorkerRecycled)})


def test_workers_are_replaced_by_what_they_hold(make_pool, events):
    """A worker that has grown is replaced between two tasks, and its session's state is built again."""
    pool = make_pool(workers=1, recycle_mib=150, beat_s=0.05)
    session = pool.session("s", list)
    session.call(push, 1)
    first = pool.submit(os.getpid).result(TIMEOUT_S)
    session.call(hold, 200)
    until(lambda: pids(pool) and first not in pids(pool))
    assert session.call(push, 1) == 1
    until(lambda: "memory" in {each.reason for each in events if isinstance(each, WorkerRecycled)})


def test_state_that_cannot_be_rebuilt_is_not_recycled(make_pool):
    """A worker with a session whose loss is an error is not replaced for its age."""
    pool = make_pool(workers=1, max_tasks=2)
    session = pool.session("s", list, on_loss="fail")
    assert [session.call(push, k) for k in range(8)] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert pool.stats().recycled == 0


def test_idle_workers_are_let_go(make_pool):
    """Workers that nobody needs go, but for the fewest that were asked for, and come back when needed."""
    pool = make_pool(workers=3, min_workers=1, idle_stop_s=0.2, cooldown_s=0.1, beat_s=0.05)
    pool.warm()
    until(lambda: len(pids(pool)) == 3)
    until(lambda: len(pool.stats().workers) == 1)
    futures = [pool.submit(nap_and_square, k) for k in range(50)]
    assert [each.result(TIMEOUT_S) for each in futures] == [k * k for k in range(50)]


def test_workers_come_as_they_are_needed(make_pool, tmp_path):
    """A pool starts no worker before there is work, and only as many as there is work for."""
    gate = Gate(make_pool(workers=4), tmp_path)
    assert gate.pool.stats().workers == ()
    gate.fill(1)
    assert len(gate.pool.stats().workers) == 1
    gate.fill(2)
    assert len(gate.pool.stats().workers) == 3
    gate.open()


def test_a_stopped_worker_is_replaced(make_pool, events):
    """A worker that gives no sign of life and uses no processor is replaced, and its task done by another."""
    pool = make_pool(workers=1, beat_s=0.1, beats_missed=8)
    first = pool.submit(os.getpid).result(TIMEOUT_S)
    future = pool.submit(nap_and_square, 5)
    future.result(TIMEOUT_S)
    os.kill(first, signal.SIGSTOP)
    assert pool.submit(square, 5).result(TIMEOUT_S) == 25
    assert [each.kind for each in events if isinstance(each, WorkerDied)] == ["hung"]
    assert pool.stats().stopped == 1


def test_a_busy_worker_is_left_alone(make_pool):
    """A worker that computes where it cannot show that it lives is working, and not replaced."""
    pool = make_pool(workers=1, beat_s=0.1, beats_missed=8)
    before = pool.submit(os.getpid).result(TIMEOUT_S)
    began = time.monotonic()
    n = 20_000_000
    while time.monotonic() - began < 1.5:  # long enough to miss many beats, whatever the machine
        assert pool.submit(sum, range(n)).result(TIMEOUT_S) == n * (n - 1) // 2
    assert pool.submit(os.getpid).result(TIMEOUT_S) == before


def test_the_watchdog_is_there_where_the_system_sets_no_limit(make_pool):
    """Where a worker cannot limit itself, one that holds too much is replaced, and the task told what it held."""
    pool = make_pool(workers=1, memory_mib=200, device="gpu", beat_s=0.05)
    before = pool.submit(os.getpid).result(TIMEOUT_S)
    with pytest.raises(WorkerMemoryError, match="may hold 200 MiB") as caught:
        pool.submit(hold, [], 400, 5).result(TIMEOUT_S)
    assert caught.value.peak_mib > 200
    assert pool.submit(os.getpid).result(TIMEOUT_S) != before


def test_unused_sessions_expire(make_pool, events):
    """A session that nobody uses is forgotten after its time, with its state."""
    pool = make_pool(workers=1, session_ttl_s=0.2, beat_s=0.05)
    pool.session("s", list).call(push, 1)
    kept = pool.session("kept", list, ttl_s=100)
    until(lambda: list(pool.sessions) == ["kept"])
    assert [each.reason for each in events if isinstance(each, SessionEnded)] == ["expired"]
    assert pool.session("s", list).call(push, 1) == 1
    assert kept.call(push, 1) == 1
