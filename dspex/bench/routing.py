"""What learning is worth: the orchestrator against fixed ways of running, on the sandbox's tasks.

Every strategy's outcome on every call is worked out once; a policy then only chooses among them, so that
all policies face the same luck. The static default is what is declared first: the first model, through
DSPy's Predict.
"""

from __future__ import annotations

import random
import statistics
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dspex import sandbox
from dspex.adapters.base import outcome_of
from dspex.bridge import examples as examples_bridge
from dspex.bridge import program as program_bridge
from dspex.errors import ExhaustedError
from dspex.events import EventBus
from dspex.native.signature import Signature, signature
from dspex.orchestrator.asking import AUTO, Adapters, names_of, strategies_of
from dspex.orchestrator.engine import Orchestrator
from dspex.orchestrator.model import BeliefModel
from dspex.orchestrator.policy import objective_named, utility
from dspex.records import Outcome, Strategy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_TASKS = ("triage", "arithmetic", "extraction")
_SEEDS = 8
_CALLS = 300
_OBJECTIVE = objective_named("balanced")
_MODULES = ("Predict", "ChainOfThought")
_STATIC = Strategy(sandbox.MODELS[0], _MODULES[0])
_STRATEGIES = strategies_of(sandbox.MODELS, _MODULES, names_of(AUTO), own=_MODULES, asked_for=False)


class Run(NamedTuple):
    """One strategy's answer to one call, and whether it was right."""

    outcome: Outcome
    right: bool

    @property
    def worth(self) -> float:
        """What it is worth under the objective, in [0, 1]."""
        usage = self.outcome.usage
        logs = np.log([max(usage.latency_s, 1e-9), max(usage.cost_usd, 1e-12)])
        right, ok = np.array(float(self.right)), np.array(float(self.outcome.ok))
        return float(utility(ok, right, logs[0], logs[1], _OBJECTIVE))


def run() -> None:
    """Print mean utilities per policy, and the learner's gain with a bootstrap interval."""
    results: dict[str, list[float]] = {}
    for seed in range(_SEEDS):
        by_task = [_policies(name, seed) for name in _TASKS]
        for policy in by_task[0]:
            results.setdefault(policy, []).append(statistics.mean(worths[policy] for worths in by_task))
    print(f"  mean utility of {_CALLS} calls, every answer rated; {len(_TASKS)} tasks x {_SEEDS} seeds")
    for policy, worths in results.items():
        print(f"  {policy:<46}{statistics.mean(worths):.4f}")
    learned = results["dspex, learning from nothing"]
    for peer in ("static default", "random"):
        gains = [100 * (ours / theirs - 1) for ours, theirs in zip(learned, results[peer], strict=True)]
        low, high = _interval(gains)
        print(
            f"  dspex against {peer:<28}{statistics.mean(gains):+.1f} %   95 % interval [{low:+.1f}, {high:+.1f}]"
        )


def _policies(task_name: str, seed: int) -> dict[str, float]:
    task = sandbox.task(task_name)
    described = signature(task.signature, task.instructions, name=task_name)
    examples = random.Random(seed).sample([*task.train, *task.dev], _CALLS)
    table = {strategy: _column(task, described, strategy, examples, seed) for strategy in _STRATEGIES}
    mean = {strategy: statistics.mean(each.worth for each in column) for strategy, column in table.items()}
    drawn = random.Random(seed).choices(_STRATEGIES, k=_CALLS)

    brain = Orchestrator(
        BeliefModel(
            {name: sandbox.price(name) for name in sandbox.MODELS},
            {name: sandbox.typical_latency_s(name) for name in sandbox.MODELS},
        ),
        objective=_OBJECTIVE,
        events=EventBus(),
        seed=seed,
    )
    learned = []
    for k, example in enumerate(examples):
        inputs = examples_bridge.inputs_of(example)
        try:
            done = brain.orchestrate(described, inputs, _STRATEGIES, _reader(table, k), pool="inline")
        except ExhaustedError:
            learned.append(0.0)
            continue
        answered = table[done.decision.strategy][k]
        brain.rate(done.execution.id, float(answered.right))
        learned.append(answered.worth)
    return {
        "static default": mean[_STATIC],
        "random": statistics.mean(table[strategy][k].worth for k, strategy in enumerate(drawn)),
        "dspex, learning from nothing": statistics.mean(learned),
        "best fixed strategy, known only afterwards": max(mean.values()),
    }


def _reader(table: Mapping[Strategy, Sequence[Run]], k: int) -> Callable[[Strategy], Outcome]:
    """Return an attempt that looks up what a strategy brought on the k-th call."""
    return lambda strategy: table[strategy][k].outcome


def _column(
    task: sandbox.Task, described: Signature, strategy: Strategy, examples: Sequence[object], seed: int
) -> list[Run]:
    program = program_bridge.make(described.to_dspy(), strategy.module)
    lm = sandbox.lm(strategy.model, seed=seed)
    adapter = Adapters().of(lm, strategy)
    column = []
    for example in examples:
        inputs = examples_bridge.inputs_of(example)
        if adapter is not None:
            outcome = outcome_of(adapter, described, inputs)
        else:
            outcome = program_bridge.run(program, inputs, lm)[1]
        right = outcome.output is not None and task.metric(example, outcome.output)
        column.append(Run(outcome, right))
    return column


def _interval(values: Sequence[float]) -> tuple[float, float]:
    """Return a 95 % bootstrap interval of the mean."""
    means = np.random.default_rng(0).choice(np.array(values), (10_000, len(values))).mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)
