"""Inside a worker: bad tasks of every kind end in a clear error, and the worker goes on."""

from __future__ import annotations

import os
import signal
import time

import pytest
from conformance import until
from tasks import (
    draw,
    environment,
    ignore_everything,
    sleep_with,
    square,
    swallow_everything,
    zeros,
)

from dspex.errors import (
    TaskTimeoutError,
    WorkerMemoryError,
)
from dspex.pools.gpus import Gpu

TIMEOUT_S = 30


@pytest.fixture
def pool(make_pool):
    made = make_pool(workers=1, memory_mib=512, max_result_mib=8, grace_s=0.3)
    made.submit(environment, ()).result(TIMEOUT_S)  # what the tasks stand in is imported
    return made


def pid_of(pool):
    return pool.submit(os.getpid, timeout_s=None).result(TIMEOUT_S)


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


# ── strange things ──────────────────────────────────────────────────────────────────────────────


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


def test_a_pools_own_environment(make_pool):
    """A pool can be told which environment its workers see, and no more of it."""
    seen = {"PATH": os.environ["PATH"], "FLAVOUR": "a"}
    pool = make_pool(workers=1, environment=lambda: seen)
    assert pool.submit(environment, ["FLAVOUR", "HOME"]).result(TIMEOUT_S) == ["a", None]
    seen.update(FLAVOUR="b")
    assert pool.submit(environment, ["FLAVOUR"]).result(TIMEOUT_S) == ["b"]


# ── what they say ───────────────────────────────────────────────────────────────────────────────
