"""Breakers, retries and bounded queues beside other libraries' own: what they cost and let through; and hedges."""

from __future__ import annotations

import contextlib
import importlib.util
import random
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from dspex.bench import hedging, overload
from dspex.bench.timing import medians_us, print_rows
from dspex.reliability import Breaker, BreakerSettings, Guard

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspex.reliability.breaker import Outcome

    Through = Callable[[Callable[[], Any]], Any]

_PEERS = ("pybreaker", "circuitbreaker", "purgatory", "tenacity")
_COOL_DOWN_S = 0.05
_FAILURES = 3
_CALLS = 1_000
"""How many calls one timing holds."""
_REPEATS = 30
_PROBING = 50
_OVERLAPPING = 20
_CALL_S = 0.05


def run() -> None:
    """Print the figures."""
    installed = [name for name in _PEERS if importlib.util.find_spec(name) is not None]
    print("  peers: " + (", ".join(f"{name} {version(name)}" for name in installed) or "none"))
    missing = [name for name in _PEERS if name not in installed]
    if missing:
        print(f"  not installed: {', '.join(missing)} (pip install --group bench)")
    breakers = {"dspex": _ours, **{name: make for name, make in _OTHERS.items() if name in installed}}
    _print_overhead(breakers, with_tenacity="tenacity" in installed)
    for name, make in breakers.items():
        print_rows(
            {f"{_PROBING} calls on a half-open breaker, reached upstream: {name}": _reached(make())}, ""
        )
    for name, make in breakers.items():
        taken = {
            f"{_OVERLAPPING} x {1e3 * _CALL_S:.0f} ms at once, closed: {name}": 1e3 * _overlapping_s(make())
        }
        print_rows(taken, "ms")
    overload.print_overload()
    hedging.print_hedging()


def _ours() -> Through:
    settings = BreakerSettings(consecutive=_FAILURES, failure_rate=None, cool_down_s=_COOL_DOWN_S, jitter=0)
    breaker = Breaker("bench", settings, rng=random.Random(0))

    def through(call: Callable[[], Any]) -> Any:
        ticket = breaker.admit()
        outcome: Outcome = "failure"
        try:
            value = call()
            outcome = "success"
        finally:
            breaker.record(ticket, outcome)
        return value

    return through


def _pybreaker() -> Through:
    import pybreaker

    made: Any = pybreaker.CircuitBreaker(fail_max=_FAILURES, reset_timeout=_COOL_DOWN_S)
    through: Through = made.call
    return through


def _circuitbreaker() -> Through:
    import circuitbreaker

    made: Any = circuitbreaker.CircuitBreaker(failure_threshold=_FAILURES, recovery_timeout=_COOL_DOWN_S)
    through: Through = made.call
    return through


def _purgatory() -> Through:
    import purgatory

    factory: Any = purgatory.SyncCircuitBreakerFactory(default_threshold=_FAILURES, default_ttl=_COOL_DOWN_S)
    breaker = factory.get_breaker("bench")

    def through(call: Callable[[], Any]) -> Any:
        with breaker:
            return call()

    return through


_OTHERS: dict[str, Callable[[], Through]] = {
    "pybreaker": _pybreaker,
    "circuitbreaker": _circuitbreaker,
    "purgatory": _purgatory,
}


def _print_overhead(breakers: dict[str, Callable[[], Through]], *, with_tenacity: bool) -> None:
    guard = Guard.of("bench")
    throughs: dict[str, Callable[[], Any]] = {"bare call": _nothing}
    for name, make in breakers.items():
        throughs[f"closed breaker: {name}"] = _bound(make())
    throughs["breaker, window, slots, deadline, retries: dspex.Guard"] = lambda: guard.call(_nothing_timed)
    if with_tenacity:
        import tenacity

        retrying: Any = tenacity.Retrying(stop=tenacity.stop_after_attempt(3), reraise=True)
        throughs["retries: tenacity"] = lambda: retrying(_nothing)
    timed = medians_us({name: _many(call) for name, call in throughs.items()}, repeats=_REPEATS)
    bare = timed.pop("bare call") / _CALLS
    overhead = {f"{name}, more than a bare call": value / _CALLS - bare for name, value in timed.items()}
    print_rows(overhead, "us")
    ours, *others = [value for name, value in overhead.items() if name.startswith("closed breaker")]
    for name, other in zip(list(breakers)[1:], others, strict=True):
        print_rows({f"closed breaker: {name}, so many times ours": other / ours}, "x")


def _bound(through: Through) -> Callable[[], Any]:
    return lambda: through(_nothing)


def _many(call: Callable[[], Any]) -> Callable[[], None]:
    def calls() -> None:
        for _ in range(_CALLS):
            call()

    return calls


def _nothing() -> None:
    return None


def _nothing_timed(_timeout_s: float) -> None:
    return None


def _reached(through: Through) -> int:
    """Open a breaker, wait until it is half-open, and count who of many at once reaches a dead upstream."""
    reached = []

    def dead() -> None:
        reached.append(1)
        time.sleep(_CALL_S)
        raise ConnectionError("down")

    def call() -> None:
        # Each library refuses with an exception of its own.
        with contextlib.suppress(Exception):
            through(dead)

    for _ in range(_FAILURES):
        call()
    time.sleep(_COOL_DOWN_S * 1.2)
    reached.clear()
    with ThreadPoolExecutor(_PROBING) as threads:
        for _ in range(_PROBING):
            threads.submit(call)
    return len(reached)


def _overlapping_s(through: Through) -> float:
    with ThreadPoolExecutor(_OVERLAPPING) as threads:
        began = time.perf_counter()
        for done in [threads.submit(through, lambda: time.sleep(_CALL_S)) for _ in range(_OVERLAPPING)]:
            done.result()
        return time.perf_counter() - began
