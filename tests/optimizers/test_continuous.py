"""The continuous optimizer from the public call: what it notices, tries, takes and takes back."""

from __future__ import annotations

from spaces import SIGNATURE, TRIAGE

import dspex as dx
from dspex.events import TurnTaken

MESSAGE = TRIAGE.dev[0].message


def breakable():
    """Make a registry whose first model answers until it is told to be down."""
    model = dx.sandbox.lm("large")
    return model, dx.Registry(dx.Space(model=dx.Model({"first": model, "second": "sandbox/medium"})))


def watched(registry, **changes):
    given = {
        "space": registry,
        "trainset": TRIAGE.train[:40],
        "valset": TRIAGE.dev[:40],
        "metric": dx.metrics.exact_match,
        "budget": dx.Budget(trials=3),
        "warm_up": 20,
        "canary": 0.3,
        "canary_answers": 10,
        **changes,
    }
    return dx.watch(SIGNATURE, **given)


def serve(registry, n, quality):
    """Call so often, and rate what is answered by the values that it ran with."""
    for _ in range(n):
        try:
            result = dx.execute(SIGNATURE, space=registry, message=MESSAGE)
        except dx.ExecutionError:
            continue
        result.rate(quality(result.decision.configuration))


def test_an_outage_is_noticed_and_survived(runtime):
    """When the model in force goes down, a study finds another, and the canary brings it into service."""
    model, registry = breakable()
    told = []
    runtime.events.subscribe(lambda event: told.append(event) if isinstance(event, TurnTaken) else None)
    watch = watched(registry)
    serve(registry, 40, lambda _: 1.0)
    assert (watch.state, watch.study) == ("watching", None)
    model.engine.answerer.faults = dx.sandbox.Faults(outage=1.0)
    while watch.study is None:
        serve(registry, 1, lambda _: 1.0)
    watch.study.wait()
    assert watch.state == "canary"
    assert registry["model"] == "first"
    serve(registry, 80, lambda _: 1.0)
    assert registry["model"] == "second"
    assert registry.history[-1].by == "continuous"
    assert [turn.kind for turn in watch.turns] == ["started", "fell", "canary", "promoted", "kept"]
    assert [event.turn for event in told] == list(watch.turns)
    assert list(watch.history["kind"]) == [turn.kind for turn in watch.turns]
    canary = watch.turns[2]
    assert canary.gain > 0.02
    assert canary.low > 0
