"""Running methods on worlds, and what the curves of many seeds come to."""

from __future__ import annotations

import functools
import os
import statistics
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dspex.bench.optimizers import methods, worlds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

_STEP = 20
"""Calls between two points of a curve."""
_RESAMPLES = 1000


class Job(NamedTuple):
    """One method on one world with one seed. Plain data: it is sent to another process."""

    family: str
    method: str
    seed: int
    budget: int
    matrix: FloatArray | None = None


class Curves(NamedTuple):
    """Regrets by calls, one row a seed."""

    calls: NDArray[np.int_]
    regrets: FloatArray

    def median_at(self, calls: int) -> tuple[float, float, float]:
        """Return the median regret after so many calls, and its 95 % bootstrap interval over seeds."""
        column = self.regrets[:, min(len(self.calls), calls // _STEP) - 1]
        rng = np.random.default_rng(0)
        medians = np.median(rng.choice(column, (_RESAMPLES, len(column))), axis=1)
        low, high = np.quantile(medians, [0.025, 0.975])
        return float(np.median(column)), float(low), float(high)

    def calls_to(self, regret: float) -> int | None:
        """Return after how many calls the median regret is first at most `regret`, or None."""
        reached = np.flatnonzero(np.median(self.regrets, axis=0) <= regret)
        return int(self.calls[reached[0]]) if len(reached) else None


def curve(job: Job) -> FloatArray:
    """Run one method on one world, and return the regret of what it recommends after every few calls."""
    world = _world(job)
    points = np.arange(_STEP, job.budget + 1, _STEP)
    found, k = np.empty(len(points)), 0
    last = world.regret(world.space.default())
    quiet()
    for recommended in methods.METHODS[job.method].run(world, job.seed):
        while k < len(points) and points[k] < world.calls:
            found[k], k = last, k + 1
        if k == len(points):
            break
        last = world.regret(recommended)
    found[k:] = last
    return found


def quiet() -> None:
    """Keep Optuna from narrating, and from warning of what is chosen on purpose."""
    import warnings

    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


def _world(job: Job) -> worlds.World:
    if job.matrix is not None:
        return worlds.Matrix(job.matrix, job.seed)
    return worlds.FAMILIES[job.family](job.seed)


def curves(jobs: Sequence[Job], spread: Callable[..., Iterable[FloatArray]] = map) -> Curves:
    """Run jobs that differ in their seeds."""
    points = np.arange(_STEP, jobs[0].budget + 1, _STEP)
    return Curves(points, np.array(list(spread(curve, jobs))))


@functools.cache
def processes() -> ProcessPoolExecutor:
    """Return processes of lower priority, one a core, each with one thread of linear algebra."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    return ProcessPoolExecutor(initializer=_nice, mp_context=get_context("spawn"))


def _nice() -> None:
    if hasattr(os, "nice"):
        os.nice(10)


def print_curves(title: str, found: dict[str, Curves]) -> None:
    """Print one line a method: medians with intervals, calls to small regrets, and their ratio to the first."""
    n_seeds = len(next(iter(found.values())).regrets)
    print(f"\n{title}: median regret of what is recommended [95 % interval], {n_seeds} seeds")
    marks = [600, 1200, 2400]
    print(
        f"  {'':<28}"
        + "".join(f"{f'@{calls} calls':>22}" for calls in marks)
        + f"{'to 2 %':>9}{'to 1 %':>9}{'mean':>8}"
    )
    for name, each in found.items():
        cells = [each.median_at(calls) for calls in marks if calls <= each.calls[-1]]
        line = "".join(f"{f'{m:.3f} [{low:.3f}, {high:.3f}]':>22}" for m, low, high in cells)
        line += " " * 22 * (len(marks) - len(cells))
        reached = [each.calls_to(regret) for regret in (0.02, 0.01)]
        line += "".join(f"{f'>{each.calls[-1]}' if calls is None else calls:>9}" for calls in reached)
        print(f"  {name:<28}{line}{statistics.fmean(each.regrets[:, -1]):>8.3f}")
