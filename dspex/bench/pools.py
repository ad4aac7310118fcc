"""Worker pools beside raw loky, joblib and dask: what a task costs, and what is lost when workers die."""

from __future__ import annotations

import importlib.util
import os
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager, suppress
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

from dspex.bench import neural
from dspex.bench.timing import print_rows
from dspex.errors import PoisonTaskError, PoolSaturatedError, TaskTimeoutError
from dspex.pools import PoolSpec, named

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dspex.pools.pool import Pool

_ROUNDS = 5
_CALLS = 300
_PIPELINED = 3000
_CALLS_ON_DASK = 200
_PIPELINED_ON_DASK = 500
_INNOCENTS = 120
_CHAOS = 2000
_KILLS = 30
_RECOVERIES = 9
_LAYERS = 2
_ARRAY_MB = 32
_JOBLIB = {"joblib on loky, batched by itself": "loky", "joblib on a dspex pool, batched by itself": "dspex"}
_TASK = {"question": "Tom has 3 apples and buys 4 more.", "temperature": 0.7, "n": 12, "tags": ["a", "b"]}


def run() -> None:
    """Print the figures."""
    print_rows(_latencies(), "us")
    print_rows(_on_dask(), "us")
    print_rows(_recoveries(), "ms")
    print_rows(_stops(), "ms")
    _print_isolation()
    _print_chaos()
    _print_start()
    _print_orphans()
    print_rows(_sessions(), "ms")
    with _pool(workers=1, preload=("torch",), memory_mib=2048) as pool:
        print_rows(neural.batching(pool, neural.FULL), "us")
    print_rows(_arrays(), "ms")
    print_rows(_bulkheads(), "us")


@contextmanager
def _pool(*, warm: bool = True, **options: Any) -> Iterator[Pool]:
    pool = named.make("bench", PoolSpec(**options))
    if warm:
        pool.warm()
        _until(lambda: _ready(pool) == pool.workers)
    yield pool
    pool.close()


def _ready(pool: Pool) -> int:
    return sum(each.state == "ready" for each in pool.stats().workers)


def _until(condition: Callable[[], bool], patience_s: float = 60.0) -> float:
    began = time.perf_counter()
    while not condition():
        if time.perf_counter() - began > patience_s:
            raise TimeoutError(f"nothing came of it within {patience_s} s")
        time.sleep(0.0005)
    return 1e3 * (time.perf_counter() - began)


def _by_value(function: Callable[..., Any]) -> Callable[..., Any]:
    """Have a function travel whole, as one from a notebook does: importing this module takes a worker seconds."""
    function.__module__ = "__main__"
    return function


# ── what a task costs ───────────────────────────────────────────────────────────────────────────


def _latencies() -> dict[str, float]:
    """Measure one task after the other, and many at once; the executors take turns."""
    import joblib
    from loky import ProcessPoolExecutor

    with _pool(workers=2) as ours, ProcessPoolExecutor(2) as loky:
        executors = {"raw loky": loky, "dspex pool": ours}
        one: dict[str, list[float]] = {name: [] for name in executors}
        many: dict[str, list[float]] = {name: [] for name in (*executors, *_JOBLIB)}
        for executor in executors.values():
            for each in [executor.submit(dict, _TASK) for _ in range(100)]:
                each.result()
        for _ in range(_ROUNDS):
            for name, executor in executors.items():
                one[name] += [_call_us(executor) for _ in range(_CALLS)]
                many[name].append(_pipelined_us(executor))
            for name, backend in _JOBLIB.items():
                began = time.perf_counter()
                with joblib.parallel_config(backend=backend, n_jobs=2):
                    joblib.Parallel()(joblib.delayed(dict)(_TASK) for _ in range(_PIPELINED))
                many[name].append(1e6 * (time.perf_counter() - began) / _PIPELINED)
    named.close("general")
    rows = {f"one task, median: {name}": median(found) for name, found in one.items()}
    ratio = rows["one task, median: dspex pool"] / rows["one task, median: raw loky"]
    print(f"latency of one task: {ratio:.2f} x raw loky (2 workers, {_ROUNDS * _CALLS} tasks each, in turns)")
    rows |= {f"a task among {_PIPELINED}: {name}": min(found) for name, found in many.items()}
    return rows


def _call_us(executor: Any) -> float:
    began = time.perf_counter()
    executor.submit(dict, _TASK).result()
    return 1e6 * (time.perf_counter() - began)


def _pipelined_us(executor: Any, n: int = _PIPELINED) -> float:
    began, futures = time.perf_counter(), []
    for _ in range(n):
        while True:
            try:
                futures.append(executor.submit(dict, _TASK))
                break
            except PoolSaturatedError:
                futures[-500].result()
    for each in futures:
        each.result()
    return 1e6 * (time.perf_counter() - began) / n


def _on_dask() -> dict[str, float]:
    """Measure the same on a dask cluster of two workers on loopback: its own client, then a pool of ours on it."""
    if importlib.util.find_spec("distributed") is None:
        print("dask.distributed is not installed: not measured")
        return {}
    from distributed import Client, LocalCluster

    rows: dict[str, float] = {}
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=50
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        named.use(cluster)
        with _pool(workers=2) as ours:
            executors = {"dask's executor": client.get_executor(pure=False), "dspex pool on dask": ours}
            for name, executor in executors.items():
                _pipelined_us(executor, 50)
                rows[f"one task, median: {name}"] = median(_call_us(executor) for _ in range(_CALLS_ON_DASK))
                rows[f"a task among {_PIPELINED_ON_DASK}: {name}"] = _pipelined_us(
                    executor, _PIPELINED_ON_DASK
                )
        named.use(None)
    return rows


# ── when workers die ────────────────────────────────────────────────────────────────────────────


def _recoveries() -> dict[str, float]:
    """Measure from kill -9 until another worker is ready."""
    rows = {}
    for how in ("zygote", "spawn"):
        with _pool(workers=2, preload=("dspy",), start=how) as pool:
            times = []
            for _ in range(_RECOVERIES):
                pid = pool.submit(os.getpid).result()
                os.kill(pid, signal.SIGKILL)
                times.append(
                    _until(
                        lambda pid=pid: (
                            sum(  # type: ignore[misc]  # mypy cannot infer a default's type
                                each.state == "ready" and each.pid != pid for each in pool.stats().workers
                            )
                            == pool.workers
                        )
                    )
                )
        rows[f"kill -9 until a worker with DSPy is ready, median: {how}"] = median(times)
        rows[f"… longest of {_RECOVERIES}: {how}"] = max(times)
    return rows


def _stops() -> dict[str, float]:
    """Measure how late a task is stopped, softly and hard; a soft stop must keep the session."""
    rows = {}
    with _pool(workers=1, grace_s=0.5) as pool:
        session = pool.session("s", list)
        session.call(list.append, "kept")
        soft = [_late_ms(pool, time.sleep, 10) for _ in range(10)]
        assert session.call(list) == ["kept"]
        rows["stopped after its timeout, longest of 10, session kept"] = max(soft)
        rows["killed after its timeout, of which 500 are grace"] = _late_ms(pool, sum, range(10**11))
    return rows


def _late_ms(pool: Pool, function: Callable[..., Any], argument: Any) -> float:
    began = time.perf_counter()
    try:
        pool.submit(function, argument, timeout_s=0.2).result()
    except TaskTimeoutError:
        return 1e3 * (time.perf_counter() - began) - 200
    raise AssertionError("nothing was stopped")


@_by_value
def _nap_and_square(x: int) -> int:
    time.sleep(0.01)
    return x * x


@_by_value
def _die(how: str) -> None:
    if how == "exit":
        os._exit(3)
    if how == "abort":
        os.abort()
    os.kill(os.getpid(), getattr(signal, how))


def _print_isolation() -> None:
    half = _INNOCENTS // 2
    for how in ("SIGKILL", "SIGSEGV", "exit", "abort"):
        with _pool(workers=4) as pool:
            before = [pool.submit(_nap_and_square, k) for k in range(half)]
            killer = pool.submit(_die, how)
            after = [pool.submit(_nap_and_square, k) for k in range(half, _INNOCENTS)]
            right = sum(
                each.exception() is None and each.result() == k * k for k, each in enumerate(before + after)
            )
            is_told = isinstance(killer.exception(), PoisonTaskError)
        print(
            f"innocents beside a task that dies by {how}: {right}/{_INNOCENTS}; the task is told why: {is_told}"
        )
    print(f"innocents on raw loky: {_innocents_on_loky()}/{_INNOCENTS}")


def _innocents_on_loky() -> int:
    from loky import ProcessPoolExecutor

    half = _INNOCENTS // 2
    executor = ProcessPoolExecutor(4)
    futures = [executor.submit(_nap_and_square, k) for k in range(half)]
    killer = executor.submit(_die, "SIGKILL")
    try:
        futures += [executor.submit(_nap_and_square, k) for k in range(half, _INNOCENTS)]
    except BrokenExecutor:  # it takes no more work then
        killer.exception()
    survived = sum(each.exception() is None for each in futures)
    executor.shutdown(kill_workers=True)
    return survived


def _print_chaos() -> None:
    rng, over, kills = random.Random(0), threading.Event(), []
    with _pool(workers=4) as pool:

        def kill() -> None:
            while not over.wait(0.15):
                pids = [each.pid for each in pool.stats().workers if each.state == "ready" and each.pid]
                if pids:
                    with suppress(ProcessLookupError):  # it was replaced a moment ago
                        os.kill(pid := rng.choice(pids), signal.SIGKILL)
                        kills.append(pid)

        killer = threading.Thread(target=kill)
        killer.start()
        began = time.perf_counter()
        results = list(pool.map(_nap_and_square, range(_CHAOS)))
        seconds = time.perf_counter() - began
        over.set()
        killer.join()
        stats = pool.stats()
    wrong = sum(found != k * k for k, found in enumerate(results))
    print(
        f"chaos: {stats.submitted} tasks, {len(kills)} kills in {seconds:.1f} s: {_CHAOS - len(results)} lost, {wrong} wrong, "
        f"{stats.retried} tried again, the numbers add up: {stats.reconciles}"
    )


# ── beginning and ending ────────────────────────────────────────────────────────────────────────


def _print_start() -> None:
    import psutil

    specs = {
        "general": PoolSpec(workers=8, memory_mib=512, preload=("dspy",)),
        "optimizer": PoolSpec(workers=2, memory_mib=4096, preload=("dspy", "numpy")),
        "neural": PoolSpec(workers=4, memory_mib=8192, preload=("dspy",)),
    }
    before = set(psutil.Process().children(recursive=True))
    began = time.perf_counter()
    pools = [named.make(name, spec) for name, spec in specs.items()]
    for pool in pools:
        pool.warm()
    _until(lambda: sum(map(_ready, pools)) == 14)  # noqa: PLR2004  # as many as the three have
    seconds = time.perf_counter() - began
    children = set(psutil.Process().children(recursive=True)) - before
    held = sum(each.memory_full_info().pss for each in children) >> 20
    began = time.perf_counter()
    for pool in pools:
        pool.close()
    ended = time.perf_counter() - began
    print(
        f"14 workers in 3 pools, with DSPy: up in {seconds:.2f} s, {held} MiB in all; ended in {ended:.2f} s"
    )


_ORPHAN_MAKER = """
import time
from dspex.pools import PoolSpec, named
pool = named.make("bench", PoolSpec(workers=3, start={how!r}))
pool.warm()
while sum(each.state == "ready" for each in pool.stats().workers) < 3:
    time.sleep(0.01)
pool.submit(sum, range(10**11))
pool.submit(time.sleep, 100)
while pool.stats().running < 2:
    time.sleep(0.01)
print("ready", flush=True)
time.sleep(100)
"""


def _print_orphans() -> None:
    import psutil

    for how in ("zygote", "spawn"):
        code = _ORPHAN_MAKER.format(how=how)
        command = [sys.executable, "-c", code]
        parent = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)  # noqa: S603  # our own
        assert parent.stdout is not None
        parent.stdout.readline()
        children = psutil.Process(parent.pid).children(recursive=True)
        parent.kill()
        parent.wait()
        parent.stdout.close()
        took = _until(lambda children=children: not any(map(_lives, children)), 20)  # type: ignore[misc]  # as above
        print(f"after kill -9 of the parent, {len(children)} processes are gone in {took:.0f} ms: {how}")


def _lives(process: Any) -> bool:
    import psutil

    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


# ── sessions ────────────────────────────────────────────────────────────────────────────────────


@_by_value
def _net(layers: int) -> list[Any]:
    import numpy as np

    rng = np.random.default_rng(0)
    return [rng.standard_normal((2048, 2048), dtype="float32") for _ in range(layers)]


@_by_value
def _forward(net: list[Any], x: float) -> float:
    import numpy as np

    activations = np.full((1, 2048), x, dtype="float32")
    for layer in net:
        activations = np.tanh(activations @ layer)
    return float(activations.sum())


def _sessions() -> dict[str, float]:
    net = _net(_LAYERS)
    with _pool(workers=1, memory_mib=2048) as pool:
        session = pool.session("net", partial(_net, _LAYERS))
        session.call(_forward, 0.5)
        kept = [_timed_ms(lambda: session.call(_forward, 0.5)) for _ in range(20)]
        shipped = [_timed_ms(lambda: pool.submit(_forward, net, 0.5).result()) for _ in range(5)]
    millions = sum(layer.size for layer in net) / 1e6
    print(
        f"a call of a net of {millions:.1f} M parameters: {median(shipped) / median(kept):.0f} x sooner in a session"
    )
    return {"a call in its session": median(kept), "a call with the net shipped": median(shipped)}


def _timed_ms(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - began)


# ── arrays, and the neighbour that hangs ────────────────────────────────────────────────────────


@_by_value
def _first(array: Any) -> float:
    return float(array[0])


@_by_value
def _ones(n: int) -> Any:
    import numpy as np

    return np.ones(n)


def _arrays() -> dict[str, float]:
    """Measure an array's way to a worker, and the way back; the executors take turns."""
    import numpy as np
    from loky import ProcessPoolExecutor

    from dspex.pools import sharing

    n = _ARRAY_MB << 17
    array, rows = np.ones(n), {}
    with _pool(workers=1, preload=("numpy",)) as ours, ProcessPoolExecutor(1) as loky, sharing():
        for what, function, given in (
            (f"{_ARRAY_MB} MB to a worker", _first, array),
            ("… and back", _ones, n),
        ):
            for name, executor in (("raw loky", loky), ("dspex pool", ours)):
                times = [_elapsed_ms(executor, function, given) for _ in range(_ROUNDS)]
                rows[f"{what}, first: {name}"] = times[0]
                rows[f"{what}, again, median: {name}"] = median(times[1:])
    return rows


def _elapsed_ms(executor: Any, function: Callable[..., Any], given: Any) -> float:
    began = time.perf_counter()
    executor.submit(function, given).result()
    return 1e3 * (time.perf_counter() - began)


def _bulkheads() -> dict[str, float]:
    """Measure one pool's tasks while another's workers hang and its queue is full."""
    rows = {}
    with _pool(workers=2) as well, _pool(workers=2, queue_limit=100) as sick:
        for where in ("alone", "beside a pool that hangs"):
            if where != "alone":
                for each in sick.stats().workers:
                    os.kill(each.pid or 0, signal.SIGSTOP)
                for _ in range(100):
                    sick.submit(dict, _TASK)
            times = sorted(_call_us(well) for _ in range(_CALLS))
            rows[f"one task, 95th of 100: {where}"] = times[int(0.95 * len(times))]
    return rows
