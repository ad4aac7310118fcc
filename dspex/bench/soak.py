"""A soak: three upstreams that fail by plan, asked over real sockets through `execute`, for as long as you like.

`DSPEX_SOAK_S`, or ``--seconds``, says for how many seconds (60 if neither is given). Each upstream has three
outages, hanging and failing fast by turns, and three brown-outs; six bursts of calls arrive at once. Beside
that a pool of worker processes has something to do all the time, and one of them is killed each minute. What is
measured is the guards and the fallback between models, against the sandbox's server: it says nothing about
real providers.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import statistics
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dspy
import psutil

from dspex import sandbox
from dspex.bench.timing import print_rows
from dspex.errors import DspexError, ExecutionError
from dspex.events import BreakerTurned, Event, ExecutionFinished
from dspex.native.signature import signature
from dspex.pools import PoolSpec, named
from dspex.records import Execution, Price
from dspex.reliability import Reliability
from dspex.runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dspex.native.signature import Signature
    from dspex.pools.pool import Pool as WorkerPool

_UPSTREAMS = 3
_TROUBLES = 3
"""Outages of each upstream, and brown-outs."""
_TROUBLE_SHARE = 0.04
"""How long each lasts, as a share of the whole."""
_CALLS_PER_S = 20.0
_BURSTS = 6
_BURST = 60
_DEADLINE_S = 20.0
_PACE = 0.1
_SHORTEST_ATTEMPT_S = 2.0
_WORKERS = 128
_AIM_PERCENT = 99.9
_KILL_EVERY_S = 60.0
_KILLS = 3
"""At least so many workers are killed, however short the soak is."""
_PAUSE_S = 0.05
_TELLING_S = 30.0
"""A soak that is shorter has too few calls to be held to the aim."""


@dataclass(slots=True)
class Tally:
    """What happened."""

    latencies_s: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    attempts: list[Execution] = field(default_factory=list)
    opened: int = 0
    rss_mib: list[float] = field(default_factory=list)
    tasks: int = 0
    """Of the worker processes."""
    lost: int = 0
    """Of these, without an answer or with a wrong one."""
    killed: int = 0
    workers: dict[int, psutil.Process] = field(default_factory=dict)

    def hear(self, event: Event) -> None:
        """Take note of what the runtime tells."""
        if isinstance(event, ExecutionFinished):
            self.attempts.append(event.execution)
        elif isinstance(event, BreakerTurned) and event.after == "open":
            self.opened += 1


def run(*, seconds: float | None = None) -> None:
    """Print the figures.

    Raises
    ------
    ExecutionError
        If a soak of half a minute or more answered less than 99.9 % of its calls, or if a task of the workers
        was lost, or a process left behind.
    """
    seconds = float(os.environ.get("DSPEX_SOAK_S", "60")) if seconds is None else seconds
    rng, tally = random.Random(0), Tally()
    with ExitStack() as stack:
        plans = [_plan(number, seconds, rng) for number in range(_UPSTREAMS)]
        servers = [
            stack.enter_context(sandbox.serve(pace=_PACE, seed=number)) for number in range(_UPSTREAMS)
        ]
        runtime = _runtime([server.url for server in servers], tally)
        stack.callback(runtime.close)
        for server, plan in zip(servers, plans, strict=True):
            server.set_faults(plan)
        pool = stack.enter_context(named.make("soak", PoolSpec(workers=2, memory_mib=512)))
        asyncio.run(_both(runtime, pool, seconds, rng, tally))
    _, left = psutil.wait_procs(list(tally.workers.values()), timeout=5)
    _print(seconds, tally, left=len(left))
    if tally.lost or left:
        raise ExecutionError(
            f"{tally.lost} tasks of workers were lost, {len(left)} processes were left behind"
        )
    good, bad = len(tally.latencies_s), sum(tally.failures.values())
    if seconds >= _TELLING_S and 100 * good < _AIM_PERCENT * (good + bad):
        raise ExecutionError(f"{bad} of {good + bad} calls were not answered; the aim is {_AIM_PERCENT} %")


def _runtime(urls: Sequence[str], tally: Tally) -> Runtime:
    names = ("small", "medium", "large")
    models = [
        dspy.LM(f"openai/sandbox/{name}", api_base=url, api_key="none", cache=False)
        for name, url in zip(names, urls, strict=True)
    ]
    runtime = Runtime(
        models,
        modules=["Predict"],
        store="memory",
        workers=_WORKERS,
        prices={model.model: Price(1.0, 1.0) for model in models},
        reliability=Reliability(timeout_s=_DEADLINE_S, shortest_attempt_s=_SHORTEST_ATTEMPT_S),
        cache=False,
    )
    runtime.events.subscribe(tally.hear)
    return runtime


def _plan(upstream: int, seconds: float, rng: random.Random) -> list[dict[str, Any]]:
    """Spread troubles over the time, each somewhere in its own part of it."""
    length, rows = _TROUBLE_SHARE * seconds, []
    part = seconds / (2 * _TROUBLES)
    for number in range(2 * _TROUBLES):
        start = number * part + rng.uniform(0, part - length)
        kind = ("late", ("hang", "server_error")[(upstream + number // 2) % 2])[number % 2]
        rows.append({"kind": kind, "seconds": [start, start + length], "delay_s": 1.0})
    return rows


async def _both(runtime: Runtime, pool: WorkerPool, seconds: float, rng: random.Random, tally: Tally) -> None:
    await asyncio.gather(_drive(runtime, seconds, rng, tally), _labour(pool, seconds, tally))


async def _labour(pool: WorkerPool, seconds: float, tally: Tally) -> None:
    """Keep the workers busy, and kill one of them now and then."""
    began, every = time.monotonic(), min(_KILL_EVERY_S, seconds / (_KILLS + 1))
    kill_at = every
    while (now := time.monotonic() - began) < seconds:
        future = pool.submit(pow, tally.tasks, 2)
        for worker in pool.stats().workers:
            if worker.pid is not None and worker.pid not in tally.workers:
                with contextlib.suppress(psutil.NoSuchProcess):
                    tally.workers[worker.pid] = psutil.Process(worker.pid)
        if now >= kill_at:
            kill_at += every
            tally.killed += _killed_one(pool)
        try:
            is_right = await asyncio.wrap_future(future) == tally.tasks**2
        except DspexError:
            is_right = False
        tally.lost += not is_right
        tally.tasks += 1
        await asyncio.sleep(_PAUSE_S)


def _killed_one(pool: WorkerPool) -> bool:
    pid = next((each.pid for each in pool.stats().workers if each.pid is not None), None)
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            return True
    return False


async def _drive(runtime: Runtime, seconds: float, rng: random.Random, tally: Tally) -> None:
    task = signature("message -> reply", "Answer briefly.", name="Soak")
    began, calls = time.monotonic(), set()
    bursts = [(number + 0.5) * seconds / _BURSTS for number in range(_BURSTS)]
    while (now := time.monotonic() - began) < seconds:
        n = 1
        if bursts and now >= bursts[0]:
            bursts.pop(0)
            n = _BURST
            tally.rss_mib.append(_rss_mib())
        for _ in range(n):
            text = f"I was charged twice for the desk lamp, ${rng.randrange(1000)} each time."
            call = asyncio.create_task(_request(runtime, task, text, tally))
            calls.add(call)
            call.add_done_callback(calls.discard)
        await asyncio.sleep(rng.expovariate(_CALLS_PER_S))
    await asyncio.gather(*calls)


async def _request(runtime: Runtime, task: Signature, text: str, tally: Tally) -> None:
    began = time.monotonic()
    try:
        await runtime.aexecute(task, {"message": text})
    except DspexError as error:
        tally.failures[type(error).__name__] += 1
    else:
        tally.latencies_s.append(time.monotonic() - began)


def _print(seconds: float, tally: Tally, *, left: int) -> None:
    good, bad = len(tally.latencies_s), sum(tally.failures.values())
    if not good:
        raise ExecutionError(f"no call of {bad} was answered", hint="is the machine very busy?")
    cuts = statistics.quantiles(tally.latencies_s, n=100) if good > 1 else tally.latencies_s * 99
    print_rows({"seconds": seconds, "calls": good + bad, "availability": 100 * good / (good + bad)}, "")
    print_rows({"answered within, half of the calls": cuts[49], "answered within, 99 of 100": cuts[98]}, "s")
    print_rows(
        {"attempts per call": sum(each.role != "refused" for each in tally.attempts) / (good + bad)}, ""
    )
    print_rows({"times that a breaker opened": tally.opened, "calls without an answer": bad}, "")
    if len(tally.rss_mib) > 1:
        print_rows({"memory at the second burst": tally.rss_mib[1], "at the last": tally.rss_mib[-1]}, "MiB")
    print_rows({"tasks of workers": tally.tasks, "workers killed": tally.killed}, "")
    print_rows({"tasks of workers lost or wrong": tally.lost, "processes left behind": left}, "")
    for name, count in tally.failures.most_common():
        print_rows({f"  of these {name}": count}, "")


def _rss_mib() -> float:
    return float(psutil.Process().memory_info().rss) / (1 << 20)
