"""A soak: three upstreams that fail by plan, asked over real sockets through guards, for as long as you like.

`DSPEX_SOAK_S` says for how many seconds (60 if it is not set). Each upstream has three outages, hanging and
failing fast by turns, and three brown-outs; every call asks the first upstream first; six bursts of calls arrive at once. What is measured is
the guards and the fallback between them, against the sandbox's server: it says nothing about real providers.
"""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import sys
import time
from collections import Counter
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx

from dspex import sandbox
from dspex.bench.timing import print_rows
from dspex.bridge.failures import translated
from dspex.errors import DspexError, ExecutionError
from dspex.reliability import Guard, RetryPolicy, remaining_s, within

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dspex.reliability import Attempt, Transition

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
_PREDICTED_P95_S = 0.2
_PASSES = 3
"""How often the row of upstreams is gone through."""
_SHORTEST_WAIT_S = 0.2
"""Between two passes, also if another call is finding out already whether an upstream is well."""


@dataclass(slots=True)
class Tally:
    """What happened."""

    latencies_s: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    attempts: list[Attempt] = field(default_factory=list)
    transitions: list[Transition] = field(default_factory=list)
    rss_mib: list[float] = field(default_factory=list)


def run() -> None:
    """Print the figures."""
    seconds = float(os.environ.get("DSPEX_SOAK_S", "60"))
    rng, tally = random.Random(0), Tally()
    with ExitStack() as stack:
        plans = [_plan(number, seconds, rng) for number in range(_UPSTREAMS)]
        servers = [
            stack.enter_context(sandbox.serve(pace=_PACE, seed=number)) for number in range(_UPSTREAMS)
        ]
        for server, plan in zip(servers, plans, strict=True):
            server.set_faults(plan)
        asyncio.run(_drive([server.url for server in servers], seconds, rng, tally))
    _print(seconds, tally)


def _plan(upstream: int, seconds: float, rng: random.Random) -> list[dict[str, Any]]:
    """Spread troubles over the time, each somewhere in its own part of it."""
    length, rows = _TROUBLE_SHARE * seconds, []
    part = seconds / (2 * _TROUBLES)
    for number in range(2 * _TROUBLES):
        start = number * part + rng.uniform(0, part - length)
        kind = ("late", ("hang", "server_error")[(upstream + number // 2) % 2])[number % 2]
        rows.append({"kind": kind, "seconds": [start, start + length], "delay_s": 1.0})
    return rows


async def _drive(urls: Sequence[str], seconds: float, rng: random.Random, tally: Tally) -> None:
    guards = [_guard(f"upstream-{number}", tally) for number in range(len(urls))]
    began, calls = time.monotonic(), set()
    bursts = [(number + 0.5) * seconds / _BURSTS for number in range(_BURSTS)]
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(httpx.AsyncClient(base_url=url)) for url in urls]
        while (now := time.monotonic() - began) < seconds:
            n = 1
            if bursts and now >= bursts[0]:
                bursts.pop(0)
                n = _BURST
                tally.rss_mib.append(_rss_mib())
            for _ in range(n):
                text = f"I was charged twice for the desk lamp, ${rng.randrange(1000)} each time."
                call = asyncio.create_task(_request(text, guards, clients, tally))
                calls.add(call)
                call.add_done_callback(calls.discard)
            await asyncio.sleep(rng.expovariate(_CALLS_PER_S))
        await asyncio.gather(*calls)


def _guard(name: str, tally: Tally) -> Guard:
    made = Guard.of(name, retry=RetryPolicy(attempts=1))
    made.p95_s, made.listen, made.breaker.listen = (
        _PREDICTED_P95_S,
        tally.attempts.append,
        tally.transitions.append,
    )
    return made


async def _request(
    text: str, guards: Sequence[Guard], clients: Sequence[httpx.AsyncClient], tally: Tally
) -> None:
    """Go through the upstreams until one answers; if none does, wait for the first that may again."""
    began, error = time.monotonic(), None
    with within(_DEADLINE_S):
        for left in range(_PASSES * len(guards), 0, -1):
            number = -left % len(guards)
            try:
                await guards[number].acall(
                    lambda timeout_s, client=clients[number]: _ask(client, text, timeout_s),  # type: ignore[misc]  # a default binds the loop's value
                    attempts_left=left,
                )
            except DspexError as raised:
                error = raised
            else:
                tally.latencies_s.append(time.monotonic() - began)
                return
            if number == len(guards) - 1 and left > 1:
                wait_s = max(_SHORTEST_WAIT_S, min(guard.breaker.retry_after_s for guard in guards))
                await asyncio.sleep(min(wait_s, remaining_s()))
    tally.failures[type(error).__name__] += 1


async def _ask(client: httpx.AsyncClient, text: str, timeout_s: float) -> str:
    asked = {"model": "sandbox/small", "messages": [{"role": "user", "content": text}]}
    with translated():
        response = await client.post("/chat/completions", json=asked, timeout=timeout_s)
        response.raise_for_status()
        content: str = response.json()["choices"][0]["message"]["content"]
    return content


def _print(seconds: float, tally: Tally) -> None:
    good, bad = len(tally.latencies_s), sum(tally.failures.values())
    if not good:
        raise ExecutionError(f"no call of {bad} was answered", hint="is the machine very busy?")
    cuts = statistics.quantiles(tally.latencies_s, n=100) if good > 1 else tally.latencies_s * 99
    opened = sum(each.after == "open" for each in tally.transitions)
    print_rows({"seconds": seconds, "calls": good + bad, "availability": 100 * good / (good + bad)}, "")
    print_rows({"answered within, half of the calls": cuts[49], "answered within, 99 of 100": cuts[98]}, "s")
    print_rows({"attempts per call": len(tally.attempts) / (good + bad)}, "")
    print_rows(
        {"attempts that failed and may be billed": sum(each.possibly_billed for each in tally.attempts)}, ""
    )
    print_rows({"times that a breaker opened": opened, "calls without an answer": bad}, "")
    if len(tally.rss_mib) > 1:
        print_rows(
            {"peak memory by the first burst": tally.rss_mib[0], "by the last": tally.rss_mib[-1]}, "MiB"
        )
    for name, count in tally.failures.most_common():
        print_rows({f"  of these {name}": count}, "")


def _rss_mib() -> float:
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)
