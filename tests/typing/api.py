"""The public API, used as intended. Never run: the type checker reads it."""

from __future__ import annotations

from typing import assert_type

import pandas as pd

import dspex as dx
from dspex.orchestrator.insights import Route
from dspex.orchestrator.result import Result
from dspex.records import Decision, Trial

task = dx.sandbox.task("triage")
triage = dx.signature("message -> label, confidence: probability", "Label it.", name="Triage")
assert_type(triage, dx.Signature)
assert_type(triage.extend("-> why", sure="float").without("why"), dx.Signature)
assert_type(dx.validator(triage, message=dx.validators.of(str)), dx.Validator)
assert_type(dx.configure(["openai/gpt-4o-mini"], objective="cost"), dx.Runtime)

result = dx.execute(triage, message="hello")
assert_type(result, Result)
assert_type(result.rate(1.0), Result)
assert_type(dx.explain(triage, message="hello"), Decision)

assert_type(dx.metrics.exact_match(task.train[0], result), float)
assert_type(dx.metrics.accuracy(task.train, task.train), float)
mixed = dx.metrics.weighted({dx.metrics.exact_match.on("label"): 2, dx.metrics.token_f1: 1})
assert_type(dx.template("{{ message }}").render(message="hello"), str)

space = dx.Space(
    temperature=dx.Float(0.0, 1.5, default=0.7),
    demos=dx.Int(0, 8),
    model=dx.Model(["openai/gpt-4o-mini", "openai/gpt-4o"]),
    module=dx.Module(["Predict", "ChainOfThought"]),
    brief=dx.Bool(),
    tone=dx.Choice(["kind", "plain"]),
)
study = dx.optimize(
    triage,
    space=space,
    trainset=task.train,
    metric=dx.metrics.exact_match,
    optimizer="beacon",
    budget=dx.Budget(trials=40, usd=1.0),
)
assert_type(study, dx.Study)
assert_type(study.wait(), dx.Study)
assert_type(study.best, Trial)
assert_type(study.trials, pd.DataFrame)
assert_type(dx.history(), pd.DataFrame)
assert_type(dx.runs(), pd.DataFrame)
assert_type(dx.route(triage), Route)

with dx.sandbox.serve(faults=[{"kind": "drop", "share": 0.1}], api_key="secret") as server:
    assert_type(server.url, str)
    server.set_faults(None)

with dx.accelerate() as handle:
    assert_type(handle.is_active, bool)
    handle.undo()
with dx.accelerated():
    dx.adapters.JSONAdapter(use_native_function_calling=False)


async def awaited() -> None:
    """Await what takes long."""
    assert_type(await dx.aexecute(triage, message="hello"), Result)
    assert_type(await study, dx.Study)
