"""Hedging: how late the latest answers are with another model asked beside a slow one and without, and for how much."""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

import dspy

from dspex import sandbox
from dspex.bench.timing import print_rows
from dspex.events import Event, HedgeBegun
from dspex.native.signature import signature
from dspex.records import Price
from dspex.reliability import Reliability
from dspex.runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dspex.reliability.hedging import HedgeAfter
    from dspex.sandbox.server import Server

_CALLS = 1_000
_AT_ONCE = 4
_MODELS = ("small", "medium")
_TAIL = [{"kind": "late", "share": 0.03, "delay_s": 1.0}]
"""Three calls in a hundred are answered a second later, by either model."""
_PACE = 0.05
_HEDGES: dict[str, HedgeAfter | None] = {
    "never": None,
    "after 0.25 s": 0.25,
    "after the predicted p95": "p95",
}


class _Run(NamedTuple):
    latencies_s: Sequence[float]
    hedges: int


def print_hedging() -> None:
    """Print what half and 99 of 100 calls take, and how many are asked twice for it."""
    with ExitStack() as stack:
        servers = [
            stack.enter_context(sandbox.serve(pace=_PACE, seed=number)) for number in range(len(_MODELS))
        ]
        for name, after in _HEDGES.items():
            done = _drive(servers, after)
            cuts = statistics.quantiles(done.latencies_s, n=100)
            print_rows({f"3 % a second late, hedged {name}": cuts[49]}, "s for half")
            print_rows({"  99 of 100 within": cuts[98]}, "s")
            print_rows({"  calls that cost another one": 100 * done.hedges / _CALLS}, "%")


def _drive(servers: Sequence[Server], after: HedgeAfter | None) -> _Run:
    for server in servers:
        server.set_faults(_TAIL)
    runtime, hedges = _runtime(servers, after), list[Event]()
    runtime.events.subscribe(lambda event: hedges.append(event) if isinstance(event, HedgeBegun) else None)
    task = sandbox.task("triage")
    asked = signature(task.signature, task.instructions, name="Hedged")

    def call(number: int) -> float:
        began = time.monotonic()
        runtime.execute(asked, {"message": f"Where is parcel {number}?"})
        return time.monotonic() - began

    with ThreadPoolExecutor(_AT_ONCE) as threads:
        latencies = list(threads.map(call, range(_CALLS)))
    runtime.close()
    return _Run(latencies, len(hedges))


def _runtime(servers: Sequence[Server], after: HedgeAfter | None) -> Runtime:
    models = [
        dspy.LM(f"openai/sandbox/{name}", api_base=server.url, api_key="none", cache=False)
        for name, server in zip(_MODELS, servers, strict=True)
    ]
    return Runtime(
        models,
        modules=["Predict"],
        store="memory",
        prices={model.model: Price(1.0, 1.0) for model in models},
        reliability=Reliability(hedge_after_s=after),
        cache=False,
    )
