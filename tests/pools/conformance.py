"""What every engine must do. Inherit from `EngineConformance` and give it a `pool` fixture."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import gc
import threading
import time

import pytest
from tasks import (
    append,
    correlation,
    count_slowly,
    count_then_fail,
    count_to,
    fail,
    push,
    square,
    touch_and_wait,
)

from dspex.errors import (
    CancelledError,
    DefinitionError,
    PoolError,
    PoolSaturatedError,
    TaskTimeoutError,
    UnknownNameError,
    WorkerBusyError,
)
from dspex.pools import correlation_id, owner

TIMEOUT_S = 30


def until(condition, what="it", timeout_s=TIMEOUT_S):
    """Wait for a condition, and fail if it does not come true."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come true within {timeout_s} s"
        time.sleep(0.002)


class Gate:
    """Fills workers with tasks that wait."""

    def __init__(self, pool, folder):
        self.pool, self.gate = pool, folder / "gate"
        self.folder, self.futures = folder, []

    def fill(self, n=1, **options):
        began = [self.folder / f"began-{len(self.futures)}-{k}" for k in range(n)]
        self.futures += [self.pool.submit(touch_and_wait, each, self.gate, **options) for each in began]
        until(lambda: all(each.exists() for each in began), "the tasks")
        return self.futures[-n:]

    def open(self):
        self.gate.touch()


class EngineConformance:
    """The fixture `make` makes a pool: ``make(workers=2, **more of PoolSpec)``."""

    can_interrupt = True

    @pytest.fixture
    def gate(self, make, tmp_path):
        made = Gate(make(workers=1), tmp_path)
        yield made
        made.open()

    # ── an executor, as Python knows it ─────────────────────────────────────────────────────────

    def test_results_and_exceptions_come_back(self, make):
        """A task gets its arguments; its future is a standard one and carries the result or the exception."""
        pool = make(workers=2)
        future = pool.submit(dict, [("a", 1)], b=2)
        assert isinstance(pool, concurrent.futures.Executor)
        assert isinstance(future, concurrent.futures.Future)
        assert future.result(TIMEOUT_S) == {"a": 1, "b": 2}
        error = pool.submit(fail, "no").exception(TIMEOUT_S)
        assert (type(error), str(error)) == (ValueError, "no")
        assert pool.submit(square, 3).result(TIMEOUT_S) == 9

    def test_wait_and_as_completed(self, make):
        """The standard library's helpers work on its futures."""
        pool = make(workers=2)
        futures = [pool.submit(square, k) for k in range(20)]
        assert not concurrent.futures.wait(futures, TIMEOUT_S).not_done
        done = concurrent.futures.as_completed(futures, TIMEOUT_S)
        assert sorted(each.result() for each in done) == [k * k for k in range(20)]

    def test_map_keeps_the_order(self, make):
        """Results come in the order of the items, one by one or in chunks, and stop at the first failure."""
        pool = make(workers=2)
        assert list(pool.map(square, range(100))) == [k * k for k in range(100)]
        assert list(pool.map(pow, [2, 3, 4], [3, 2], chunksize=2)) == [8, 9]
        results = pool.map(int, ["1", "x", "3"])
        assert next(results) == 1
        with pytest.raises(ValueError, match="invalid literal"):
            next(results)
        with pytest.raises(DefinitionError, match="chunksize"):
            pool.map(square, [1], chunksize=0)

    def test_map_of_more_than_the_queue_holds(self, make):
        """A map of many items waits for room by itself."""
        pool = make(workers=1, queue_limit=5)
        assert list(pool.map(square, range(50))) == [k * k for k in range(50)]

    def test_map_times_out(self, make):
        """A map that takes too long says so as the standard library's does."""
        pool = make(workers=1)
        with pytest.raises(TimeoutError):
            list(pool.map(time.sleep, [5], timeout=0.05))

    def test_cancelled_tasks_never_run(self, gate, tmp_path):
        """A waiting task that is cancelled is not run; a running one cannot be cancelled."""
        (running,) = gate.fill()
        queued = gate.pool.submit(append, tmp_path / "ran", "x")
        assert (running.cancel(), queued.cancel()) == (False, True)
        gate.open()
        gate.pool.submit(square, 1).result(TIMEOUT_S)
        assert not (tmp_path / "ran").exists()
        with pytest.raises(concurrent.futures.CancelledError):
            queued.result(TIMEOUT_S)

    def test_shutdown_waits_for_what_was_taken_on(self, make):
        """`with pool:` ends once every task is done, and takes no more then."""
        with make(workers=2) as pool:
            futures = [pool.submit(square, k) for k in range(20)]
        assert [each.result(0) for each in futures] == [k * k for k in range(20)]
        with pytest.raises(PoolError, match="closed"):
            pool.submit(square, 1)
        pool.shutdown()

    def test_shutdown_can_cancel(self, gate):
        """What waits is cancelled if asked for; what runs is waited for."""
        gate.fill()
        queued = [gate.pool.submit(square, k) for k in range(3)]
        threading.Timer(0.05, gate.open).start()
        gate.pool.shutdown(cancel_futures=True)
        assert all(each.cancelled() for each in queued)
        assert gate.futures[0].result(0) == "through"

    def test_shutdown_need_not_wait(self, gate):
        """Without waiting, what was taken on is done all the same, and nothing more is taken on."""
        gate.fill()
        queued = [gate.pool.submit(square, k) for k in range(3)]
        gate.pool.shutdown(wait=False)
        with pytest.raises(RuntimeError, match="closed"):
            gate.pool.submit(square, 1)
        assert not any(each.done() for each in queued)
        gate.open()
        assert [each.result(TIMEOUT_S) for each in queued] == [0, 1, 4]

    def test_waiting_for_the_first(self, gate):
        """`wait` returns at the first that is done, or fails, if asked to; a future says how it stands."""
        (running,) = gate.fill()
        queued = gate.pool.submit(fail, "no")
        assert (running.running(), queued.running(), running.done()) == (True, False, False)
        with pytest.raises(TimeoutError):
            running.result(timeout=0)
        with pytest.raises(TimeoutError):
            list(concurrent.futures.as_completed([running], timeout=0))
        gate.open()
        first = concurrent.futures.wait([running, queued], TIMEOUT_S, concurrent.futures.FIRST_COMPLETED)
        assert first.done <= {running, queued}
        last = concurrent.futures.wait([running, queued], TIMEOUT_S, concurrent.futures.FIRST_EXCEPTION)
        assert queued in last.done
        assert queued.done()

    def test_cancelling_twice(self, gate):
        """A cancelled future stays cancelled, tells its callbacks once, and `wait` counts it as done."""
        gate.fill()
        queued, heard = gate.pool.submit(square, 1), []
        queued.add_done_callback(heard.append)
        assert (queued.cancel(), queued.cancel(), queued.cancelled()) == (True, True, True)
        assert concurrent.futures.wait([queued], TIMEOUT_S).done == {queued}
        assert heard == [queued]
        queued.add_done_callback(heard.append)
        assert heard == [queued, queued]

    def test_a_callback_that_fails_harms_nobody(self, make, caplog):
        """Its failure is logged, the other callbacks are called, and the result is there."""
        pool, heard = make(workers=1), []
        future = pool.submit(square, 3)
        future.add_done_callback(lambda _: 1 / 0)
        future.add_done_callback(heard.append)
        assert future.result(TIMEOUT_S) == 9
        until(lambda: heard)
        assert "ZeroDivisionError" in caplog.text

    def test_an_event_loop_may_run_things_in_it(self, make):
        """Asyncio takes it where it takes an executor."""
        pool = make(workers=1)

        async def main():
            return await asyncio.get_running_loop().run_in_executor(pool, square, 5)

        assert asyncio.run(main()) == 25

    def test_callbacks_may_use_the_pool(self, make):
        """A future's callback may submit, ask for statistics, and fail."""
        pool, heard = make(workers=1), []

        def then(future):
            heard.append((future.result(), pool.stats().name, pool.submit(square, 4)))

        pool.submit(square, 2).add_done_callback(then)
        until(lambda: heard)
        assert heard[0][2].result(TIMEOUT_S) == 16

    # ── order, limits, deadlines ────────────────────────────────────────────────────────────────

    def test_priorities(self, gate, tmp_path):
        """The higher priority runs first, and of equals the older."""
        gate.fill()
        path = tmp_path / "order"
        futures = [gate.pool.submit(append, path, str(k), priority=p) for k, p in enumerate([0, 5, 0, 5])]
        gate.open()
        concurrent.futures.wait(futures, TIMEOUT_S)
        assert path.read_text() == "1302"

    def test_a_full_queue_rejects(self, make, tmp_path):
        """One task too many is refused, with how many wait and when to come back."""
        gate = Gate(make(workers=1, queue_limit=2), tmp_path)
        gate.fill()
        queued = [gate.pool.submit(square, k) for k in range(2)]
        with pytest.raises(PoolSaturatedError, match="is full: 2 tasks wait for 1 workers") as caught:
            gate.pool.submit(square, 3)
        assert caught.value.retryable
        assert caught.value.retry_after_s >= 0.1
        assert "come back in about" in caught.value.hint
        gate.open()
        assert [each.result(TIMEOUT_S) for each in queued] == [0, 1]
        assert gate.pool.stats().rejected == 1

    def test_a_full_queue_drops_the_oldest(self, make, tmp_path):
        """If asked to, a full queue gives up its oldest task for the newest."""
        gate = Gate(make(workers=1, queue_limit=2, overflow="drop_oldest"), tmp_path)
        gate.fill()
        queued = [gate.pool.submit(square, k) for k in range(3)]
        gate.open()
        with pytest.raises(PoolSaturatedError, match="a newer task took its place"):
            queued[0].result(TIMEOUT_S)
        assert [each.result(TIMEOUT_S) for each in queued[1:]] == [1, 4]

    def test_a_full_queue_blocks(self, make, tmp_path):
        """If asked to, a full queue lets callers wait for room, but not for ever."""
        gate = Gate(make(workers=1, queue_limit=1, overflow="block", queue_timeout_s=0.2), tmp_path)
        gate.fill()
        gate.pool.submit(square, 1)
        with pytest.raises(PoolSaturatedError):
            gate.pool.submit(square, 2)
        threading.Timer(0.05, gate.open).start()
        assert gate.pool.submit(square, 3).result(TIMEOUT_S) == 9

    def test_waiting_counts_against_the_deadline(self, gate, tmp_path):
        """A task whose deadline passes while it waits fails then, and never runs."""
        gate.fill()
        late = gate.pool.submit(append, tmp_path / "ran", "x", deadline_s=0.05)
        with pytest.raises(TaskTimeoutError, match=r"waited 0\.\d+ s in the queue .* never began"):
            late.result(TIMEOUT_S)
        gate.open()
        gate.pool.submit(square, 1).result(TIMEOUT_S)
        assert not (tmp_path / "ran").exists()
        assert gate.pool.stats().timed_out == 1

    def test_timeouts_and_deadlines_of_running_tasks(self, make):
        """A task that runs too long fails, whichever of the two limits it met; the pool goes on."""
        pool = make(workers=2, timeout_s=0.2)
        with pytest.raises(TaskTimeoutError, match=r"longer than timeout_s=0\.2 ") as caught:
            pool.submit(time.sleep, 1).result(TIMEOUT_S)
        assert isinstance(caught.value, TimeoutError)
        with pytest.raises(TaskTimeoutError, match="at its deadline"):
            pool.submit(time.sleep, 1, timeout_s=None, deadline_s=0.1).result(TIMEOUT_S)
        assert pool.submit(square, 2, timeout_s=None).result(TIMEOUT_S) == 4

    @pytest.mark.parametrize("name", ["timeout_s", "deadline_s"])
    def test_limits_are_positive(self, make, name):
        """A limit that nothing could keep is refused."""
        with pytest.raises(DefinitionError, match=f"{name} must be > 0 or None, got 0"):
            make(workers=1).submit(square, 1, **{name: 0})

    def test_only_functions_run(self, make):
        """What cannot be called is refused."""
        with pytest.raises(DefinitionError, match="a pool runs functions, got 3"):
            make(workers=1).submit(3)

    # ── stopping ────────────────────────────────────────────────────────────────────────────────

    def test_stopping_a_running_task(self, make, tmp_path):
        """A running task is stopped by its future, and its caller told."""
        gate = Gate(make(workers=1), tmp_path)
        (running,) = gate.fill()
        assert running.stop()
        with pytest.raises(CancelledError):
            running.result(TIMEOUT_S)
        assert not running.stop()
        gate.open()
        assert gate.pool.submit(square, 2).result(TIMEOUT_S) == 4
        until(lambda: gate.pool.stats().cancelled == 1)

    def test_an_interrupted_caller_stops_its_task(self, make, tmp_path):
        """KeyboardInterrupt while waiting for a result stops that task."""
        gate = Gate(make(workers=1), tmp_path)
        (running,) = gate.fill()
        waiting, caller = threading.Condition.wait, threading.get_ident()

        def interrupted(self, timeout=None):
            if threading.get_ident() == caller:
                raise KeyboardInterrupt
            return waiting(self, timeout)

        threading.Condition.wait = interrupted
        try:
            with pytest.raises(KeyboardInterrupt):
                running.result()
        finally:
            threading.Condition.wait = waiting
        with pytest.raises(CancelledError):
            running.result(TIMEOUT_S)
        gate.open()

    def test_stopping_what_one_owner_submitted(self, make, tmp_path):
        """Tasks are stopped together by who submitted them, and nobody else's are."""
        gate = Gate(make(workers=2), tmp_path)
        token = owner.set("cell 1")
        (mine,) = gate.fill()
        owner.reset(token)
        (other,) = gate.fill()
        assert gate.pool.stop_owned("cell 1") == 1
        with pytest.raises(CancelledError):
            mine.result(TIMEOUT_S)
        gate.open()
        assert other.result(TIMEOUT_S) == "through"

    # ── awaiting and streaming ──────────────────────────────────────────────────────────────────

    def test_awaiting(self, make):
        """Tasks can be awaited together, and a cancelled wait stops its task."""
        pool = make(workers=2)

        async def main():
            assert await asyncio.gather(*(pool.asubmit(square, k) for k in range(5))) == [0, 1, 4, 9, 16]
            sleeping = asyncio.create_task(pool.asubmit(time.sleep, 5))
            await asyncio.to_thread(until, lambda: pool.stats().running)
            sleeping.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sleeping

        asyncio.run(main())
        until(lambda: pool.stats().running == 0)

    def test_streaming(self, make):
        """Chunks come in order, however many, and the failure of their source comes last."""
        pool = make(workers=1)
        assert list(pool.stream(count_to, 350)) == list(range(350))
        stream, seen = pool.stream(count_then_fail, 3), []
        with pytest.raises(ValueError, match="ran dry"):
            seen += stream
        stream = pool.stream(count_then_fail, 3)
        assert [next(stream) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(ValueError, match="ran dry"):
            next(stream)
        assert list(stream) == []

    def test_streaming_asynchronously(self, make):
        """A stream can be read with `async for`."""
        pool = make(workers=1)

        async def main():
            return [chunk async for chunk in pool.stream(count_to, 5)]

        assert asyncio.run(main()) == [0, 1, 2, 3, 4]

    def test_a_stream_is_no_faster_than_its_reader(self, make, tmp_path):
        """A source waits when it is a hundred chunks ahead, and ends when its reader goes."""
        pool, path = make(workers=1), tmp_path / "produced"
        with pool.stream(count_slowly, path) as stream:
            assert next(stream) == 0
            until(lambda: path.exists() and path.stat().st_size >= 100)
            assert pool.stats().running == 1
        until(lambda: pool.stats().running == 0, "the end of the source")
        assert path.stat().st_size <= 112

    def test_a_stream_that_is_dropped_ends_its_source(self, make, tmp_path):
        """Who leaves a loop over a stream keeps no worker busy, whoever collects the stream."""
        pool = make(workers=1)
        for chunk in pool.stream(count_slowly, tmp_path / "produced"):
            assert chunk == 0
            break
        until(lambda: pool.stats().running == 0, "the end of the source")
        ring = [pool.stream(count_slowly, tmp_path / "again")]
        ring.append(ring)
        next(ring[0])
        del ring
        with pool._engine.lock:  # the garbage collector comes amid anything
            gc.collect()
        until(lambda: pool.stats().running == 0, "the end of the source")

    # ── sessions ────────────────────────────────────────────────────────────────────────────────

    def test_state_is_built_once_and_kept(self, make):
        """A session's calls all get the one state its factory built, in order."""
        session = make(workers=2).session("s", list)
        futures = [session.submit(push, k) for k in range(20)]
        assert [each.result(TIMEOUT_S) for each in futures] == list(range(1, 21))
        assert session.call(list) == list(range(20))
        assert session.stats.calls == 21
        assert session.stats.errors == 0
        assert session.stats.worker is not None
        assert len(session.history_s) == 21

    def test_a_session_by_its_name(self, make):
        """A task may name its session, known or new."""
        pool = make(workers=2)
        pool.session("s", dict)
        pool.submit(dict.setdefault, "a", 1, session="s").result(TIMEOUT_S)
        assert pool.submit(dict, session="s").result(TIMEOUT_S) == {"a": 1}
        assert pool.submit(square, 3, session="new").result(TIMEOUT_S) == 9
        assert sorted(pool.sessions) == ["new", "s"]
        with pytest.raises(DefinitionError, match="has a session 's' already"):
            pool.session("s", list)
        with pytest.raises(UnknownNameError, match="did you mean 'hint'"):
            pool.session("t", affinity="hnt")

    def test_a_closed_session_begins_anew(self, make):
        """Closing a session forgets its state."""
        pool = make(workers=1)
        session = pool.session("s", list)
        session.call(push, 1)
        session.close()
        assert pool.session("s", list).call(list) == []
        with pytest.raises(UnknownNameError, match="unknown session 'z'"):
            pool.close_session("z")

    def test_a_session_that_does_not_wait(self, make, tmp_path):
        """With strict_fail_fast, a second call is refused while the first runs."""
        pool = make(workers=2)
        gate = Gate(pool, tmp_path)
        pool.session("s", affinity="strict_fail_fast")
        gate.fill(session="s")
        with pytest.raises(WorkerBusyError, match="the worker of session 's' is busy"):
            pool.submit(square, 1, session="s")
        gate.open()
        until(lambda: pool.stats().running == 0)
        assert pool.submit(square, 2, session="s").result(TIMEOUT_S) == 4

    def test_too_many_sessions(self, make):
        """A pool keeps so many sessions and no more."""
        pool = make(workers=1, max_sessions=2)
        pool.session("a")
        pool.session("b")
        with pytest.raises(PoolSaturatedError, match="keeps 2 sessions and no more"):
            pool.session("c")

    # ── looking ─────────────────────────────────────────────────────────────────────────────────

    def test_the_numbers_add_up(self, make, tmp_path):
        """Every task is in exactly one place, at every moment."""
        gate = Gate(make(workers=1), tmp_path)
        pool = gate.pool
        gate.fill()
        futures = [pool.submit(square, k) for k in range(5)] + [pool.submit(fail, "no")]
        futures[0].cancel()
        now = pool.stats()
        assert (now.submitted, now.running, now.queued, now.cancelled) == (7, 1, 5, 1)
        assert now.reconciles
        gate.open()
        concurrent.futures.wait(futures, TIMEOUT_S)
        until(lambda: pool.stats().done == 5)
        now = pool.stats()
        assert (now.failed, now.cancelled, now.queued, now.running) == (1, 1, 0, 0)
        assert now.reconciles
        assert f"{pool.name}: 1 workers" in str(now)
        assert "0 tasks run, 0 wait" in repr(pool)

    def test_the_correlation_id_goes_along(self, make):
        """A task finds the name of the work it belongs to."""
        pool = make(workers=1)
        token = correlation_id.set("request 7")
        named = pool.submit(correlation)
        correlation_id.reset(token)
        nameless = pool.submit(correlation)
        assert (named.result(TIMEOUT_S), nameless.result(TIMEOUT_S)) == ("request 7", None)

    def test_an_unknown_pool_is_quiet_about_contexts(self, make):
        """A task changes nothing in its caller's context."""
        variable = contextvars.ContextVar("variable", default=0)
        make(workers=1).submit(square, 2).result(TIMEOUT_S)
        assert variable.get() == 0
