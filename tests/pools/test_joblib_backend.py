"""joblib and scikit-learn run in pools."""

from __future__ import annotations

import contextvars
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from conformance import until
from tasks import die, die_once, fail, square, touch_and_wait

import dspex as dx
from dspex.errors import CircuitOpenError, DefinitionError, UnknownNameError, WorkerCrashedError
from dspex.pools import PoolSpec, named

joblib = pytest.importorskip("joblib")
TIMEOUT_S = 30


@pytest.fixture
def pool():
    yield dx.pools.define("jobs", PoolSpec(workers=2, queue_limit=4))
    named.close("jobs")
    del named._specs["jobs"]


@pytest.fixture
def parallel(pool):
    with joblib.parallel_config(backend="dspex", pool="jobs", n_jobs=-1):
        yield joblib.Parallel


@pytest.mark.parametrize("order", ["import dspex, joblib", "import joblib, dspex"])
def test_joblib_knows_the_backend(order):
    """Whichever is imported first, joblib knows the backend, and importing dspex alone loads no joblib."""
    code = (
        f"{order}\n"
        "with joblib.parallel_config(backend='dspex', pool='general') as config:\n"
        "    print(type(joblib.parallel.get_active_backend()[0]).__name__)\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert said.stdout == "DspexBackend\n"
    alone = subprocess.run(
        [sys.executable, "-c", "import dspex, sys; print('joblib' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert alone.stdout == "False\n"


def test_a_pool_that_breaks_ends_the_call(clock, make_pool, monkeypatch, tmp_path):
    """What is refused in the middle of a call, as the pool is broken by then, reaches who waits; nothing hangs."""
    pool = make_pool(workers=2)
    monkeypatch.setitem(named._pools, "jobs", pool)
    began, gate = [tmp_path / str(k) for k in range(50)], tmp_path / "gate"
    with ThreadPoolExecutor() as threads, joblib.parallel_config(backend="dspex", pool="jobs", n_jobs=2):
        calls = (joblib.delayed(touch_and_wait)(each, gate) for each in began)
        waiting = threads.submit(contextvars.copy_context().run, joblib.Parallel(batch_size=1), calls)
        until(lambda: all(each.exists() for each in began[:2]))
        dying = [pool.submit(die, "SIGKILL", idempotent=False, priority=1) for _ in range(3)]
        gate.touch()
        assert [type(each.exception(TIMEOUT_S)) for each in dying] == [WorkerCrashedError] * 3
        with pytest.raises(CircuitOpenError, match=f"pool {pool.name!r} is not asked for"):
            waiting.result(TIMEOUT_S)


def test_results_come_in_order(pool, parallel):
    """Many small calls are batched, and come back in order, from other processes."""
    assert parallel()(joblib.delayed(square)(k) for k in range(500)) == [k * k for k in range(500)]
    pids = set(parallel(batch_size=1)(joblib.delayed(os.getpid)() for _ in range(20)))
    assert os.getpid() not in pids
    assert pool.stats().done > 20


def test_results_as_they_come(parallel):
    """Generators work, ordered or not."""
    calls = [joblib.delayed(square)(k) for k in range(20)]
    assert list(parallel(return_as="generator")(calls)) == [k * k for k in range(20)]
    assert sorted(parallel(return_as="generator_unordered")(calls)) == [k * k for k in range(20)]


def test_more_than_the_queue_holds(parallel):
    """A call that submits everything at once waits for room."""
    calls = (joblib.delayed(square)(k) for k in range(50))
    assert parallel(pre_dispatch="all", batch_size=1)(calls) == [k * k for k in range(50)]


def test_a_failure_stops_the_rest(pool, parallel, tmp_path):
    """The first failure is raised as itself, and what was still to do is not done."""
    calls = [joblib.delayed(fail)("no"), *(joblib.delayed(time.sleep)(30) for _ in range(3))]
    began = time.monotonic()
    with pytest.raises(ValueError, match="no"):
        parallel(batch_size=1)(calls)
    until(lambda: pool.stats().running == 0)
    assert time.monotonic() - began < 20
    assert parallel()(joblib.delayed(square)(k) for k in range(3)) == [0, 1, 4]


def test_a_worker_that_dies_is_no_matter(parallel, tmp_path):
    """Joblib's own backend would fail the whole call."""
    calls = [
        joblib.delayed(square)(3),
        joblib.delayed(die_once)(tmp_path / "died"),
        joblib.delayed(square)(4),
    ]
    assert parallel(batch_size=1)(calls) == [9, "well", 16]


def test_nested_calls_run_in_their_worker(parallel):
    """A parallel call within a worker runs there, one after the other."""
    assert parallel()(joblib.delayed(nested)(k) for k in range(4)) == [[0], [0, 1], [0, 1, 4], [0, 1, 4, 9]]


def nested(n):
    return joblib.Parallel(n_jobs=2)(joblib.delayed(square)(k) for k in range(n + 1))


def test_jobs_are_no_more_than_workers(pool, parallel):
    """`n_jobs` is bounded by the pool, counts from its end, and must not be 0."""
    assert joblib.effective_n_jobs(-1) == 2
    assert joblib.effective_n_jobs(8) == 2
    assert joblib.effective_n_jobs(1) == 1
    with pytest.raises(DefinitionError, match="n_jobs must not be 0"):
        joblib.effective_n_jobs(0)


def test_an_unknown_pool_is_named():
    """A pool that does not exist is an error that names those that do."""
    with (
        joblib.parallel_config(backend="dspex", pool="genral"),
        pytest.raises(UnknownNameError, match="'general'"),
    ):
        joblib.Parallel(2)(joblib.delayed(square)(k) for k in range(3))


def test_scikit_learn_searches_in_it(pool, parallel):
    """A grid search runs in the pool, and finds what it finds without it."""
    pytest.importorskip("sklearn")
    from sklearn.datasets import make_classification
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV

    x, y = make_classification(120, 8, random_state=0)
    grid = {"C": [0.01, 0.1, 1.0, 10.0]}
    before = pool.stats().done
    found = GridSearchCV(LogisticRegression(), grid, cv=3, n_jobs=-1).fit(x, y)
    assert pool.stats().done > before
    with joblib.parallel_config(backend="sequential"):
        alone = GridSearchCV(LogisticRegression(), grid, cv=3).fit(x, y)
    assert found.best_params_ == alone.best_params_
    assert list(found.cv_results_["mean_test_score"]) == list(alone.cv_results_["mean_test_score"])
