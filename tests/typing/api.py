"""The public API, used as intended. Never run: the type checker reads it."""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

import pandas as pd

import dspex as dx
from dspex.neural.embedding import LocalEmbedder
from dspex.optimizers.comparing import Difference
from dspex.optimizers.continuous import Continuous
from dspex.orchestrator.insights import Route
from dspex.orchestrator.result import Result
from dspex.pools.batching import Batched
from dspex.pools.counters import PoolStats
from dspex.pools.pool import Pool
from dspex.pools.sessions import Session
from dspex.pools.streams import Stream
from dspex.pools.task import TaskFuture
from dspex.records import Change, Decision, Trial, Value
from dspex.variables.leases import Lease

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
whole = dx.Space(
    {"plan.temperature": dx.Temperature(), "plan.steps": dx.Int(1, 5).given(module="ReAct")},
    module=dx.Module(["Predict", "ReAct"], costs={"ReAct": 4}),
    examples=dx.Demos(0, 8, choose="balanced", by="label"),
    direction=dx.Embedding(64, rank=3),
    effort=dx.Composite("examples * 2"),
    constraints=[dx.Constraint("not too much", "effort < 12"), "examples < 8"],
)
assert_type(whole | space, dx.Space)
assert_type(whole.freeze(module="ReAct").without("effort"), dx.Space)
assert_type(dx.Space.from_json(whole.to_json()), dx.Space)
assert_type(whole.encode(whole.default()), list[float])
assert_type(whole.n_configurations, float)
assert_type(dx.spaces.llm(), dx.Space)
study = dx.optimize(
    triage,
    space=space,
    trainset=task.train,
    metric=dx.metrics.exact_match,
    optimizer="beacon",
    budget=dx.Budget(trials=40, usd=1.0),
)
assert_type(study, dx.Study)
assert_type(
    dx.optimize(
        triage,
        trainset=task.train,
        metric=dx.metrics.exact_match,
        optimizer=dx.optimizers.Simba(max_steps=4),
        budget=dx.Budget(tokens=100_000, patience=5),
        timeout_s=30,
    ),
    dx.Study,
)
assert_type(
    dx.optimize(
        triage,
        space=space,
        trainset=task.train,
        metric=dx.metrics.exact_match,
        optimizer=["beacon", dx.optimizers.Simba(max_steps=4)],
    ),
    dx.Study,
)
both = dx.optimizers.Coordinate(["beacon", "bootstrap"], schedule="parallel", rounds=3)
assert_type(
    dx.optimize(triage, space=space, trainset=task.train, metric=dx.metrics.exact_match, optimizer=both),
    dx.Study,
)
assert_type(study.wait(), dx.Study)
again = dx.optimize(
    triage,
    space=space,
    trainset=task.train,
    metric=dx.metrics.exact_match,
    holdout=0.2,
    tags=["paper"],
    warm_start=study,
)
assert_type(again.comparison, Difference)
assert_type(again.compare(study), Difference)
assert_type(dx.compare(again, "study"), pd.DataFrame)
assert_type(dx.benchmark("small", optimizers=["beacon", ["tpe", "simba"]]), pd.DataFrame)
assert_type(again.importance(evaluator="ped-anova"), pd.DataFrame)
assert_type(again.report().save("report.md"), Path)
assert_type(again.export("study.zip"), Path)
assert_type(again.heatmap().to_frame(), pd.DataFrame)
registry = dx.Registry(dx.Space(tone=dx.Online(dx.Choice(["kind", "plain"]), cooldown_s=60)))
assert_type(registry["tone"], Value)
assert_type(registry.set({"tone": "plain"}, by="me", why="short", version=registry.version), Change)
assert_type(dx.execute(triage, space=registry, message="hello"), Result)
watch = dx.watch(triage, space=registry, trainset=task.train, metric=dx.metrics.exact_match, every=500)
assert_type(watch, Continuous)
assert_type(watch.history, pd.DataFrame)
with registry.lease(["tone"], "me", on_conflict="preempt") as lease:
    assert_type(lease, Lease)
    lease["tone"] = "kind"
assert_type(study.best, Trial)
assert_type(study.trials, pd.DataFrame)
assert_type(dx.history(), pd.DataFrame)
assert_type(dx.runs(), pd.DataFrame)
assert_type(dx.route(triage), Route)

pool = dx.pools.define("mine", dx.pools.PoolSpec(workers=2, memory_mib=512, timeout_s=30.0))
assert_type(pool, Pool)
assert_type(pool.submit(pow, 2, 3, session="s", timeout_s=5.0, deadline_s=9.0, priority=1), TaskFuture)
assert_type(pool.session("t", list, affinity="strict_queue"), Session)
assert_type(pool.stream(range, 3), Stream)
assert_type(pool.batched(list, max_batch=64, session="s"), Batched)
assert_type(pool.stats(), PoolStats)
assert_type(dx.pools.stats(), dict[str, PoolStats])
ann = pool.session("ann", defaults={"model": "sandbox/large", "temperature": 0.2})
assert_type(dx.execute(triage, message="It broke.", session=ann), Result)
dx.optimize(triage, space=space, trainset=task.train, metric=task.metric, pool="general")
with dx.pools.sharing():
    pool.submit(len, [1])
with dx.sandbox.serve(faults=[{"kind": "drop", "share": 0.1}], api_key="secret") as server:
    assert_type(server.url, str)
    server.set_faults(None)
program = study.program
bound = space.apply(program, space.default(), lm=dx.lm, examples=task.train)
dx.configure(models=[dx.local_lm("model", temperature=0.7, max_tokens=99, replicas=2, dtype="bfloat16")])
assert_type(dx.local_embedder("model", max_batch=8), LocalEmbedder)
dx.Space.load(bound, "program.json").save("again.json")
with space.applied(program, space.default()) as changed:
    changed(message="hello")
dx.apply({"store.k": 3}, {"store": object()}).restore()
assert_type(dx.Space.infer(program, each_part=True), dx.Space)

with dx.adapters.direct("openai/gpt-4o-mini", api_key="k", timeout_s=20) as direct:
    assert_type(direct.generate(dx.signature("question -> answer"), question="?"), dx.adapters.Answer)
    assert_type(direct.batch("hello", []), list[dx.adapters.Answer | dx.ExecutionError])
dx.execute(triage, message="hello", adapter=dx.adapters.scripted({"hello": "billing"}, seed=1))
for piece in dx.stream(triage, message="hello", adapter="structured"):
    assert_type(piece, str)

dx.configure(
    reliability=dx.Reliability(timeout_s=20, hedge_after_s="p95"),
    cache=dx.Cache(ttl_s=60),
    budget=dx.Budget(usd=1.0),
)
limited = dx.execute("question -> answer", question="?", timeout_s=5, budget=0.01, cache=False, rollout_id=2)
assert_type(limited.is_cached, bool)
assert_type(limited.fallback_reason, str | None)
assert_type(dx.usage(), pd.DataFrame)

with dx.accelerate() as handle:
    assert_type(handle.is_active, bool)
    handle.undo()
with dx.accelerated():
    dx.adapters.JSONAdapter(use_native_function_calling=False)


async def awaited() -> None:
    """Await what takes long."""
    assert_type(await dx.aexecute(triage, message="hello"), Result)
    assert_type(await study, dx.Study)
