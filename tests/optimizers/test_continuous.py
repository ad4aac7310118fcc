"""The continuous optimizer from the public call: what it notices, tries, takes and takes back."""

from __future__ import annotations

import random
import re

import dspy
import pytest
from spaces import SIGNATURE, TRIAGE

import dspex as dx
from dspex.errors import DataError, DefinitionError, UnknownNameError
from dspex.events import TurnTaken

MESSAGE = TRIAGE.dev[0].message


# ── on the sandbox: a model that breaks ─────────────────────────────────────────────────────────


def two_models():
    """Make a registry, and the model in force, which can be broken and made worse."""
    model = dx.sandbox.lm("large")
    return model, dx.Registry(dx.Space(model=dx.Model({"first": model, "second": "sandbox/medium"})))


def watched(registry, task=SIGNATURE, **changes):
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
    return dx.watch(task, **given)


def serve(registry, n):
    """Call so often, and rate what is answered as right."""
    for _ in range(n):
        try:
            dx.execute(SIGNATURE, space=registry, message=MESSAGE).rate(1.0)
        except dx.ExecutionError:
            continue


def kinds(watch):
    return [turn.kind for turn in watch.turns]


def test_an_outage_is_noticed_and_survived(runtime):
    """When the model in force goes down, a study finds another, and the canary brings it into service."""
    model, registry = two_models()
    told = []
    runtime.events.subscribe(lambda event: told.append(event) if isinstance(event, TurnTaken) else None)
    watch = watched(registry)
    serve(registry, 40)
    assert (watch.state, watch.study) == ("watching", None)
    model.engine.answerer.faults = dx.sandbox.Faults(outage=1.0)
    while watch.study is None:
        serve(registry, 1)
    watch.study.wait()
    assert (watch.state, registry["model"]) == ("canary", "first")
    serve(registry, 80)
    assert registry["model"] == "second"
    assert registry.history[-1].by == "continuous"
    assert kinds(watch) == ["started", "fell", "canary", "promoted", "kept"]
    assert [event.turn for event in told] == list(watch.turns)
    assert {event.watch for event in told} == {watch.name}
    assert watch.turns[2].gain > 0.02
    assert watch.turns[2].low > 0


def test_what_was_measured_before_the_fall_does_not_count(runtime):
    """A model that answers worse under its old name is measured anew, though its rows are in the store."""
    model, registry = two_models()
    data = {"trainset": TRIAGE.train[:40], "valset": TRIAGE.dev[:40], "metric": dx.metrics.exact_match}
    paid = dx.optimize(SIGNATURE, space=registry.as_space(), **data, budget=dx.Budget(trials=2)).wait()
    assert paid.best.configuration["model"] == "first"
    watch = watched(registry, every=1)
    model.engine.answerer = dx.sandbox.lm("small").engine.answerer
    dx.execute(SIGNATURE, space=registry, message=MESSAGE)
    assert watch.study.wait().usage.calls > 0
    assert watch.study.best.configuration["model"] == "second"


# ── on a program whose worth is known ───────────────────────────────────────────────────────────


class Greeter(dspy.Module):
    """Answers with its own tone, and asks nobody."""

    def __init__(self):
        super().__init__()
        self.write = dspy.Predict("number: int -> tone")
        self.tone = "plain"

    def forward(self, number):
        return dspy.Prediction(tone=self.tone)


def greeted(n, *, since=0):
    return [dspy.Example(number=since + k, tone="kind").with_inputs("number") for k in range(n)]


class Worth:
    """A metric: each number is worth something else, and a kind tone `gain` more."""

    def __init__(self, gain, noise=0.1):
        self.gain, self.noise = gain, noise

    def __call__(self, example, prediction, trace=None):
        luck = random.Random(f"{example.number} {prediction.tone}").uniform(-self.noise, self.noise)
        return 0.5 + luck + self.gain * (prediction.tone == "kind")


TONE = dx.Space(tone=dx.Choice(["plain", "kind"]))


def greet(registry, n, quality, rng=None):
    """Call so often; `quality` says with what chance a tone is rated as right."""
    rng = rng or random.Random(0)
    for k in range(n):
        result = dx.execute(GREETER, space=registry, number=k)
        result.rate(float(rng.random() < quality(result.tone)))


GREETER = Greeter()


def greeting(gain, *, n=200, **changes):
    registry = dx.Registry(TONE)
    given = {"trainset": greeted(n), "valset": greeted(n, since=n), "metric": Worth(gain), "every": 10}
    return registry, watched(registry, GREETER, **{**given, **changes})


@pytest.mark.parametrize(
    ("gain", "noise", "n", "decision", "why"),
    [
        (0.01, 0.1, 200, "rejected", "is not above 0.02"),
        (0.03, 0.1, 200, "canary", "30% of the calls try"),
        (0.1, 0.4, 12, "rejected", "may be luck"),
        (-0.1, 0.1, 200, "rejected", "the values in force are the best found"),
    ],
)
def test_only_a_sure_gain_above_the_least_is_tried(runtime, gain, noise, n, decision, why):
    """+.01 is rejected and +.03 accepted, on examples enough; on few more may be luck."""
    registry, watch = greeting(gain, n=n, metric=Worth(gain, noise))
    greet(registry, 10, lambda _: 0.8)
    watch.study.wait()
    assert kinds(watch) == ["started", "due", decision]
    assert re.search(why, watch.turns[-1].why)
    assert watch.state == {"rejected": "watching", "canary": "canary"}[decision]
    assert registry.version == 0


def test_the_least_gain_is_the_users(runtime):
    """With a smaller `min_gain` a gain of .01 is accepted."""
    registry, watch = greeting(0.015, n=300, min_gain=0.001, metric=Worth(0.015, noise=0.02))
    greet(registry, 10, lambda _: 0.8)
    watch.study.wait()
    assert watch.state == "canary"


def test_a_share_of_the_calls_tries_the_candidate(runtime):
    """While the canary runs, the share of calls it was given runs with the candidate, the rest as before."""
    registry, watch = greeting(0.1, canary=0.2, canary_answers=1000)
    greet(registry, 10, lambda _: 0.8)
    watch.study.wait()
    tones = [dx.execute(GREETER, space=registry, number=k).tone for k in range(300)]
    assert 0.13 < tones.count("kind") / 300 < 0.27
    assert registry.configuration == {"tone": "plain"}
    watch.stop()
    assert {dx.execute(GREETER, space=registry, number=k).tone for k in range(30)} == {"plain"}


def test_a_canary_that_regresses_is_taken_back(runtime):
    """What gained on the examples and is rated worse in service never comes into force."""
    registry, watch = greeting(0.1, canary_answers=40)
    greet(registry, 10, lambda _: 0.8)
    watch.study.wait()
    rng = random.Random(0)
    while watch.state == "canary":
        greet(registry, 1, lambda tone: {"plain": 0.9, "kind": 0.1}[tone], rng)
    assert kinds(watch) == ["started", "due", "canary", "rolled_back"]
    assert "the canary is worse" in watch.turns[3].why
    assert registry.version == 0
    assert dx.execute(GREETER, space=registry, number=1).tone == "plain"


def test_a_promotion_that_regresses_is_rewound(runtime):
    """When quality falls after the promotion, the values of before come back as a new version."""
    registry, watch = greeting(0.1, warm_up=60, every=50)
    greet(registry, 50, lambda _: 0.8)
    watch.study.wait()
    while watch.state == "canary":
        greet(registry, 1, lambda _: 1.0)
    assert (watch.state, registry["tone"]) == ("probation", "kind")
    while watch.state == "probation":
        greet(registry, 1, lambda tone: {"plain": 1.0, "kind": 0.0}[tone])
    assert kinds(watch)[2:] == ["canary", "promoted", "rolled_back"]
    assert registry["tone"] == "plain"
    assert [change.by for change in registry.history] == ["continuous", "continuous"]


def test_nothing_happens_while_quality_is_stable(runtime):
    """No study begins while only luck moves the ratings."""
    registry, watch = greeting(0.1, every=None)
    greet(registry, 150, lambda _: 0.8)
    assert kinds(watch) == ["started"]


def test_a_fall_begins_a_study(runtime):
    """Ratings that fall from .9 to .4 begin a study within 60 ratings."""
    registry, watch = greeting(0.1, every=None, warm_up=50)
    greet(registry, 100, lambda _: 0.9)
    assert watch.study is None
    greet(registry, 60, lambda _: 0.4)
    assert kinds(watch)[:2] == ["started", "fell"]
    watch.study.wait()


def test_calls_of_others_are_not_watched(runtime):
    """Other tasks, and calls without the registry, neither count nor judge."""
    registry, watch = greeting(0.1, every=5)
    for k in range(10):
        dx.execute(GREETER, number=k).rate(0.0)
        dx.execute(SIGNATURE, message=MESSAGE).rate(0.0)
    assert watch.study is None
    assert "nothing rated" in repr(watch)
    greet(registry, 5, lambda _: 1.0)
    assert kinds(watch)[:2] == ["started", "due"]
    assert watch.study.name == f"{watch.name}-1"


def test_somebody_elses_write_ends_the_canary(runtime):
    """A candidate was compared with the old values; when a person writes others it is dropped."""
    registry, watch = greeting(0.1, canary_answers=1000)
    greet(registry, 10, lambda _: 0.8)
    watch.study.wait()
    registry.set({"tone": "kind"}, by="ada")
    greet(registry, 1, lambda _: 0.8)
    assert watch.turns[-1].why == "the registry was written meanwhile"
    assert watch.state == "watching"
    assert registry.history[-1].by == "ada"


def test_recent_examples_take_part_in_the_check(runtime):
    """What `recent` returns is scored too, but never what was searched."""
    asked = []

    def recent():
        asked.append(1)
        return [*greeted(30, since=1000), *greeted(5)]

    registry, watch = greeting(0.1, recent=recent)
    greet(registry, 10, lambda _: 0.8)
    watch.study.wait()
    assert asked == [1]
    assert "on 230 examples" in watch.turns[-1].why


def test_without_a_valset_half_the_trainset_checks(runtime):
    """The study searches one half; the other decides."""
    registry, watch = greeting(0.1, valset=None)
    greet(registry, 10, lambda _: 0.8)
    watch.study.wait()
    assert watch.study.best.n_examples <= 100
    assert "on 100 examples" in watch.turns[-1].why


def test_a_study_that_cannot_be_judged_leaves_its_reason(runtime):
    """A failure on the way is a row of the history, and watching goes on."""
    registry, watch = greeting(0.1, recent=lambda: 3)
    greet(registry, 10, lambda _: 0.8)
    watch.study.wait()
    assert watch.turns[-1].kind == "failed"
    assert "'int' object is not iterable" in watch.turns[-1].why
    assert watch.state == "watching"


def test_a_study_that_cannot_begin_leaves_its_reason(runtime):
    """A name that is taken is found out when the study begins; the caller who rates hears nothing of it."""
    registry, watch = greeting(0.1, name="taken")
    data = {"trainset": greeted(5), "metric": Worth(0.1), "budget": dx.Budget(trials=1)}
    dx.optimize(GREETER, space=TONE, **data, name="taken-1").wait()
    greet(registry, 10, lambda _: 0.8)
    assert kinds(watch) == ["started", "due", "failed"]
    assert "there is a study called 'taken-1' already" in watch.turns[-1].why
    greet(registry, 10, lambda _: 0.8)
    assert watch.study.wait().name == "taken-2"


def test_it_starts_and_stops(runtime):
    """After `stop` nothing is heard, a running study is cancelled; `start` listens again."""
    registry, watch = greeting(0.1)
    greet(registry, 9, lambda _: 0.8)
    watch.stop()
    watch.stop()
    greet(registry, 20, lambda _: 0.8)
    assert watch.study is None
    assert repr(watch).startswith(f"<Continuous {watch.name}: stopped")
    watch.start().start()
    greet(registry, 10, lambda _: 0.8)
    watch.stop()
    assert watch.study.wait(10).is_done
    assert kinds(watch) == ["started", "stopped", "started", "due", "stopped"]


def test_the_history_is_a_table(runtime):
    """One row a step, at the clock's time, with the quality then and the gain that decided."""
    registry = dx.Registry(TONE)
    watch = runtime.watch(
        GREETER,
        space=registry,
        trainset=greeted(100),
        valset=greeted(100, since=100),
        metric=Worth(0.1),
        every=10,
        name="greetings",
        clock=lambda: 86400.0,
    )
    greet(registry, 10, lambda _: 1.0)
    watch.study.wait()
    table = watch.history
    assert list(table["kind"]) == ["started", "due", "canary"]
    assert table["at"].dt.strftime("%Y-%m-%d").tolist() == ["1970-01-02"] * 3
    assert list(table["study"])[1:] == ["greetings-1"] * 2
    assert table["gain"].iloc[-1] == pytest.approx(0.1, abs=0.03)
    assert table["configuration"].iloc[-1] == {"tone": "kind"}
    assert table["quality"].iloc[-1] == 1.0
    runtime.close()
    assert watch.state == "stopped"


def test_what_cannot_be_watched_is_refused_at_once(runtime):
    """Every number out of range is named; so is a space without a registry, and a trainset of one."""
    with pytest.raises(DataError, match="min_gain must be a number >= 0, got -1"):
        greeting(0.1, min_gain=-1)
    with pytest.raises(
        DataError, match=r"(?s)canary must lie between 0 and 1, got 1.5.*every|every.*canary must"
    ):
        greeting(0.1, canary=1.5, every=0)
    with pytest.raises(DefinitionError, match="values of a registry"):
        dx.watch(GREETER, space=TONE, trainset=greeted(9), metric=Worth(0.1))
    with pytest.raises(DataError, match="the trainset has 1"):
        greeting(0.1, trainset=greeted(1), valset=None)
    with pytest.raises(UnknownNameError, match="speed"):
        dx.watch(
            GREETER, space=dx.Registry(dx.Space(speed=dx.Int(1, 3))), trainset=greeted(9), metric=Worth(0.1)
        )
    with pytest.raises(DataError, match="every example that should check a candidate is searched"):
        greeting(0.1, valset=greeted(3))
    with pytest.raises(UnknownNameError, match="unknown optimizer 'simba'"):
        greeting(0.1, optimizer="simba")
    with pytest.raises(DataError, match="a metric must be callable"):
        greeting(0.1, metric="exact")


def test_it_has_its_place_among_the_optimizers(runtime):
    """`dx.optimizers.Continuous` is what `dx.watch` returns, and an unknown name is none."""
    registry, watch = greeting(0.1)
    assert isinstance(watch, dx.optimizers.Continuous)
    assert watch.state == "watching"
    assert registry.version == 0
    with pytest.raises(AttributeError, match="Continous"):
        _ = dx.optimizers.Continous
