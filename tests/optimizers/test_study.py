"""Studies from the public call: improvement, budgets, cancelling, resuming, and failures as data."""

from __future__ import annotations

import asyncio
import re
import threading
import time

import pytest
from spaces import SIGNATURE, SPACE, TRIAGE

import dspex as dx
from dspex.errors import DataError, ExecutionError
from dspex.events import ExampleScored, StudyAwaited, StudyFinished, StudyStarted, TrialFinished, TrialStarted

pytestmark = pytest.mark.usefixtures("runtime")


def begin(**changes):
    given = {
        "space": SPACE,
        "trainset": TRIAGE.train,
        "valset": TRIAGE.dev[:80],
        "metric": dx.metrics.exact_match,
        "budget": dx.Budget(trials=12),
        **changes,
    }
    return dx.optimize(SIGNATURE, **given)


@pytest.mark.parametrize(
    ("optimizer", "reason"),
    [
        ("beacon", "12 trials done|settled"),
        ("random", "12 trials done"),
        ("tpe", "12 trials done"),
        ("gp", "12 trials done"),
    ],
)
def test_the_result_is_truly_better(optimizer, reason):
    """By the sandbox's own truth, on examples never searched, the program gains at least 20 points."""
    study = begin(optimizer=optimizer, seed=3).wait()
    before = dx.sandbox.expected_score(study.definition.bind(SPACE.default()), TRIAGE.test)
    after = dx.sandbox.expected_score(study.program, TRIAGE.test)
    assert after > before + 0.2
    assert study.state == "finished"
    assert re.match(reason, study.reason)


def test_it_is_never_worse_than_where_it_began():
    """The default is a finalist, scored on every example, so the best cannot be below it."""
    study = begin(budget=dx.Budget(trials=1)).wait()
    assert study.best.n_examples == study.baseline.n_examples == 80
    assert study.best.score >= study.baseline.score


def test_one_seed_is_one_study():
    """Configurations and scores are the same for the same seed, and the second study pays for nothing."""
    columns = ["phase", "score", "n_examples", *SPACE]
    one, again = begin(seed=5).wait().trials[columns], begin(seed=5).wait()
    assert one.equals(again.trials[columns])
    assert again.usage.calls == 0
    assert not one.equals(begin(seed=6).wait().trials[columns])


def test_the_program_runs_the_best_configuration():
    """Temperature, model, module and demos of the program are those of the best trial."""
    study = begin().wait()
    configuration, program = study.best.configuration, study.program
    predictor = program.predictors()[0]
    assert type(program).__name__ == configuration["module"]
    assert predictor.lm.model == configuration["model"]
    assert predictor.lm.kwargs["temperature"] == configuration["temperature"]
    assert len(predictor.demos) == configuration["demos"]


def test_events_tell_the_whole_story(runtime):
    """A listener could rebuild the study: every trial begins, scores its examples and ends, in order."""
    seen = []
    runtime.events.subscribe(seen.append)
    study = begin(budget=dx.Budget(trials=3)).wait()
    assert isinstance(seen[0], StudyStarted)
    assert isinstance(seen[-2], StudyFinished)
    assert isinstance(seen[-1], StudyAwaited)
    finished = [event.trial for event in seen if isinstance(event, TrialFinished)]
    newest = {trial.number: trial for trial in finished}
    assert list(newest.values()) == list(study.finished_trials)
    scored = sum(isinstance(event, ExampleScored) for event in seen)
    assert scored == len(study.scores)
    started = [event for event in seen if isinstance(event, TrialStarted)]
    assert [event.number for event in started] == [trial.number for trial in finished]


def test_a_trial_grows_and_keeps_its_number(runtime):
    """BEACON comes back to a promising configuration: one trial, announced again with all that is known of it."""
    seen = []
    runtime.events.subscribe(lambda event: isinstance(event, TrialFinished) and seen.append(event.trial))
    study = begin(budget=dx.Budget(trials=6)).wait()
    search = [trial for trial in seen if trial.phase == "search"]
    assert len(search) > len({trial.number for trial in search})
    for number in {trial.number for trial in search}:
        sizes = [trial.n_examples for trial in search if trial.number == number]
        assert sizes == sorted(set(sizes))
    assert runtime.store.trials(study.name) == list(study.finished_trials)


def test_a_finished_trial_is_in_the_store_when_it_is_announced(runtime):
    """Whoever hears of a trial can rely on it."""
    missing = []

    def check(event):
        if isinstance(event, TrialFinished) and event.trial not in runtime.store.trials(event.study):
            missing.append(event.trial.number)

    runtime.events.subscribe(check)
    assert len(begin(budget=dx.Budget(trials=4)).wait().trials) >= 6
    assert missing == []


def slow_metric(example, prediction, trace=None):
    """Take 20 ms an example, except for the check beforehand on the calling thread."""
    if threading.current_thread().daemon:
        threading.Event().wait(0.02)
    return float(prediction.label == example.label)


def test_cancel_takes_less_than_half_a_second_and_keeps_the_best(runtime):
    """The trials that were finished stay, and their best is the program."""
    first = threading.Event()
    runtime.events.subscribe(lambda event: isinstance(event, TrialFinished) and first.set())
    study = begin(metric=slow_metric, budget=dx.Budget(trials=500))
    assert first.wait(30)
    began = time.perf_counter()
    study.cancel()
    assert time.perf_counter() - began < 0.5
    assert study.is_done
    assert study.state == "cancelled"
    assert 1 <= len(study.trials) < 500
    assert study.wait().program.predictors()[0].lm.model == study.best.configuration["model"]
    assert runtime.runs().loc[study.name, "state"] == "cancelled"


def test_a_cancelled_study_does_not_wait_for_a_model_that_hangs(runtime):
    """A call that never returns holds up nobody."""
    hanging, called = threading.Event(), threading.Event()

    def metric(example, prediction, trace=None):
        if threading.current_thread().daemon:
            called.set()
            hanging.wait(60)
        return 1.0

    study = begin(metric=metric)
    assert called.wait(30)
    began = time.perf_counter()
    study.cancel()
    assert study.is_done
    assert time.perf_counter() - began < 0.5
    hanging.set()


def test_can_be_awaited():
    """`await study` leaves the event loop free and returns the study."""

    async def both():
        study, ticks = begin(budget=dx.Budget(trials=2)), 0

        async def tick():
            nonlocal ticks
            while not study.is_done:
                ticks += 1
                await asyncio.sleep(0)

        found, _ = await asyncio.gather(study, tick())
        return found is study, ticks

    same, ticks = asyncio.run(both())
    assert same
    assert ticks > 10


def test_waiting_can_give_up():
    """A timeout is an error that says what to do; the study goes on."""
    study = begin(metric=slow_metric, budget=dx.Budget(trials=500))
    with pytest.raises(ExecutionError, match="is still running after 0 s"):
        study.wait(timeout_s=0)
    assert not study.is_done
    study.cancel()


def test_a_metric_that_raises_on_one_example_is_a_data_point():
    """That example scores 0 with its traceback; the run goes on."""
    broken = TRIAGE.dev[3].message

    def metric(example, prediction, trace=None):
        if example.message == broken and threading.current_thread().daemon:
            raise LookupError("no such thing")
        return float(example.label == prediction.label)

    study = begin(metric=metric, valset=TRIAGE.dev[:20], budget=dx.Budget(trials=2)).wait()
    assert study.state == "finished"
    assert list(study.trials["n_failed"]) == [1, 1]
    failed = study.scores.dropna(subset="error")
    assert (failed["score"] == 0).all()
    assert failed["error"].str.contains("LookupError: no such thing").all()


def test_what_a_judge_asks_is_paid_for_by_the_study():
    """A metric that asks a model uses the study's own, and its calls count like the program's."""
    plain = begin(budget=dx.Budget(trials=1), valset=TRIAGE.dev[:20]).wait()
    judge = dx.metrics.judge("The label fits the message.")
    judged = begin(budget=dx.Budget(trials=1), valset=TRIAGE.dev[:20], metric=judge).wait()
    assert judged.state == "finished"
    assert judged.usage.calls >= plain.usage.calls + 18
    assert judged.usage.cost_usd > plain.usage.cost_usd


def test_a_model_that_fails_is_a_data_point(runtime):
    """Rate limits score 0 with their reason, and the other examples count."""
    flaky = dx.sandbox.lm("small", faults=dx.sandbox.Faults(rate_limit=0.3))
    study = begin(
        space=dx.Space(model=dx.Model({"flaky": flaky}), demos=dx.Int(0, 1)), valset=TRIAGE.dev[:40]
    ).wait()
    assert study.trials["n_failed"].between(4, 24).all()
    assert study.scores["error"].dropna().str.contains("RateLimit").all()


@pytest.mark.parametrize(
    ("budget", "reason"),
    [
        (dx.Budget(trials=3), "3 trials done"),
        (dx.Budget(trials=100, calls=700), "700 calls are made or set aside"),
        (dx.Budget(trials=100, usd=0.15), r"$0.15 are spent or set aside"),
    ],
)
def test_budgets_hold(budget, reason):
    """Each limit ends the search within one trial, finalists included."""
    study = begin(budget=budget).wait()
    assert study.reason.startswith(reason)
    if budget.calls is not None:
        assert study.usage.calls <= budget.calls
        assert (study.trials["phase"] == "final").sum() >= 3
    if budget.usd is not None:
        assert study.usage.cost_usd <= budget.usd + study.trials["cost_usd"].max()


def test_a_budget_of_seconds_holds():
    """Time that is over ends the search."""
    study = begin(metric=slow_metric, budget=dx.Budget(trials=10_000, seconds=0.5)).wait()
    assert study.reason == "0.5 s are over"
    assert len(study.trials) < 100


def test_nothing_is_paid_for_twice():
    """Finalists are scored only on the examples that the search did not score already."""
    study = begin(budget=dx.Budget(trials=6)).wait()
    final = {trial.configuration_key: trial for trial in study.finished_trials if trial.phase == "final"}
    for trial in study.finished_trials:
        if trial.phase == "search" and trial.configuration_key in final:
            finalist = final[trial.configuration_key]
            assert finalist.n_examples == 80
            assert (
                finalist.usage.calls <= 80 - trial.n_examples + 6
            )  # a few answers are asked for again in JSON
    assert not study.scores.duplicated(["configuration", "example"]).any()


def test_a_resumed_study_pays_only_for_what_is_missing():
    """Cancelled half-way and resumed: the same trials as if it had never stopped, each paid once."""
    part = begin(seed=9, name="part", budget=dx.Budget(trials=4)).wait()
    paid = part.usage.calls
    rest = begin(seed=9, name="part", resume=True).wait()
    whole = begin(seed=9, name="whole").wait()
    columns = ["score", "n_examples", *SPACE]
    searched = rest.trials[rest.trials["phase"] == "search"][columns].reset_index(drop=True)
    assert searched.equals(whole.trials[whole.trials["phase"] == "search"][columns].reset_index(drop=True))
    assert rest.best.configuration == whole.best.configuration
    assert paid < rest.usage.calls


def test_two_studies_of_one_name_are_refused():
    """A name is a study; the error says how to go on with it."""
    begin(name="mine", budget=dx.Budget(trials=1)).wait()
    with pytest.raises(DataError, match="there is a study called 'mine' already") as caught:
        begin(name="mine")
    assert "resume=True" in caught.value.hint


def test_resuming_another_search_says_what_differs():
    """A changed seed or data set is named with both values."""
    begin(name="mine", seed=1, budget=dx.Budget(trials=1)).wait()
    with pytest.raises(DataError, match="seed was 1, is 2"):
        begin(name="mine", seed=2, resume=True)
    with pytest.raises(DataError, match="examples was"):
        begin(name="mine", seed=1, valset=TRIAGE.dev[:50], resume=True)


def test_its_repr_tells_how_it_stands():
    """A terminal sees state, trials, scores and money."""
    study = begin(budget=dx.Budget(trials=2), name="shown").wait()
    assert repr(study).startswith("<Study shown: simulated, finished, ")
    assert f"best {study.best.score:.3f}" in repr(study)


def test_a_study_that_breaks_says_so_to_whoever_waits(runtime, monkeypatch):
    """A failure inside the study's thread is raised by wait, with its cause."""

    def broken(*args, **kwargs):
        raise RuntimeError("disk gone")

    monkeypatch.setattr(runtime.store, "append_trial", broken)
    study = begin()
    with pytest.raises(ExecutionError, match="disk gone"):
        study.wait()
    assert study.state == "failed"
