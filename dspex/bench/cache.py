"""What a recalled answer costs, beside DSPy's own cache, and how it holds under many clients.

`DSPEX_CACHE_S` says for how many seconds the clients ask (30 if it is not set).
"""

from __future__ import annotations

import os
import statistics
import threading
import time
from typing import TYPE_CHECKING

import dspy

from dspex import sandbox, session
from dspex.bench.timing import medians_us, print_rows
from dspex.native.signature import signature

if TYPE_CHECKING:
    from dspex.native.signature import Signature

_CLIENTS = 50
_OFFERED_PER_S = 1_200.0
_REQUESTS = 200
_IN_A_ROW = 20_000


def run() -> None:
    """Print the figures."""
    seconds = float(os.environ.get("DSPEX_CACHE_S", "30"))
    task = sandbox.task("triage")
    ours = signature(task.signature, task.instructions, name="Triage")
    messages = [f"{task.dev[k % len(task.dev)].message} ({k})" for k in range(_REQUESTS)]
    runtime = session.configure(["sandbox/small"], modules=["Predict"], store="memory", cache=True)
    for message in messages:
        session.execute(ours, message=message)
    _beside_dspy(ours, messages[0])
    by_clock, by_processor = _per_second(ours, messages[0])
    print_rows({"in a row on one thread": by_clock, "  by its processor time": by_processor}, "calls/s")
    _under_clients(ours, messages, seconds)
    runtime.close()


def _beside_dspy(ours: Signature, message: str) -> None:
    predict, lm = dspy.Predict(ours.to_dspy()), sandbox.lm("sandbox/small").copy(temperature=0.0)
    lm.cache = True

    def stock() -> None:
        with dspy.context(lm=lm):
            predict(message=message)

    def cached() -> None:
        for _ in range(100):
            session.execute(ours, message=message)

    found = medians_us({"dspy": stock, "dspex": cached}, repeats=100)
    dspy_us, dspex_us = found["dspy"], found["dspex"] / 100
    print_rows({"recalled: dspy.Predict": dspy_us, "recalled: dspex.execute": dspex_us}, "us")
    print_rows({"times as fast": dspy_us / dspex_us}, "x")


def _per_second(ours: Signature, message: str) -> tuple[float, float]:
    """Return calls a second by the clock, and by the thread's own time, which leaves other programs out."""
    began, began_cpu = time.perf_counter(), time.thread_time()
    for _ in range(_IN_A_ROW):
        session.execute(ours, message=message)
    return _IN_A_ROW / (time.perf_counter() - began), _IN_A_ROW / (time.thread_time() - began_cpu)


def _under_clients(ours: Signature, messages: list[str], seconds: float) -> None:
    """Let clients ask at their own pace; who comes late does not wait for the next turn to make up for it."""
    taken: list[list[float]] = [[] for _ in range(_CLIENTS)]
    began = time.perf_counter()

    def client(number: int) -> None:
        turn, mine = number / _OFFERED_PER_S, taken[number]
        k = number
        while turn < seconds:
            time.sleep(max(0.0, began + turn - time.perf_counter()))
            asked = time.perf_counter()
            session.execute(ours, message=messages[k % _REQUESTS])
            mine.append(time.perf_counter() - asked)
            turn += _CLIENTS / _OFFERED_PER_S
            k += 7

    threads = [threading.Thread(target=client, args=(number,)) for number in range(_CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - began
    times = [each for mine in taken for each in mine]
    cuts = statistics.quantiles(times, n=100)
    print_rows({f"by {_CLIENTS} clients, for {elapsed:.0f} s": len(times) / elapsed}, "calls/s")
    print_rows({"half of them within": 1e3 * cuts[49], "99 of 100 within": 1e3 * cuts[98]}, "ms")
