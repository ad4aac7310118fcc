import gc
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import CancelledError, Future, wait
from contextvars import ContextVar

import pytest

from dspex.errors import DefinitionError, ExecutionError
from dspex.pools.inline import InlinePool

TIMEOUT_S = 30
speaker = ContextVar("speaker", default="nobody")


@pytest.fixture
def make():
    pools = []

    def made(workers):
        pools.append(InlinePool(workers))
        return pools[-1]

    yield made
    for pool in pools:
        pool.close()
        for thread in pool._threads:
            thread.join(TIMEOUT_S)
            assert not thread.is_alive()


class Thing:
    """Something whose end can be watched."""


def blocked(pool, n):
    """Fill `n` threads with tasks that wait for the returned event."""
    gate, started = threading.Event(), threading.Semaphore(0)

    def task():
        started.release()
        return gate.wait(TIMEOUT_S)

    futures = [pool.submit(task) for _ in range(n)]
    for _ in range(n):
        assert started.acquire(timeout=TIMEOUT_S)
    return gate, futures


# ── what comes back ─────────────────────────────────────────────────────────────────────────────


def test_results_come_back(make):
    """A task gets its arguments, and its future the result."""
    future = make(2).submit(lambda *args, **kwargs: (args, kwargs), 1, 2, function=3, self=4)
    assert isinstance(future, Future)
    assert future.result(TIMEOUT_S) == ((1, 2), {"function": 3, "self": 4})


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(3)], ids=repr)
def test_exceptions_come_back(make, error):
    """Whatever ends a task is raised where its result is asked for, and the thread goes on."""
    pool = make(1)

    def task():
        raise error

    assert pool.submit(task).exception(TIMEOUT_S) is error
    assert pool.submit(int, "7").result(TIMEOUT_S) == 7
    assert len(pool._threads) == 1


def test_context_variables_travel(make):
    """A task sees the context of the call that submitted it, and changes stay its own."""
    pool = make(1)

    def task():
        heard = speaker.get()
        speaker.set("the task")
        return heard

    token = speaker.set("the caller")
    first = pool.submit(task)
    speaker.reset(token)
    second = pool.submit(task)
    assert (first.result(TIMEOUT_S), second.result(TIMEOUT_S)) == ("the caller", "nobody")
    assert speaker.get() == "nobody"


def test_idle_threads_keep_nothing_alive(make):
    """Once a result and its future are dropped, neither lives on in a thread that waits for work."""
    pool = make(1)
    thing = Thing()
    watched = weakref.ref(thing)
    pool.submit(lambda value: value, thing).result(TIMEOUT_S)
    blocked_gate, _ = blocked(pool, 1)  # the thread is past the first task's last line
    blocked_gate.set()
    del thing
    gc.collect()
    assert watched() is None


def test_a_waiting_thread_keeps_no_result_alive(make):
    """The last task's result is let go as well, without another task coming along."""
    pool = make(1)
    future = pool.submit(Thing)
    watched = weakref.ref(future.result(TIMEOUT_S))
    del future
    _until(lambda: gc.collect() >= 0 and watched() is None)


def _until(condition):
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline


# ── how many threads ────────────────────────────────────────────────────────────────────────────


def test_never_more_threads_than_workers(make):
    """However much is submitted, at most `workers` tasks run at once."""
    pool, lock, running, most = make(3), threading.Lock(), [0], [0]

    def task():
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        threading.Event().wait(0.001)
        with lock:
            running[0] -= 1

    wait([pool.submit(task) for _ in range(200)], TIMEOUT_S)
    assert most[0] <= 3
    assert len(pool._threads) <= 3


def test_threads_are_made_when_needed(make):
    """A pool that was never used has no thread, and one after the other needs one."""
    pool = make(8)
    assert pool._threads == []
    pool.submit(int).result(TIMEOUT_S)
    assert len(pool._threads) == 1


@pytest.mark.parametrize("n", [2, 3, 8])
def test_as_many_tasks_run_at_once_as_there_are_workers(make, n):
    """Tasks that wait for one another all get a thread, on a fresh pool and on one that has idle threads."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(
        5.0
    )  # threads hand over only when they wait: an idle one cannot wake between two submits
    try:
        for warm in (0, 1, n - 1):
            pool = make(n)
            if warm:
                gate, futures = blocked(pool, warm)
                gate.set()
                wait(futures, TIMEOUT_S)
            barrier = threading.Barrier(n)
            futures = [pool.submit(barrier.wait, 2) for _ in range(n)]
            assert sorted(future.result(TIMEOUT_S) for future in futures) == list(range(n))
    finally:
        sys.setswitchinterval(interval)


def test_ten_thousand_tasks_from_several_threads(make):
    """Every task of many, submitted from several threads at once, is answered once."""
    pool, futures = make(4), {}

    def submit(name):
        futures[name] = [pool.submit(lambda n=n: (name, n)) for n in range(2500)]

    threads = [threading.Thread(target=submit, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT_S)
    for name in "abcd":
        assert [future.result(TIMEOUT_S) for future in futures[name]] == [(name, n) for n in range(2500)]


def test_a_task_may_submit_tasks(make):
    """Work that makes work is answered while there is a thread for it."""
    pool = make(2)

    def outer():
        return pool.submit(lambda: 5).result(TIMEOUT_S)

    assert pool.submit(outer).result(TIMEOUT_S) == 5


# ── cancelling and closing ──────────────────────────────────────────────────────────────────────


def test_queued_work_can_be_cancelled(make):
    """A task that waits for a thread never runs once it is cancelled; a running one cannot be."""
    pool, ran = make(1), []
    gate, (running,) = blocked(pool, 1)
    queued, after = pool.submit(ran.append, 1), pool.submit(ran.append, 2)
    assert (running.cancel(), queued.cancel()) == (False, True)
    gate.set()
    assert after.result(TIMEOUT_S) is None
    with pytest.raises(CancelledError):
        queued.result(TIMEOUT_S)
    assert ran == [2]


def test_a_closed_pool_takes_no_work(make):
    """Submitting to a closed pool says so; closing twice is fine."""
    pool = make(1)
    pool.close()
    pool.close()
    with pytest.raises(ExecutionError) as caught:
        pool.submit(int)
    assert str(caught.value) == "this pool is closed\n  → dspex.configure(...) makes a new one"


def test_work_taken_on_before_closing_is_done(make):
    """What was submitted before `close` is answered, queued tasks included, and then the threads end."""
    pool = make(2)
    gate, running = blocked(pool, 2)
    queued = [pool.submit(int, str(n)) for n in range(5)]
    pool.close()
    gate.set()
    assert [future.result(TIMEOUT_S) for future in [*running, *queued]] == [True, True, 0, 1, 2, 3, 4]


def test_a_hanging_task_does_not_hold_the_interpreter():
    """The process ends although a task never does."""
    code = (
        "import threading\n"
        "from dspex.pools import make_pool\n"
        "started = threading.Event()\n"
        "make_pool('inline', 1).submit(lambda: (started.set(), threading.Event().wait()))\n"
        "started.wait()\n"
        "print('leaving')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=TIMEOUT_S, check=True
    )
    assert (done.stdout, done.stderr) == ("leaving\n", "")


@pytest.mark.parametrize("workers", [0, -1])
def test_a_pool_needs_a_worker(workers):
    """A pool without workers would never answer; it is refused."""
    with pytest.raises(DefinitionError, match="workers"):
        InlinePool(workers)
