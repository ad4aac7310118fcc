"""The task, space and examples that the optimizers are tried on."""

from __future__ import annotations

import dspex as dx

TRIAGE = dx.sandbox.task("triage")
SIGNATURE = dx.signature(TRIAGE.signature, TRIAGE.instructions, name="Triage")
SPACE = dx.Space(
    temperature=dx.Float(0.0, 1.5, default=0.7),
    model=dx.Model(list(dx.sandbox.MODELS)),
    module=dx.Module(["Predict", "ChainOfThought"]),
    demos=dx.Int(0, 8),
)
