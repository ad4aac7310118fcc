"""A joint search on the sandbox, whose best is known."""

from __future__ import annotations

import statistics

import pytest
from spaces import SIGNATURE, TRIAGE

import dspex as dx

pytestmark = pytest.mark.usefixtures("runtime")

SPACE = dx.Space(
    temperature=dx.Float(0.0, 1.5, default=0.7),
    model=dx.Model(list(dx.sandbox.MODELS)),
    module=dx.Module(["Predict", "ChainOfThought"]),
    demos=dx.Int(0, 8),
    instructions=dx.Choice({"given": TRIAGE.instructions, "curt": "Sort the message."}),
)


def test_a_joint_search_comes_near_the_known_best():
    """Module, model, temperature, demos and instructions, 3 seeds: the median is within 4 points of the best."""
    dev, regrets = TRIAGE.dev[:100], []
    for seed in range(3):
        study = dx.optimize(
            SIGNATURE,
            space=SPACE,
            trainset=TRIAGE.train,
            valset=dev,
            metric=dx.metrics.exact_match,
            budget=dx.Budget(trials=20),
            seed=seed,
        ).wait()
        best = max(
            dx.sandbox.expected_score(study.definition.bind(each), dev)
            for demos in (4, 6, 8)
            for model in ("sandbox/medium", "sandbox/large")
            for each in [
                {
                    "temperature": 0.0,
                    "model": model,
                    "module": "ChainOfThought",
                    "demos": demos,
                    "instructions": "given",
                }
            ]
        )
        regrets.append(best - dx.sandbox.expected_score(study.program, dev))
        assert study.usage.calls <= 20 * 48 * 1.1 + 3 * 100
    assert statistics.median(regrets) < 0.04
