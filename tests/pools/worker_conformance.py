"""What every engine must do whose workers are other processes. Inherit from `WorkerConformance`."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time

import pytest
from conformance import EngineConformance, Gate, until
from tasks import (
    HoldingError,
    PickyError,
    Rebuild,
    Unreadable,
    append,
    die,
    die_once,
    environment,
    fail,
    fork_and_go_on,
    nap_and_square,
    note,
    print_for_ever,
    push,
    raise_,
    raise_holding,
    raise_hopeless,
    raise_picky,
    refuse,
    speak,
    square,
    use_a_pool,
)

from dspex import redact
from dspex.errors import (
    CancelledError,
    CircuitOpenError,
    PoisonTaskError,
    PoolError,
    PoolSaturatedError,
    RemoteError,
    SessionLostError,
    ShippingError,
    TaskTimeoutError,
    WorkerCrashedError,
)
from dspex.events import PoolBreakerTurned, SessionEnded, TaskRetried, WorkerDied, WorkerStarted
from dspex.pools import state
from dspex.pools.output import sink

TIMEOUT_S = 30


def lose_workers(pool, n):
    """Have so many tasks cost their workers, one after the other."""
    for _ in range(n):
        with pytest.raises(WorkerCrashedError):
            pool.submit(die, "SIGKILL", idempotent=False).result(TIMEOUT_S)


def pid_of(pool):
    return pool.submit(os.getpid, timeout_s=None).result(TIMEOUT_S)


class WorkerConformance(EngineConformance):
    """Calls travel, what is printed comes home, and the death of a worker costs one task at most."""

    killed = ("killed", -9)
    """What is known of a worker that was killed: its kind, and its exit code."""

    @pytest.fixture
    def pool(self, make):
        made = make(workers=1, memory_mib=512, max_result_mib=8, grace_s=0.3)
        made.submit(environment, ()).result(TIMEOUT_S)  # what the tasks stand in is imported
        return made

    # ── travelling ──────────────────────────────────────────────────────────────────────────────

    def test_an_argument_that_cannot_travel(self, pool):
        """The error says which argument of the call it is, by place or by name, and where in it."""
        with pytest.raises(ShippingError) as caught:
            pool.submit(square, 1, {"nested": [1, threading.Lock()]})
        assert str(caught.value).splitlines()[0] == (
            "an argument cannot travel to another process: args[1]['nested'][1] is a lock: "
            "cannot pickle '_thread.lock' object"
        )
        with pytest.raises(ShippingError, match=r"process: x\['nested'\]\[1\] is a lock: cannot pickle"):
            pool.submit(square, x={"nested": [1, threading.Lock()]})
        assert pool.submit(square, 2).result(TIMEOUT_S) == 4

    def test_a_function_that_cannot_travel(self, pool):
        """A closure over something that cannot travel is named with the variable."""
        lock = threading.Lock()
        with pytest.raises(ShippingError, match=r"the function .*<lambda> cannot travel .*\.lock is a lock"):
            pool.submit(lambda: lock)

    def test_an_argument_that_cannot_be_read(self, pool):
        """What can be written but not read fails its task, in the worker's own words."""
        with pytest.raises(ValueError, match="not today"):
            pool.submit(square, Unreadable()).result(TIMEOUT_S)
        assert pool.submit(square, 2).result(TIMEOUT_S) == 4

    def test_a_result_that_cannot_travel(self, pool):
        """The error says what to return instead."""
        with pytest.raises(ShippingError, match="the result cannot travel back: it is a lock") as caught:
            pool.submit(threading.Lock).result(TIMEOUT_S)
        assert "return plain data" in caught.value.hint

    def test_a_result_that_is_too_large(self, pool):
        """A result larger than the pool takes back is refused while it is written."""
        before = pid_of(pool)
        with pytest.raises(ShippingError, match="larger than the 8 MiB"):
            pool.submit(bytes, 9 << 20).result(TIMEOUT_S)
        assert len(pool.submit(bytes, 7 << 20).result(TIMEOUT_S)) == 7 << 20
        assert pid_of(pool) == before

    def test_exceptions_arrive_as_themselves(self, pool):
        """An exception that plain pickling loses still arrives with its class, text and attributes."""
        error = pool.submit(raise_picky).exception(TIMEOUT_S)
        assert (type(error), str(error), error.code) == (PickyError, "code 7", 7)
        assert "in raise_picky" in str(error.__cause__)
        error = pool.submit(raise_holding).exception(TIMEOUT_S)
        assert (type(error), error.args[0], error.note) == (HoldingError, "held", "kept")
        assert not hasattr(error, "lock")

    def test_an_exception_that_cannot_travel_leaves_a_record(self, pool):
        """What can be rebuilt in no way arrives as a record: its class, its text, its traceback."""
        error = pool.submit(raise_hopeless).exception(TIMEOUT_S)
        assert type(error) is RemoteError
        assert error.kind.endswith("HopelessError")
        assert "raise_hopeless" in error.traceback

    @pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
    def test_what_ends_a_program_ends_a_task(self, pool, kind):
        """`sys.exit` and its like end the task and not the worker."""
        before = pid_of(pool)
        assert type(pool.submit(raise_, kind).exception(TIMEOUT_S)) is kind
        assert pid_of(pool) == before

    def test_a_notebooks_exception_is_the_same_class(self, pool):
        """An exception whose class was written in a notebook can be caught there."""
        kind = type("CellError", (Exception,), {"__module__": "__main__"})

        def task():
            raise kind("from a cell")

        with pytest.raises(kind, match="from a cell"):
            pool.submit(task).result(TIMEOUT_S)

    def test_stopping_while_it_prints(self, pool):
        """A task that is stopped in the middle of printing leaves its worker able to speak."""
        for _ in range(5):
            future = pool.submit(print_for_ever)
            until(lambda: pool.stats().running == 1)
            future.stop()
            with pytest.raises(CancelledError):
                future.result(TIMEOUT_S)
        heard = []
        token = sink.set(lambda stream, text: heard.append(text))
        pool.submit(print, "still here").result(TIMEOUT_S)
        sink.reset(token)
        assert heard == ["still here\n"]
        assert pool.stats().stopped == 0

    def test_a_task_may_fork(self, pool, tmp_path):
        """A forked copy of a worker answers nothing and ends with its task."""
        before = pid_of(pool)
        assert pool.submit(fork_and_go_on, tmp_path / "log").result(TIMEOUT_S) is True
        assert sorted((tmp_path / "log").read_text()) == ["c", "p"]
        assert pid_of(pool) == before

    def test_a_worker_has_no_pools(self, pool):
        """A task that asks for a pool is told that there is none where it runs."""
        with pytest.raises(PoolError, match="a worker has no pools of its own"):
            pool.submit(use_a_pool).result(TIMEOUT_S)

    def test_a_key_that_is_set_later_arrives(self, pool, monkeypatch):
        """A variable that is set while the pool runs is seen by the next task, and one that is deleted is gone."""
        assert pool.submit(environment, ["DSPEX_KEY"]).result(TIMEOUT_S) == [None]
        monkeypatch.setenv("DSPEX_KEY", "secret")
        assert pool.submit(environment, ["DSPEX_KEY"]).result(TIMEOUT_S) == ["secret"]
        monkeypatch.delenv("DSPEX_KEY")
        assert pool.submit(environment, ["DSPEX_KEY"]).result(TIMEOUT_S) == [None]

    def test_a_key_in_an_argument_arrives(self, make, monkeypatch):
        """A secret that something was given goes there and back, although no message holds it."""
        monkeypatch.setattr(redact, "_declared", {"hunter2-hunter2"})
        pool = make(workers=1)
        there = pool.submit(dict, api_key="hunter2-hunter2", n=1).result(TIMEOUT_S)
        assert there == {"api_key": "hunter2-hunter2", "n": 1}

    def test_functions_see_globals_as_they_are(self, pool):
        """A function from a notebook is shipped with its globals as they are when it is submitted."""
        scope = {"__name__": "__main__", "k": 2}
        exec("def times(x):\n    return k * x", scope)  # noqa: S102  # as a cell does
        assert pool.submit(scope["times"], 3).result(TIMEOUT_S) == 6
        scope["k"] = 5
        assert pool.submit(scope["times"], 3).result(TIMEOUT_S) == 15

    def test_a_session_without_a_factory_can_keep_notes(self, pool):
        """`pools.state()` is a dict of the session's own, in its worker; outside a session there is none."""
        pool.submit(note, 1, session="a").result(TIMEOUT_S)
        assert pool.submit(note, 2, session="a").result(TIMEOUT_S) == {1: True, 2: True}
        assert pool.submit(note, 3, session="b").result(TIMEOUT_S) == {3: True}
        with pytest.raises(PoolError, match="only a task that runs in a session has a state"):
            pool.submit(note, 4).result(TIMEOUT_S)
        with pytest.raises(PoolError, match="only a task that runs in a session"):
            state()

    # ── what they say ───────────────────────────────────────────────────────────────────────────

    def test_prints_go_to_who_submitted(self, pool, caplog):
        """What a task prints arrives where it was submitted, before its result, bytes that are no text escaped."""
        heard = []
        token = sink.set(lambda stream, text: heard.append((stream, text)))
        with caplog.at_level(logging.INFO, logger="speaker"):
            assert pool.submit(speak).result(TIMEOUT_S) == "said"
        sink.reset(token)
        out = "".join(text for stream, text in heard if stream == "stdout")
        assert out == "to out\nno newline\\xff\\xfe raw\n"
        assert [text for stream, text in heard if stream == "stderr"] == ["to err\n"]
        records = [each for each in caplog.records if each.name == "speaker"]
        assert [(each.getMessage(), each.levelname, each.task > 0) for each in records] == [
            ("logged well", "WARNING", True)
        ]

    def test_prints_are_printed(self, pool, capsys):
        """Without anything else, they are printed here."""
        pool.submit(speak).result(TIMEOUT_S)
        captured = capsys.readouterr()
        assert "to out\n" in captured.out
        assert captured.err == "to err\n"

    def test_a_broken_sink_harms_nobody(self, pool, caplog):
        """Who cannot show what a task prints is logged, and the task is answered."""
        token = sink.set(lambda stream, text: refuse())
        future = pool.submit(print, "hello")
        sink.reset(token)
        assert future.result(TIMEOUT_S) is None
        assert "could not be shown" in caplog.text

    # ── its breaker ─────────────────────────────────────────────────────────────────────────────

    def test_a_pool_that_cannot_work_says_so_at_once(self, make, clock, events, tmp_path):
        """After three failures of its own it refuses, and after a while one task finds out whether it is well."""
        pool = make(workers=1)
        lose_workers(pool, 3)
        with pytest.raises(
            CircuitOpenError, match="failures in a row; the last: the worker died with"
        ) as caught:
            pool.submit(square, 3)
        assert caught.value.message.startswith(
            f"pool {pool.name!r} is not asked for 5.0 s: 3 failures in a row"
        )
        assert (caught.value.provider, caught.value.retry_after_s) == (f"pool {pool.name!r}", 5.0)
        assert f"dx.pools.close({pool.name!r})" in caught.value.hint
        assert (pool.stats().submitted, pool.stats().refused) == (3, 1)
        assert "  breaker open for 5.0 s: 3 failures in a row; the last: the worker" in str(pool.stats())

        clock.now = 5.0
        gate = Gate(pool, tmp_path)
        (probe,) = gate.fill()
        with pytest.raises(CircuitOpenError, match="is being probed by another call"):
            pool.submit(square, 3)
        gate.open()
        assert probe.result(TIMEOUT_S) == "through"
        assert pool.submit(square, 3).result(TIMEOUT_S) == 9
        turns = [each for each in events if isinstance(each, PoolBreakerTurned)]
        assert [each.after for each in turns] == ["open", "half-open", "closed"]
        assert {each.pool for each in turns} == {pool.name}
        assert (turns[0].open_s, pool.stats().breaker) == (5.0, "closed")

    def test_what_it_has_taken_on_it_does(self, make, clock, tmp_path):
        """What runs or waits when the breaker opens is done, however it stands by then."""
        pool = make(workers=2)
        gate = Gate(pool, tmp_path)
        (running,) = gate.fill()
        dying = [pool.submit(die, "SIGKILL", idempotent=False) for _ in range(3)]
        waiting = pool.submit(square, 4)
        assert [type(each.exception(TIMEOUT_S)) for each in dying] == [WorkerCrashedError] * 3
        with pytest.raises(CircuitOpenError):
            pool.submit(square, 5)
        assert waiting.result(TIMEOUT_S) == 16
        gate.open()
        assert running.result(TIMEOUT_S) == "through"
        assert pool.stats().breaker.startswith("open for 5.0 s")
        assert pool.stats().reconciles

    def test_the_fault_of_others_opens_nothing(self, make, clock, events, tmp_path):
        """What functions raise, what is stopped, late, or one too many, and what cannot travel says nothing of a pool."""
        pool = make(workers=1, queue_limit=1, max_result_mib=1)
        for _ in range(4):
            with pytest.raises(ValueError, match="no"):
                pool.submit(fail, "no").result(TIMEOUT_S)
            with pytest.raises(ShippingError):
                pool.submit(bytes, 2 << 20).result(TIMEOUT_S)
            with pytest.raises(TaskTimeoutError):
                pool.submit(time.sleep, 30, timeout_s=0.05).result(TIMEOUT_S)
        gate = Gate(pool, tmp_path)
        (running,) = gate.fill()
        waiting = pool.submit(square, 2)
        for _ in range(4):
            with pytest.raises(PoolSaturatedError):
                pool.submit(square, 3)
        assert (waiting.cancel(), running.stop()) == (True, True)
        gate.open()
        with pytest.raises(PoisonTaskError):
            pool.submit(die, "SIGKILL", timeout_s=None).result(TIMEOUT_S)
        for _ in range(4):
            with pytest.raises(PoisonTaskError):
                pool.submit(die, "SIGKILL")
        assert pool.submit(square, 3, timeout_s=None).result(TIMEOUT_S) == 9
        assert pool.stats().breaker == "closed"
        assert not any(isinstance(each, PoolBreakerTurned) for each in events)

    def test_a_pool_without_a_breaker(self, make):
        """If asked to, a pool goes on however often it fails."""
        pool = make(workers=1, breaker=False)
        lose_workers(pool, 3)
        assert pool.submit(square, 3).result(TIMEOUT_S) == 9

    # ── losing workers ──────────────────────────────────────────────────────────────────────────

    def test_what_may_be_repeated_is(self, make, tmp_path, events):
        """An idempotent task whose worker dies is answered by another, and events tell the story."""
        pool = make(workers=2)
        assert pool.submit(die_once, tmp_path / "died").result(TIMEOUT_S) == "well"
        until(lambda: sum(isinstance(each, WorkerStarted) for each in events) >= 2)
        died = [each for each in events if isinstance(each, WorkerDied)]
        assert [(each.kind, each.exit_code, each.expected) for each in died] == [(*self.killed, False)]
        assert [each.kind for each in events if isinstance(each, TaskRetried)] == [self.killed[0]]
        assert pool.stats().retried == 1

    def test_what_may_not_be_repeated_is_not(self, make, tmp_path):
        """A task that is not idempotent fails with its worker, and says how the worker died."""
        pool = make(workers=1)
        with pytest.raises(
            WorkerCrashedError, match=rf"the worker died with task \d+: {self.killed[0]}"
        ) as caught:
            pool.submit(die_once, tmp_path / "died", idempotent=False).result(TIMEOUT_S)
        assert type(caught.value) is WorkerCrashedError
        assert (caught.value.kind, caught.value.exit_code) == self.killed
        assert pool.submit(die_once, tmp_path / "died").result(TIMEOUT_S) == "well"

    def test_what_had_not_begun_is_no_loss(self, make, tmp_path):
        """A task that its worker had not begun is run elsewhere, even if it may not be repeated."""
        pool = make(workers=1)
        pool.submit(append, tmp_path / "log", "a").result(TIMEOUT_S)
        gate = Gate(pool, tmp_path)
        (running,) = gate.fill()
        waiting = [pool.submit(append, tmp_path / "log", "b", idempotent=False) for _ in range(3)]
        os.kill(pool.stats().workers[0].pid, signal.SIGKILL)
        gate.open()
        assert running.result(TIMEOUT_S) == "through"
        assert [each.result(TIMEOUT_S) for each in waiting] == [None] * 3
        assert (tmp_path / "log").read_text() == "abbb"

    def test_an_idle_worker_that_dies_is_replaced(self, make):
        """The death of a worker that does nothing is seen, too."""
        pool = make(workers=2)
        pool.warm()
        until(lambda: [each.state for each in pool.stats().workers] == ["ready"] * 2)
        dead = pool.stats().workers[0].pid
        os.kill(dead, signal.SIGKILL)
        until(lambda: [each.state for each in pool.stats().workers if each.pid != dead] == ["ready"] * 2)
        assert pool.submit(square, 2).result(TIMEOUT_S) == 4

    def test_many_kills_lose_nothing(self, make):
        """With a worker killed again and again, every task is answered once, and rightly."""
        pool = make(workers=2)
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

    def test_a_lost_state_is_rebuilt_once(self, make, tmp_path, events):
        """When its worker dies, a session is built again by `rehydrate`, exactly once for each loss."""
        pool = make(workers=2)
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

    @pytest.mark.parametrize("affinity", ["strict_queue", "strict_fail_fast"])
    def test_a_strict_session_says_that_it_is_lost(self, make, affinity):
        """State without a factory is gone with its worker; calls say so until the session is renewed."""
        pool = make(workers=2)
        session = pool.session("s", affinity=affinity)
        home = session.call(os.getpid)
        assert {session.call(os.getpid) for _ in range(20)} == {home}
        os.kill(home, signal.SIGKILL)
        until(lambda: session.stats.lost == 1)
        with pytest.raises(SessionLostError, match="the worker of session 's' is gone"):
            session.submit(os.getpid)
        session.renew()
        assert session.call(os.getpid) != home

    def test_a_hint_moves_on(self, make):
        """A session that only prefers a worker goes to another when that one is gone."""
        pool = make(workers=2)
        session = pool.session("s", affinity="hint")
        home = session.call(os.getpid)
        os.kill(home, signal.SIGKILL)
        assert session.call(os.getpid) != home

    def test_a_hint_does_not_wait(self, make, tmp_path):
        """A session that only prefers a worker does not wait for it while another is free."""
        pool = make(workers=2)
        gate = Gate(pool, tmp_path)
        session = pool.session("s", affinity="hint")
        pool.warm()
        until(lambda: [each.state for each in pool.stats().workers] == ["ready"] * 2)
        gate.fill(session="s")
        assert session.call(square, 3) == 9
        gate.open()


def _pid(pool, session):
    return next(each.pid for each in pool.stats().workers if each.name == session.stats.worker)
