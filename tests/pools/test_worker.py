"""Inside a worker: bad tasks of every kind end in a clear error, and the worker goes on."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time

import pytest
from conformance import until
from tasks import (
    HoldingError,
    PickyError,
    Unreadable,
    draw,
    environment,
    fork_and_go_on,
    ignore_everything,
    note,
    print_for_ever,
    raise_,
    raise_holding,
    raise_hopeless,
    raise_picky,
    refuse,
    sleep_with,
    speak,
    square,
    swallow_everything,
    use_a_pool,
    zeros,
)

from dspex.errors import (
    CancelledError,
    PoolError,
    RemoteError,
    ShippingError,
    TaskTimeoutError,
    WorkerMemoryError,
)
from dspex.pools import state
from dspex.pools.gpus import Gpu
from dspex.pools.output import sink

TIMEOUT_S = 30


@pytest.fixture
def pool(make_pool):
    made = make_pool(workers=1, memory_mib=512, max_result_mib=8, grace_s=0.3)
    made.submit(environment, ()).result(TIMEOUT_S)  # what the tasks stand in is imported
    return made


def pid_of(pool):
    return pool.submit(os.getpid, timeout_s=None).result(TIMEOUT_S)


# ── what cannot travel ──────────────────────────────────────────────────────────────────────────


def test_an_argument_that_cannot_travel(pool):
    """The error says which part of the call it is, and where."""
    with pytest.raises(ShippingError) as caught:
        pool.submit(square, {"nested": [1, threading.Lock()]})
    assert str(caught.value).splitlines()[0] == (
        "an argument cannot travel to another process: [0][0]['nested'][1] is a lock: "
        "cannot pickle '_thread.lock' object"
    )
    assert pool.submit(square, 2).result(TIMEOUT_S) == 4


def test_a_function_that_cannot_travel(pool):
    """A closure over something that cannot travel is named with the variable."""
    lock = threading.Lock()
    with pytest.raises(ShippingError, match=r"the function .*<lambda> cannot travel .*\.lock is a lock"):
        pool.submit(lambda: lock)


def test_an_argument_that_cannot_be_read(pool):
    """What can be written but not read fails its task, in the worker's own words."""
    with pytest.raises(ValueError, match="not today"):
        pool.submit(square, Unreadable()).result(TIMEOUT_S)
    assert pool.submit(square, 2).result(TIMEOUT_S) == 4


def test_a_result_that_cannot_travel(pool):
    """The error says what to return instead."""
    with pytest.raises(ShippingError, match="the result cannot travel back: it is a lock") as caught:
        pool.submit(threading.Lock).result(TIMEOUT_S)
    assert "return plain data" in caught.value.hint


def test_a_result_that_is_too_large(pool):
    """A result larger than the pool takes back is refused while it is written."""
    before = pid_of(pool)
    with pytest.raises(ShippingError, match="larger than the 8 MiB"):
        pool.submit(bytes, 9 << 20).result(TIMEOUT_S)
    assert len(pool.submit(bytes, 7 << 20).result(TIMEOUT_S)) == 7 << 20
    assert pid_of(pool) == before


# ── exceptions ──────────────────────────────────────────────────────────────────────────────────


def test_exceptions_arrive_as_themselves(pool):
    """An exception that plain pickling loses still arrives with its class, text and attributes."""
    error = pool.submit(raise_picky).exception(TIMEOUT_S)
    assert (type(error), str(error), error.code) == (PickyError, "code 7", 7)
    assert "in raise_picky" in str(error.__cause__)
    error = pool.submit(raise_holding).exception(TIMEOUT_S)
    assert (type(error), error.args[0], error.note) == (HoldingError, "held", "kept")
    assert not hasattr(error, "lock")


def test_an_exception_that_cannot_travel_leaves_a_record(pool):
    """What can be rebuilt in no way arrives as a record: its class, its text, its traceback."""
    error = pool.submit(raise_hopeless).exception(TIMEOUT_S)
    assert type(error) is RemoteError
    assert error.kind.endswith("HopelessError")
    assert "raise_hopeless" in error.traceback


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_what_ends_a_program_ends_a_task(pool, kind):
    """`sys.exit` and its like end the task and not the worker."""
    before = pid_of(pool)
    assert type(pool.submit(raise_, kind).exception(TIMEOUT_S)) is kind
    assert pid_of(pool) == before


def test_a_notebooks_exception_is_the_same_class(pool):
    """An exception whose class was written in a notebook can be caught there."""
    kind = type("CellError", (Exception,), {"__module__": "__main__"})

    def task():
        raise kind("from a cell")

    with pytest.raises(kind, match="from a cell"):
        pool.submit(task).result(TIMEOUT_S)


# ── memory ──────────────────────────────────────────────────────────────────────────────────────


def test_too_much_memory_fails_the_task(pool):
    """A task that wants more than its worker may hold fails; the worker stays, and its sessions."""
    session = pool.session("s", list)
    session.call(list.append, 1)
    before = pid_of(pool)
    with pytest.raises(
        WorkerMemoryError, match="may hold 512 MiB, and the task wanted more; it had held"
    ) as caught:
        pool.submit(bytearray, 600 << 20).result(TIMEOUT_S)
    assert isinstance(caught.value, MemoryError)
    assert caught.value.limit_mib == 512
    assert caught.value.peak_mib > 5
    assert pid_of(pool) == before
    assert session.call(list) == [1]


def test_numpy_fails_the_same_way(pool):
    """Numpy's own error is recognised, with what was asked for."""
    with pytest.raises(WorkerMemoryError, match="Unable to allocate 763"):
        pool.submit(zeros, 100_000_000).result(TIMEOUT_S)


# ── stopping ────────────────────────────────────────────────────────────────────────────────────


def test_a_soft_stop_keeps_the_worker(pool):
    """A task that runs too long is interrupted; its worker stays, and its sessions."""
    session = pool.session("s", list)
    session.call(list.append, 1)
    before = pid_of(pool)
    with pytest.raises(TaskTimeoutError):
        session.submit(sleep_with, 10, timeout_s=0.1).result(TIMEOUT_S)
    assert pid_of(pool) == before
    assert session.call(list) == [1]


@pytest.mark.parametrize("task", [ignore_everything, swallow_everything])
def test_a_task_that_heeds_nothing_is_killed(pool, task):
    """A task that ignores being told to stop costs its worker, after the grace; the pool goes on."""
    before = pid_of(pool)
    future = pool.submit(task, timeout_s=0.2)
    waiting = pool.submit(square, 3, timeout_s=None)
    with pytest.raises(TaskTimeoutError, match="it did not heed that, so its worker was replaced"):
        future.result(TIMEOUT_S)
    assert waiting.result(TIMEOUT_S) == 9
    assert pid_of(pool) != before
    assert pool.stats().stopped == 1


def test_signals_are_minded_again(pool):
    """What a task does to signal handlers ends with it."""
    before = pid_of(pool)
    pool.submit(signal.signal, signal.SIGUSR1, signal.SIG_IGN).exception(TIMEOUT_S)
    with pytest.raises(TaskTimeoutError):
        pool.submit(time.sleep, 10, timeout_s=0.1).result(TIMEOUT_S)
    assert pid_of(pool) == before


def test_an_interrupt_harms_no_worker(pool):
    """The terminal's interrupt, which all processes get, neither ends a worker nor its task."""
    before = pid_of(pool)
    future = pool.submit(time.sleep, 0.2)
    until(lambda: pool.stats().running == 1)
    os.kill(before, signal.SIGINT)
    assert future.result(TIMEOUT_S) is None
    assert pid_of(pool) == before


def test_stopping_while_it_prints(pool):
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


# ── strange things ──────────────────────────────────────────────────────────────────────────────


def test_a_task_may_fork(pool, tmp_path):
    """A forked copy of a worker answers nothing and ends with its task."""
    before = pid_of(pool)
    assert pool.submit(fork_and_go_on, tmp_path / "log").result(TIMEOUT_S) is True
    assert sorted((tmp_path / "log").read_text()) == ["c", "p"]
    assert pid_of(pool) == before


def test_a_worker_has_no_pools(pool):
    """A task that asks for a pool is told that there is none where it runs."""
    with pytest.raises(PoolError, match="a worker has no pools of its own"):
        pool.submit(use_a_pool).result(TIMEOUT_S)


def test_random_numbers_differ(make_pool):
    """Workers forked from one process draw numbers of their own, numpy's included."""
    pool = make_pool(workers=3, preload=("numpy",))
    pool.warm()
    until(lambda: [each.state for each in pool.stats().workers] == ["ready"] * 3)
    drawn = {
        each.result(TIMEOUT_S)
        for k in range(3)
        for each in [pool.session(f"s{k}", affinity="strict_queue").submit(draw)]
        for _ in [each]
    }
    workers = {each.stats.worker for each in pool.sessions.values()}
    assert len(drawn) == 3
    assert len(workers) >= 1


def test_numerical_libraries_use_one_thread(pool):
    """Workers are many: each of them uses one thread, unless its pool says otherwise."""
    names = (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "NUMEXPR_NUM_THREADS",
        "VECLIB_MAXIMUM_THREADS",
    )
    assert pool.submit(environment, names).result(TIMEOUT_S) == ["1"] * 5


def test_a_pool_sets_variables_and_hides_devices(make_pool, gpus):
    """`threads`, `env` and `device` are seen by the workers."""
    gpus(Gpu("GPU-a", "fake", 24_000, 20_000))
    pool = make_pool(workers=1, threads=2, env={"DSPEX_TEST": "here"}, device="gpu")
    names = ("OMP_NUM_THREADS", "DSPEX_TEST", "CUDA_VISIBLE_DEVICES")
    assert pool.submit(environment, names).result(TIMEOUT_S) == [
        "2",
        "here",
        "GPU-a",
    ]
    assert make_pool(workers=1).submit(environment, names).result(TIMEOUT_S) == ["1", None, ""]


def test_a_key_that_is_set_later_arrives(pool, monkeypatch):
    """A variable that is set while the pool runs is seen by the next task, and one that is deleted is gone."""
    assert pool.submit(environment, ["DSPEX_KEY"]).result(TIMEOUT_S) == [None]
    monkeypatch.setenv("DSPEX_KEY", "secret")
    assert pool.submit(environment, ["DSPEX_KEY"]).result(TIMEOUT_S) == ["secret"]
    monkeypatch.delenv("DSPEX_KEY")
    assert pool.submit(environment, ["DSPEX_KEY"]).result(TIMEOUT_S) == [None]


def test_a_pools_own_environment(make_pool):
    """A pool can be told which environment its workers see, and no more of it."""
    seen = {"PATH": os.environ["PATH"], "FLAVOUR": "a"}
    pool = make_pool(workers=1, environment=lambda: seen)
    assert pool.submit(environment, ["FLAVOUR", "HOME"]).result(TIMEOUT_S) == ["a", None]
    seen.update(FLAVOUR="b")
    assert pool.submit(environment, ["FLAVOUR"]).result(TIMEOUT_S) == ["b"]


def test_functions_see_globals_as_they_are(pool):
    """A function from a notebook is shipped with its globals as they are when it is submitted."""
    scope = {"__name__": "__main__", "k": 2}
    exec("def times(x):\n    return k * x", scope)  # noqa: S102  # as a cell does
    assert pool.submit(scope["times"], 3).result(TIMEOUT_S) == 6
    scope["k"] = 5
    assert pool.submit(scope["times"], 3).result(TIMEOUT_S) == 15


def test_a_session_without_a_factory_can_keep_notes(pool):
    """`pools.state()` is a dict of the session's own, in its worker; outside a session there is none."""
    pool.submit(note, 1, session="a").result(TIMEOUT_S)
    assert pool.submit(note, 2, session="a").result(TIMEOUT_S) == {1: True, 2: True}
    assert pool.submit(note, 3, session="b").result(TIMEOUT_S) == {3: True}
    with pytest.raises(PoolError, match="only a task that runs in a session has a state"):
        pool.submit(note, 4).result(TIMEOUT_S)
    with pytest.raises(PoolError, match="only a task that runs in a session"):
        state()


# ── what they say ───────────────────────────────────────────────────────────────────────────────


def test_prints_go_to_who_submitted(pool, caplog):
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


def test_prints_are_printed(pool, capsys):
    """Without anything else, they are printed here."""
    pool.submit(speak).result(TIMEOUT_S)
    captured = capsys.readouterr()
    assert "to out\n" in captured.out
    assert captured.err == "to err\n"


def test_a_broken_sink_harms_nobody(pool, caplog):
    """Who cannot show what a task prints is logged, and the task is answered."""
    token = sink.set(lambda stream, text: refuse())
    future = pool.submit(print, "hello")
    sink.reset(token)
    assert future.result(TIMEOUT_S) is None
    assert "could not be shown" in caplog.text
