"""Searching, by what it costs: calls to a program on joint noisy spaces, evaluations of plain functions.

A call is one program run on one example; a pair that was paid for is free from then on. The truth of every
world is known, so what counts is the regret of what a method recommends, not of what it happened to see.
The worlds are synthetic: figures are about searching, not about language models.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dspex.bench.optimizers import worlds
from dspex.bench.optimizers.functions import FUNCTIONS
from dspex.bench.optimizers.methods import METHODS
from dspex.bench.optimizers.table import Curves, Job, curves, print_curves, processes, quiet
from dspex.optimizers.beacon.blackbox import maximize

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SEEDS = 20
PARTS = ("mixed", "prompt", "matrix", "functions", "suggesting")
_BUDGET = 6000
_POOL_BUDGET = 3000
_FIRST_SEED = 200
_TRIALS = 60
_FRESH = 40


def run(*, seeds: int = SEEDS, matrix: Path | None = None) -> None:
    """Print the tables."""
    print("  " + ", ".join(f"{name} {_version(name)}" for name in ("optuna", "numpy", "torch")))
    for title in [family for family in worlds.FAMILIES if family in PARTS]:
        found = {
            name: _curves(title, name, seeds) for name in METHODS if _fits(name, is_pool=title == "prompt")
        }
        print_curves(_TITLES[title], {METHODS[name].title: each for name, each in found.items()})
        _print_ratio(found)
    if "matrix" in PARTS:
        _pool(seeds, matrix)
    if "functions" in PARTS:
        _functions(seeds)
    if "suggesting" in PARTS:
        _suggesting()


def _pool(seeds: int, matrix: Path | None) -> None:
    """Print the table of a pool of configurations that nothing is known to relate."""
    table = worlds.unstructured(_FIRST_SEED) if matrix is None else worlds.load(matrix)
    title = (
        f"{matrix or 'an unstructured matrix'}, {table.shape[0]} configurations x {table.shape[1]} examples"
    )
    found = {name: _curves(title, name, seeds, table) for name in METHODS if _fits(name, is_pool=True)}
    print_curves(title, {METHODS[name].title: each for name, each in found.items()})


_TITLES = {
    "mixed": "4 models x 3 modules x 2 adapters x 8 instructions x temperature x demos, 300 examples",
    "prompt": "12 instructions x 12 sets of demos, 300 examples",
}


def _fits(name: str, *, is_pool: bool) -> bool:
    method = METHODS[name]
    return (is_pool or not method.is_for_pools) and (_has_torch() or not method.needs_torch)


def _has_torch() -> bool:
    return all(importlib.util.find_spec(name) for name in ("torch", "scipy"))


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _curves(family: str, method: str, seeds: int, matrix: NDArray[np.float64] | None = None) -> Curves:
    budget = min(METHODS[method].most_calls, _BUDGET if matrix is None else _POOL_BUDGET)
    jobs = [Job(family, method, _FIRST_SEED + seed, budget, matrix) for seed in range(seeds)]
    return curves(jobs, processes().map)


def _print_ratio(found: dict[str, Curves]) -> None:
    mine = found["beacon"].calls_to(0.01)
    for name in ("mipro", "tpe-full"):
        theirs = found[name].calls_to(0.01)
        if mine is not None:
            more = f"{theirs / mine:.1f}" if theirs else f"more than {found[name].calls[-1] / mine:.1f}"
            print(f"  {METHODS[name].title} takes {more} times BEACON's calls to 1 %")


class _Evaluated(NamedTuple):
    """How far the best value was from the optimum, half-way, at the end, and after as much again; and seconds."""

    half: float
    end: float
    twice: float
    seconds: float


def _evaluated(job: tuple[str, str, int]) -> _Evaluated:
    name, engine, seed = job
    quiet()
    function = FUNCTIONS[name]()
    began = time.perf_counter()
    trials = 2 * _TRIALS if engine == "random" else _TRIALS
    found = maximize(function.value, function.space, trials=trials, seed=seed, engine=engine)  # type: ignore[arg-type]  # names from the table below
    seconds = (time.perf_counter() - began) / trials
    gap = -np.maximum.accumulate([value for _, value in found.trials])
    return _Evaluated(float(gap[_TRIALS // 2 - 1]), float(gap[_TRIALS - 1]), float(gap[-1]), seconds)


def _functions(seeds: int) -> None:
    """Print the gap to the optimum without noise; random search also after twice as many evaluations."""
    print(f"\nfunctions without noise: median gap to the optimum, {seeds} seeds")
    print(f"  {'':<28}{'@30':>12}{'@60':>12}{'@120':>12}{'ms each':>10}")
    engines = ["beacon", *(["gp"] if _has_torch() else []), "tpe", "random"]
    for name in FUNCTIONS:
        for engine in engines:
            found = list(processes().map(_evaluated, [(name, engine, seed) for seed in range(seeds)]))
            half, end, twice, seconds = (statistics.median(column) for column in zip(*found, strict=True))
            last = f"{twice:.5f}" if engine == "random" else ""
            print(f"  {name + ', ' + engine:<28}{half:>12.5f}{end:>12.5f}{last:>12}{1e3 * seconds:>10.1f}")


def _suggesting() -> None:
    """Print how long BEACON takes for a suggestion once 200 trials are known."""
    from dspex.optimizers.beacon import Beacon, Row

    world = worlds.mixed(0)
    search = Beacon(world.space, examples=[str(k) for k in range(world.n_examples)])
    taken: list[float] = []
    for n in range(200 // 8 + _FRESH):
        began = time.perf_counter()
        works = search.ask(8 if n < 200 // 8 else 1)
        taken.append(time.perf_counter() - began)
        for work in works:
            scores = world.score(work.configuration, [int(k) for k in work.examples])
            search.tell(Row(work.configuration, k, s) for k, s in zip(work.examples, scores, strict=True))
    print("\nsuggesting, mixed space")
    rounds = 200 // 8
    print(f"  first 200 trials, 8 at a time, each {1e3 * sum(taken[:rounds]) / 200:>10.1f} ms")
    alone = taken[rounds:]
    print(
        f"  one at a time after 200 trials, median {1e3 * statistics.median(alone):>7.1f} ms, longest {1e3 * max(alone):.1f} ms"
    )
