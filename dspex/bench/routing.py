"""What learning is worth: the orchestrator against fixed ways of running, on the sandbox's tasks.

Every strategy's outcome on every call is worked out once; a policy then only chooses among them, so that
all policies face the same luck. Two static defaults are declared: the first model through DSPy's Predict, and
the largest one thinking first. What pays is the user's to say, so each objective is tried.
"""

from __future__ import annotations

import random
import statistics
from typing import TYPE_CHECKING, Any, NamedTuple

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
from dspex.orchestrator.policy import OBJECTIVES, utility
from dspex.records import Objective, Outcome, Strategy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_TASKS = ("triage", "arithmetic", "extraction")
_SEEDS = 8
_CALLS = 300
_MODULES = ("Predict", "ChainOfThought")
_FIRST, _LARGEST = "static default, declared first", "static default, the largest model"
_LEARNED, _BEST = "dspex, learning from nothing", "best fixed strategy, known only afterwards"
_STATIC = {
    _FIRST: Strategy(sandbox.MODELS[0], "Predict"),
    _LARGEST: Strategy(sandbox.MODELS[-1], "ChainOfThought"),
}
_STRATEGIES = strategies_of(sandbox.MODELS, _MODULES, names_of(AUTO), own=_MODULES, asked_for=False)


class Run(NamedTuple):
    """One strategy's answer to one call, and whether it was right."""

    outcome: Outcome
    right: bool

    def worth(self, objective: Objective) -> float:
        """Say what it is worth under an objective, in [0, 1]."""
        usage = self.outcome.usage
        logs = np.log([max(usage.latency_s, 1e-9), max(usage.cost_usd, 1e-12)])
        right, ok = np.array(float(self.right)), np.array(float(self.outcome.ok))
        return float(utility(ok, right, logs[0], logs[1], objective))


class Calls(NamedTuple):
    """A task, the examples it is asked, and what each strategy brings on each of them."""

    described: Signature
    examples: Sequence[Any]
    table: Mapping[Strategy, Sequence[Run]]


def run() -> None:
    """Print mean utilities per policy and objective, and the learner's gains with bootstrap intervals."""
    seeds = [[_calls(name, seed) for name in _TASKS] for seed in range(_SEEDS)]
    print(f"  mean utility of {_CALLS} calls, every answer rated; {len(_TASKS)} tasks x {_SEEDS} seeds")
    print(f"  {'objective':<46}{''.join(f'{name:>10}' for name in OBJECTIVES)}")
    found = {
        name: [_means(tasks, objective, seed) for seed, tasks in enumerate(seeds)]
        for name, objective in OBJECTIVES.items()
    }
    for policy in found["balanced"][0]:
        worths = [statistics.mean(each[policy] for each in found[name]) for name in OBJECTIVES]
        print(f"  {policy:<46}{''.join(f'{worth:>10.4f}' for worth in worths)}")
    for peer in (_FIRST, _LARGEST, "random"):
        gains = {
            name: [100 * (each[_LEARNED] / each[peer] - 1) for each in by_seed]
            for name, by_seed in found.items()
        }
        print(
            f"  gain on {peer:<38}{''.join(f'{statistics.mean(each):>+8.1f} %' for each in gains.values())}"
        )
        low, high = _interval(balanced := gains["balanced"])
        print(
            f"    balanced {statistics.mean(balanced):+.1f} %, 95 % interval [{low:+.1f}, {high:+.1f}]",
            end="; ",
        )
        low, high = _interval(
            over_all := [statistics.mean(each) for each in zip(*gains.values(), strict=True)]
        )
        print(f"all objectives {statistics.mean(over_all):+.1f} %, 95 % interval [{low:+.1f}, {high:+.1f}]")


def _calls(task_name: str, seed: int) -> Calls:
    task = sandbox.task(task_name)
    described = signature(task.signature, task.instructions, name=task_name)
    examples = random.Random(seed).sample([*task.train, *task.dev], _CALLS)
    table = {strategy: _column(task, described, strategy, examples, seed) for strategy in _STRATEGIES}
    return Calls(described, examples, table)


def _means(tasks: Sequence[Calls], objective: Objective, seed: int) -> dict[str, float]:
    """Return each policy's mean utility over the tasks."""
    by_task = [_policies(calls, objective, seed) for calls in tasks]
    return {policy: statistics.mean(each[policy] for each in by_task) for policy in by_task[0]}


def _policies(calls: Calls, objective: Objective, seed: int) -> dict[str, float]:
    worths = {
        strategy: [each.worth(objective) for each in column] for strategy, column in calls.table.items()
    }
    mean = {strategy: statistics.mean(column) for strategy, column in worths.items()}
    drawn = random.Random(seed).choices(_STRATEGIES, k=_CALLS)
    brain = Orchestrator(
        BeliefModel(
            {name: sandbox.price(name) for name in sandbox.MODELS},
            {name: sandbox.typical_latency_s(name) for name in sandbox.MODELS},
        ),
        objective=objective,
        events=EventBus(),
        seed=seed,
    )
    learned = []
    for k, example in enumerate(calls.examples):
        inputs = examples_bridge.inputs_of(example)
        try:
            done = brain.orchestrate(
                calls.described, inputs, _STRATEGIES, _reader(calls.table, k), pool="inline"
            )
        except ExhaustedError:
            learned.append(0.0)
            continue
        brain.rate(done.execution.id, float(calls.table[done.decision.strategy][k].right))
        learned.append(worths[done.decision.strategy][k])
    return {
        **{name: mean[strategy] for name, strategy in _STATIC.items()},
        "random": statistics.mean(worths[strategy][k] for k, strategy in enumerate(drawn)),
        _LEARNED: statistics.mean(learned),
        _BEST: max(mean.values()),
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
