"""A worker that dies costs the task that killed it, and nobody else's."""

from __future__ import annotations

import contextlib
import os
import signal

import pytest
from conformance import Gate, until
from tasks import Rebuild, There, append, die, die_once, long_answer_then_die, nap_and_square, push, square

from dspex.errors import PoisonTaskError, SessionLostError, WorkerCrashedError
from dspex.events import SessionEnded, TaskRetried, WorkerDied, WorkerStarted

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


def test_what_may_be_repeated_is(make_pool, tmp_path, events):
    """An idempotent task whose worker dies is answered by another, and events tell the story."""
    pool = make_pool(workers=2)
    assert pool.submit(die_once, tmp_path / "died").result(TIMEOUT_S) == "well"
    until(lambda: sum(isinstance(each, WorkerStarted) for each in events) >= 2)
    died = [each for each in events if isinstance(each, WorkerDied)]
    assert [(each.kind, each.exit_code, each.expected) for each in died] == [("killed", -9, False)]
    assert [each.kind for each in events if isinstance(each, TaskRetried)] == ["killed"]
    assert pool.stats().retried == 1


def test_what_may_not_be_repeated_is_not(make_pool, tmp_path):
    """A task that is not idempotent fails with its worker, and says how the worker died."""
    pool = make_pool(workers=1)
    with pytest.raises(
        WorkerCrashedError, match=r"the worker died with task \d+: killed \(SIGKILL\)"
    ) as caught:
        pool.submit(die_once, tmp_path / "died", idempotent=False).result(TIMEOUT_S)
    assert type(caught.value) is WorkerCrashedError
    assert (caught.value.kind, caught.value.exit_code) == ("killed", -9)
    assert pool.submit(die_once, tmp_path / "died").result(TIMEOUT_S) == "well"


def test_what_had_not_begun_is_no_loss(make_pool, tmp_path):
    """A task that its worker had not begun is run elsewhere, even if it may not be repeated."""
    pool = make_pool(workers=1)
    pool.submit(append, tmp_path / "log", "a").result(TIMEOUT_S)
    gate = Gate(pool, tmp_path)
    (running,) = gate.fill()
    waiting = [pool.submit(append, tmp_path / "log", "b", idempotent=False) for _ in range(3)]
    os.kill(pool.stats().workers[0].pid, signal.SIGKILL)
    gate.open()
    assert running.result(TIMEOUT_S) == "through"
    assert [each.result(TIMEOUT_S) for each in waiting] == [None] * 3
    assert (tmp_path / "log").read_text() == "abbb"


def test_an_idle_worker_that_dies_is_replaced(make_pool):
    """The death of a worker that does nothing is seen, too."""
    pool = make_pool(workers=2)
    pool.warm()
    until(lambda: [each.state for each in pool.stats().workers] == ["ready"] * 2)
    dead = pool.stats().workers[0].pid
    os.kill(dead, signal.SIGKILL)
    until(lambda: [each.state for each in pool.stats().workers if each.pid != dead] == ["ready"] * 2)
    assert pool.submit(square, 2).result(TIMEOUT_S) == 4


def test_many_kills_lose_nothing(make_pool):
    """With a worker killed again and again, every task is answered once, and rightly."""
    pool = make_pool(workers=2)
    futures = [pool.submit(nap_and_square, k) for k in range(300)]
    kills = 0
    while kills < 6:
        pids = [each.pid for each in pool.stats().workers if each.state == "ready" and each.tasks > 3]
        if pids:
            with contextlib.suppress(ProcessLookupError):  # still being replaced
                os.kill(pids[kills % len(pids)], signal.SIGKILL)
                kills += 1
        if all(each.done() for each in futures):
            break
        until(lambda pids=pids: {each.pid for each in pool.stats().workers} != set(pids))
    assert [each.result(TIMEOUT_S) for each in futures] == [k * k for k in range(300)]
    assert kills >= 3
    assert pool.stats().reconciles


def test_a_worker_killed_in_the_middle_of_a_long_answer(make_pool):
    """A worker that dies while its answer is half sent holds up nobody."""
    pool = make_pool(workers=1, max_result_mib=512)
    future = pool.submit(long_answer_then_die, poison := os.urandom(4))
    assert type(future.exception(TIMEOUT_S)) is PoisonTaskError
    assert poison
    assert pool.submit(square, 2).result(TIMEOUT_S) == 4


# ── sessions ────────────────────────────────────────────────────────────────────────────────────


def test_a_lost_state_is_rebuilt_once(make_pool, tmp_path, events):
    """When its worker dies, a session is built again by `rehydrate`, exactly once for each loss."""
    pool = make_pool(workers=2)
    path = tmp_path / "rebuilt"
    session = pool.session("s", list, rehydrate=Rebuild(path))
    session.call(push, 1)
    for losses in (1, 2):
        os.kill(_pid(pool, session), signal.SIGKILL)
        until(lambda losses=losses: session.stats.lost == losses)
        futures = [session.submit(push, k) for k in range(5)]
        assert [each.result(TIMEOUT_S) for each in futures] == [2, 3, 4, 5, 6]
        assert path.read_text() == "x" * losses
    assert [each.reason for each in events if isinstance(each, SessionEnded)] == ["lost", "lost"]


def _pid(pool, session):
    return next(each.pid for each in pool.stats().workers if each.name == session.stats.worker)


@pytest.mark.parametrize("affinity", ["strict_queue", "strict_fail_fast"])
def test_a_strict_session_says_that_it_is_lost(make_pool, affinity):
    """State without a factory is gone with its worker; calls say so until the session is renewed."""
    pool = make_pool(workers=2)
    session = pool.session("s", affinity=affinity)
    home = session.call(os.getpid)
    assert {session.call(os.getpid) for _ in range(20)} == {home}
    os.kill(home, signal.SIGKILL)
    until(lambda: session.stats.lost == 1)
    with pytest.raises(SessionLostError, match="the worker of session 's' is gone"):
        session.submit(os.getpid)
    session.renew()
    assert session.call(os.getpid) != home


def test_a_hint_moves_on(make_pool):
    """A session that only prefers a worker goes to another when that one is gone."""
    pool = make_pool(workers=2)
    session = pool.session("s", affinity="hint")
    home = session.call(os.getpid)
    os.kill(home, signal.SIGKILL)
    assert session.call(os.getpid) != home


def test_a_hint_does_not_wait(make_pool, tmp_path):
    """A session that only prefers a worker does not wait for it while another is free."""
    pool = make_pool(workers=2)
    gate = Gate(pool, tmp_path)
    session = pool.session("s", affinity="hint")
    pool.warm()
    until(lambda: [each.state for each in pool.stats().workers] == ["ready"] * 2)
    gate.fill(session="s")
    assert session.call(square, 3) == 9
    gate.open()
