"""Built-in benchmarks of optimizers: studies that really run, on the sandbox, beside random search."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from dspex import sandbox
from dspex.errors import DataError, UnknownNameError
from dspex.native.signature import signature
from dspex.optimizers.budget import Budget
from dspex.optimizers.definition import name_of
from dspex.runtime import Runtime
from dspex.variables.base import Float, Int, Model, Module
from dspex.variables.space import Space

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pandas as pd

    from dspex.optimizers.coordinate import Optimizer
    from dspex.optimizers.study import Study

BASELINE = "random"


class Size(NamedTuple):
    """How much is run."""

    trials: int
    n_examples: int
    seeds: int


SIZES = {"small": Size(12, 24, 1), "medium": Size(24, 48, 3), "large": Size(40, 96, 10)}


class _Ran(NamedTuple):
    score: float
    best: float
    calls: int
    cost_usd: float
    wall_s: float


def benchmark(
    size: str = "small",
    *,
    optimizers: Sequence[Optimizer] = ("beacon", "tpe"),
    metric: Callable[..., Any] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> pd.DataFrame:
    """Run optimizers on the sandbox's triage task at one budget, and random search as the baseline.

    Everything is run when this is called: times are those of the whole study, metric included. Models are
    simulated, so figures compare optimizers on this machine and say nothing of language models.

    Parameters
    ----------
    size
        ``small`` takes seconds; ``medium`` and ``large`` have more trials, examples and seeds.
    optimizers
        As `dspex.optimize` takes them, several in turn included.
    metric
        Scores answers; the task's own if left out.
    clock
        Tells the time in seconds.

    Returns
    -------
    One row an optimizer, the baseline first, medians over the seeds: the expected score on unseen examples,
    how far it is above the baseline's, the best score on the examples of the search, calls, dollars, seconds.

    Raises
    ------
    UnknownNameError
        If there is no such size or optimizer.
    """
    import pandas as pd

    if size not in SIZES:
        raise UnknownNameError.among("benchmark", size, SIZES)
    if isinstance(optimizers, str):
        raise DataError(f"optimizers must be a list, got {optimizers!r}", hint=f"optimizers=[{optimizers!r}]")
    chosen = {name_of(each): each for each in (BASELINE, *optimizers)}
    rows = {name: _medians(each, SIZES[size], metric, clock) for name, each in chosen.items()}
    frame = pd.DataFrame(rows.values(), index=pd.Index(list(rows), name="optimizer"))
    frame.insert(1, "over_random", frame["score"] - frame["score"][BASELINE])
    return frame


def run() -> None:
    """Print the small one."""
    print(benchmark("small").round(3).to_string())


def _medians(
    optimizer: Optimizer, size: Size, metric: Callable[..., Any] | None, clock: Callable[[], float]
) -> _Ran:
    ran = [_ran(optimizer, size, seed, metric, clock) for seed in range(size.seeds)]
    return _Ran(*(statistics.median(column) for column in zip(*ran, strict=True)))


def _ran(
    optimizer: Optimizer, size: Size, seed: int, metric: Callable[..., Any] | None, clock: Callable[[], float]
) -> _Ran:
    runtime = Runtime(sandbox.MODELS, store="memory")
    try:
        began = clock()
        study = _study(runtime, optimizer, size, seed, metric)
        wall_s = clock() - began
        truth = sandbox.expected_score(study.program, sandbox.task("triage").test)
        return _Ran(truth, study.best.score, study.usage.calls, study.usage.cost_usd, wall_s)
    finally:
        runtime.close()


def _study(
    runtime: Runtime, optimizer: Optimizer, size: Size, seed: int, metric: Callable[..., Any] | None
) -> Study:
    task = sandbox.task("triage")
    space = Space(
        temperature=Float(0.0, 1.5, default=0.7),
        model=Model(list(sandbox.MODELS)),
        module=Module(["Predict", "ChainOfThought"]),
        demos=Int(0, 4),
    )
    return runtime.optimize(
        signature(task.signature, task.instructions),
        space=space,
        trainset=task.train[:40],
        valset=task.dev[: size.n_examples],
        metric=task.metric if metric is None else metric,
        optimizer=optimizer,
        budget=Budget(trials=size.trials),
        seed=seed,
    ).wait()
