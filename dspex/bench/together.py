"""What turns are worth: several optimizers at one budget beside each of them alone, on the sandbox.

The truth of the sandbox is known, so what counts is the expected score of the returned program on examples
that nobody has seen. Every study has the same number of calls to models; who stops earlier leaves the rest.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any, NamedTuple

from dspex import sandbox
from dspex.native.signature import signature
from dspex.optimizers import BootstrapFewShotWithRandomSearch, Coordinate, Simba
from dspex.optimizers.budget import Budget
from dspex.runtime import Runtime
from dspex.variables.base import Float, Model, Module
from dspex.variables.space import Space

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dspex.optimizers.teleprompters import Teleprompter

_SEEDS = 10
_CALLS = 1200
_TASK = "triage"
_MODELS = ("sandbox/small", "sandbox/medium")
_N_TRAIN, _N_VAL = 64, 48


class Ended(NamedTuple):
    """How a study ended."""

    score: float
    """Expected, on the test examples."""
    calls: int


def run() -> None:
    """Print the table."""
    found: dict[str, list[Ended]] = {}
    for seed in range(_SEEDS):
        for name, given in _optimizers().items():
            found.setdefault(name, []).append(_ended(given, seed))
    alone = [name for name in found if not name.startswith("together")]
    best_alone = [max(found[name][seed].score for name in alone) for seed in range(_SEEDS)]
    print(f"  {_TASK}, {' and '.join(_MODELS)}, {_SEEDS} seeds, {_CALLS} calls each, {_N_VAL} examples score")
    print(f"  {'':28} {'median':>7} {'worst':>7} {'calls':>7}  not behind the best alone")
    for name, ended in found.items():
        scores = [each.score for each in ended]
        ahead = sum(one >= other for one, other in zip(scores, best_alone, strict=True))
        calls = statistics.median(each.calls for each in ended)
        last = "" if name in alone else f"  {ahead} of {_SEEDS} seeds"
        print(f"  {name:28} {statistics.median(scores):7.3f} {min(scores):7.3f} {calls:7.0f}{last}")


def _optimizers() -> Mapping[str, dict[str, Any]]:
    """Return each way to optimize: the three alone, SIMBA over the space, and the three together."""
    space = Space(
        temperature=Float(0.0, 1.5, default=0.7),
        model=Model(list(_MODELS)),
        module=Module(["Predict", "ChainOfThought"]),
    )
    simba = Simba(bsize=16, num_candidates=4, max_steps=20, prompt_model="sandbox/large")
    bootstrap = BootstrapFewShotWithRandomSearch(max_labeled_demos=4, num_candidate_programs=20)
    three: list[str | Teleprompter] = ["beacon", simba, bootstrap]
    return {
        "beacon": {"optimizer": "beacon", "space": space},
        "simba": {"optimizer": simba},
        "bootstrap_rs": {"optimizer": bootstrap},
        "simba over the space": {"optimizer": simba, "space": space},
        "together, sequential": {"optimizer": Coordinate(three), "space": space},
        "together, alternating": {"optimizer": Coordinate(three, schedule="alternating"), "space": space},
        "together, parallel": {"optimizer": Coordinate(three, schedule="parallel"), "space": space},
    }


def _ended(given: Mapping[str, Any], seed: int) -> Ended:
    task = sandbox.task(_TASK)
    runtime = Runtime([*_MODELS, "sandbox/large"], store="memory", workers=8)
    try:
        study = runtime.optimize(
            signature(task.signature, task.instructions),
            trainset=task.train[:_N_TRAIN],
            valset=task.dev[:_N_VAL],
            metric=task.metric,
            budget=Budget(calls=_CALLS, trials=10 * _CALLS),
            seed=seed,
            **given,
        ).wait()
        return Ended(sandbox.expected_score(study.program, task.test), study.usage.calls)
    finally:
        runtime.close()
