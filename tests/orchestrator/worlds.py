"""Small worlds to route in: strategies with a known success, quality, latency and cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dspex.events import EventBus
from dspex.native.signature import signature
from dspex.orchestrator.engine import Orchestrated, Orchestrator
from dspex.orchestrator.model import BeliefModel
from dspex.orchestrator.policy import objective_named
from dspex.records import Execution, Objective, Outcome, Requirements, Strategy, Usage

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

FAST, SLOW = Strategy("fast", "Predict"), Strategy("slow", "Predict")
QA = signature("question -> answer", "Answer briefly.", name="QA")
ASKED = Requirements("QA", QA.key, 40, 1, reasoning=False, complexity="low")


@dataclass
class Truth:
    """What running a strategy brings, on average."""

    quality: float = 1.0
    latency_s: float = 1.0
    cost_usd: float = 1e-4
    success: float = 1.0


def orchestrator(
    objective: str | Objective = "balanced", *, seed: int = 0, exploration: float = 0.01
) -> Orchestrator:
    """Make an orchestrator that knows nothing yet."""
    return Orchestrator(
        BeliefModel(),
        objective=objective_named(objective),
        events=EventBus(),
        seed=seed,
        exploration=exploration,
    )


def run_once(
    brain: Orchestrator, world: Mapping[Strategy, Truth], rng: random.Random, *, rated: bool = True
) -> Orchestrated:
    """Run one question in a world and rate the answer."""

    def attempt(strategy: Strategy) -> Outcome:
        truth = world[strategy]
        usage = Usage(1, 100, 20, truth.cost_usd, truth.latency_s)
        if rng.random() >= truth.success:
            return Outcome(None, usage, "UnavailableError: down")
        return Outcome({"answer": "a"}, usage)

    done = brain.orchestrate(QA, {"question": "?"}, list(world), attempt, pool="inline")
    if rated:
        quality = world[done.decision.strategy].quality
        brain.rate(done.execution.id, float(rng.random() < quality))
    return done


def execution(number: int, strategy: Strategy, **changes: object) -> Execution:
    """Make one row of a log."""
    values: dict[str, object] = {
        "id": f"e{number}",
        "at": float(number),
        "requirements": ASKED,
        "strategy": strategy,
        "role": "policy",
        "propensities": {},
        "ok": True,
        "usage": Usage(1, 100, 20, 1e-4, 1.0),
    }
    return Execution(**{**values, **changes})  # type: ignore[arg-type]  # a shorthand for tests
