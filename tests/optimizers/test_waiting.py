"""Studies ask through the session's guards: an outage is waited for, and never taken for bad quality."""

from __future__ import annotations

import threading

import dspy
import pytest
from spaces import SIGNATURE, TRIAGE

import dspex as dx
from dspex.errors import (
    AuthenticationError,
    BadResponseError,
    ExecutionError,
    RateLimitedError,
    RequestRefusedError,
    UnavailableError,
    UnreadableAnswerError,
)
from dspex.events import ExampleScored, StudyPaused, StudyWentOn
from dspex.optimizers.waiting import Waiting
from dspex.pools import named
from dspex.reliability import BreakerSettings, Guards, Reliability

NAME = "openai/sandbox/small"
OTHER = "openai/sandbox/medium"
KEY = "the-right-key"
QUICK = BreakerSettings(cool_down_s=0.05, longest_cool_down_s=0.1)
DOWN = {"kind": "server_error"}
COLUMNS = ["phase", "score", "n_examples", "n_failed", "temperature", "demos"]


@pytest.fixture(scope="module")
def running():
    with dx.sandbox.serve(api_key=KEY) as server:
        yield server


@pytest.fixture
def server(running):
    running.set_faults(None)
    yield running
    running.set_faults(None)


@pytest.fixture
def configure(server):
    def configured(**changes):
        changes = {"breaker": QUICK, **changes}
        lms = [
            dspy.LM(name, api_base=server.url, api_key=changes.pop("key", KEY), cache=False)
            for name in changes.pop("models", [NAME])
        ]
        runtime = dx.configure(
            lms, store="memory", prices={lm.model: dx.Price(1.0, 1.0) for lm in lms},
            reliability=Reliability(**changes),
        )  # fmt: skip
        told: list[object] = []
        runtime.events.subscribe(told.append)
        return runtime, told

    yield configured
    dx.configure(["sandbox/small"], store="memory")


def begin(**changes):
    given = {
        "space": dx.Space(temperature=dx.Float(0.0, 1.0, default=0.5), demos=dx.Int(0, 4)),
        "trainset": TRIAGE.train[:8],
        "valset": TRIAGE.dev[:12],
        "metric": dx.metrics.exact_match,
        "optimizer": "random",
        "budget": dx.Budget(trials=3),
        "name": "study",
        **changes,
    }
    return dx.optimize(SIGNATURE, **given)


@pytest.fixture(scope="module")
def undisturbed():
    """Run the same study on a provider that is well."""
    with dx.sandbox.serve() as server:
        lm = dspy.LM(NAME, api_base=server.url, api_key="none", cache=False)
        dx.configure([lm], store="memory", prices={NAME: dx.Price(1.0, 1.0)})
        study = begin().wait()
        return study.trials[COLUMNS], len(server.calls)


def only_unreadable(study):
    """Whether nothing failed but answers that are in no form, which are the model's own doing."""
    return study.scores["error"].dropna().str.contains("AdapterParseError").all()


def until(study, condition):
    """Look again and again; the study goes on meanwhile."""
    while not condition():
        assert not study.is_done, study.reason
        threading.Event().wait(0.005)


@pytest.mark.parametrize(
    "faults",
    [
        [{**DOWN, "calls": [15, 30]}],
        [{"kind": "drop", "calls": [15, 20]}],
        [{"kind": "malformed", "calls": [15, 20]}],
        [{"kind": "rate_limit", "retry_after_s": 0.2, "calls": [5, 25]}],
        [{**DOWN, "share": 0.15}],
    ],
    ids=["outage", "dropped", "malformed", "rate limit", "brown-out"],
)
def test_a_failing_provider_changes_no_score(configure, server, undisturbed, faults):
    """Every trial is what it is on a provider that is well, and nothing counts as failed."""
    server.set_faults(faults)
    configure()
    n_before = len(server.calls)
    study = begin().wait()
    trials, n_calls = undisturbed
    assert study.trials[COLUMNS].equals(trials)
    assert only_unreadable(study)
    assert len(server.calls) - n_before > n_calls


def test_dspys_own_retries_do_not_multiply(configure, server, undisturbed):
    """Each call that failed is asked for once more, not once more by everybody."""
    server.set_faults([{**DOWN, "calls": [3, 5]}])
    configure()
    n_before = len(server.calls)
    begin().wait()
    assert len(server.calls) - n_before == undisturbed[1] + 2


def test_a_pause_is_announced_and_shown(configure, server):
    """While the breaker is open the study says whom it waits for, and afterwards for how long it did."""
    server.set_faults([{**DOWN, "calls": [5, 1_000_000]}])
    _, told = configure()
    study = begin()
    until(study, lambda: study.pause is not None)
    assert study.pause == f"waits for {NAME}: its breaker is open"
    assert study.pause in repr(study)
    server.set_faults(None)
    study.wait()
    assert study.pause is None
    paused = [each for each in told if isinstance(each, StudyPaused)]
    went_on = [each for each in told if isinstance(each, StudyWentOn)]
    # An answer that was on its way ends a pause, and the next failures begin another one.
    assert len(paused) == len(went_on) > 0
    assert set(paused) == {StudyPaused("study", NAME, "its breaker is open")}
    assert {(each.study, each.model) for each in went_on} == {("study", NAME)}
    waited = f"waited {sum(each.waited_s for each in went_on):.1f} s for {NAME}"
    assert waited in study.notices
    assert waited in study.reason


def test_calls_and_studies_share_what_is_known_of_a_model(configure, server):
    """What a study has met keeps `execute` away, and a rate limit of `execute` holds the study back."""
    runtime, told = configure()
    server.set_faults([{"kind": "rate_limit", "retry_after_s": 30, "calls": [0, 1]}])
    with pytest.raises(ExecutionError):
        dx.execute(SIGNATURE, message=TRIAGE.dev[0].message, timeout_s=5)
    assert runtime.protection.guards.find(NAME).window.wait_s > 20
    n_calls = len(server.calls)
    study = begin()
    until(study, lambda: study.pause is not None)
    assert "of peace" in study.pause
    assert len(server.calls) == n_calls
    study.cancel()
    assert not any(isinstance(each, ExampleScored) for each in told)


def test_cancelling_does_not_wait(configure, server):
    """A study that waits is cancelled at once, and keeps what it has."""
    server.set_faults([{**DOWN, "calls": [14, 1_000_000]}])
    configure(breaker=BreakerSettings(cool_down_s=60))
    study = begin()
    until(study, lambda: study.pause is not None)
    study.cancel()
    assert study.is_done
    assert (study.state, study.reason) == ("cancelled", "cancelled")
    assert len(study.scores) >= 10
    assert only_unreadable(study)


def test_the_budgets_seconds_end_it(configure, server):
    """Its time runs on while it waits; the best so far is its result."""
    server.set_faults([{**DOWN, "calls": [14, 1_000_000]}])
    configure(breaker=BreakerSettings(cool_down_s=60))
    study = begin(budget=dx.Budget(trials=3, seconds=1)).wait()
    assert study.state == "finished"
    assert study.reason.startswith(f"1 s are over; it waits for {NAME}: its breaker is open")
    assert study.best.n_failed == 0


def test_patience_ends_and_the_study_goes_on_later(configure, server, undisturbed):
    """The error names the provider, what it did, and how to go on; nothing is paid for twice, and no score is lost."""
    server.set_faults([{**DOWN, "calls": [14, 1_000_000]}])
    configure(patience_s=0.3)
    study = begin()
    with pytest.raises(ExecutionError) as caught:
        study.wait()
    said = str(caught.value)
    assert f"{NAME} has answered nothing for" in said
    assert "is not available (503)" in said
    assert "name='study', resume=True" in said
    assert study.state == "failed"
    assert only_unreadable(study)
    assert len(study.scores) >= 10
    paid = study.usage.calls
    server.set_faults(None)
    n_before = len(server.calls)
    resumed = begin(resume=True).wait()
    assert resumed.trials[COLUMNS].equals(undisturbed[0])
    assert len(server.calls) - n_before == undisturbed[1] - paid


def test_who_asks_for_more_than_there_is_patience_ends_it_at_once(configure, server):
    """A quota that comes back in an hour is not waited for at all."""
    server.set_faults([{"kind": "rate_limit", "retry_after_s": 3600}])
    configure()
    with pytest.raises(ExecutionError, match=r"is not to be asked for another 3[56]\d\d s"):
        begin().wait()


def test_a_wrong_key_ends_it_at_once(configure, server):
    """If no model takes a request there is nothing to search: the first error is the study's."""
    configure(key="a-wrong-key")
    n_before = len(server.calls)
    with pytest.raises(ExecutionError, match="does not take the key") as caught:
        begin().wait()
    assert isinstance(caught.value.__cause__, AuthenticationError)
    assert "then resume=True goes on with 'study'" in str(caught.value)
    assert len(server.calls) - n_before <= 12


def test_a_model_that_is_not_there_fails_its_own_configurations(configure):
    """The others are searched; its own score 0 with the reason."""
    missing = "openai/sandbox/giant"
    configure(models=[NAME, missing])
    study = begin(space=dx.Space(model=dx.Model([NAME, missing])), optimizer="grid").wait()
    scores = study.trials.query("phase == 'search'").set_index("model")
    assert scores.loc[missing, "n_failed"] == 12
    assert scores.loc[NAME, "n_failed"] == 0
    assert study.best.configuration["model"] == NAME
    assert study.scores["error"].dropna().str.contains("Unsupported|NotFound|does not exist").all()


def test_an_outage_of_one_model_does_not_hold_up_another(configure, server):
    """Each model has its own guard; configurations of the other one are scored meanwhile."""
    server.set_faults([{**DOWN, "model": "small"}])
    configure(models=[NAME, OTHER])
    study = begin(
        space=dx.Space(model=dx.Model([NAME, OTHER])), optimizer=dx.optimizers.Beacon(batch=2, parallel=2)
    )
    until(study, lambda: study.pause is not None and len(study.scores) > 0)
    assert study.pause.startswith(f"waits for {NAME}")
    server.set_faults(None)
    assert only_unreadable(study.wait())


def test_a_judge_that_fails_scores_nothing(configure, server):
    """A metric that asks a model waits for it as the program does."""
    server.set_faults([{**DOWN, "calls": [3, 18]}])
    _, told = configure()
    study = begin(metric=dx.metrics.judge("The label fits the message."), budget=dx.Budget(trials=1)).wait()
    assert only_unreadable(study)
    assert any(isinstance(each, StudyPaused) for each in told)


def test_a_metric_that_executes_is_part_of_its_examples_turn(configure, server):
    """With one slot it does not wait for itself, and what its provider does wrong is no score either."""
    server.set_faults([{**DOWN, "calls": [4, 8]}])
    configure(slots=1, attempts=1)

    def metric(example, prediction, trace=None):
        other = dx.execute(SIGNATURE, message=f"{example.message} Or not?")
        return other.label == prediction.label

    study = begin(metric=metric, budget=dx.Budget(trials=1), valset=TRIAGE.dev[:4]).wait()
    assert only_unreadable(study)
    assert study.best.n_examples == 4


def test_several_optimizers_end_together(configure, server):
    """A provider that nobody waits for any longer fails the study, not one optimizer of it."""
    server.set_faults([{**DOWN, "calls": [14, 1_000_000]}])
    configure(patience_s=0.3)
    study = begin(optimizer=["random", "labeled"], budget=dx.Budget(trials=4))
    with pytest.raises(ExecutionError, match="answered nothing for"):
        study.wait()
    assert not any("failed" in notice for notice in study.notices)


def test_time_that_is_waited_is_not_the_examples(configure, server, undisturbed):
    """`timeout_s` counts only the asking."""
    server.set_faults([{"kind": "rate_limit", "retry_after_s": 2.5, "calls": [5, 10]}])
    configure()
    study = begin(timeout_s=2).wait()
    assert study.trials[COLUMNS].equals(undisturbed[0])


def test_failures_come_back_from_workers(configure, server, undisturbed):
    """Where examples run in other processes, the session decides all the same."""
    dx.pools.define("remote", dx.pools.PoolSpec(workers=2, preload=("dspy",)))
    try:
        server.set_faults([{**DOWN, "calls": [5, 20]}])
        _, told = configure()
        study = begin(pool="remote").wait()
    finally:
        named.close("remote")
        del named._specs["remote"]
    assert study.trials[COLUMNS].equals(undisturbed[0])
    assert any(isinstance(each, StudyPaused) for each in told)


# ── DSPy's own optimizers ───────────────────────────────────────────────────────────────────────


def compiled(**changes):
    return begin(
        space=None,
        optimizer=dx.optimizers.BootstrapFewShotWithRandomSearch(num_candidate_programs=2, max_errors=1),
        trainset=TRIAGE.train[:10],
        budget=None,
        **changes,
    )


@pytest.fixture(scope="module")
def compiled_undisturbed():
    """Compile on a provider that is well."""
    with dx.sandbox.serve() as server:
        lm = dspy.LM(NAME, api_base=server.url, api_key="none", cache=False)
        dx.configure([lm], store="memory", prices={NAME: dx.Price(1.0, 1.0)})
        study = compiled().wait()
        return tried(study), len(server.calls)


def tried(study):
    """Return what each program scored; in which order they end is DSPy's threads' affair."""
    columns = ["phase", "score", "n_examples", "n_failed"]
    return sorted(map(tuple, study.trials[columns].to_numpy().tolist()))


@pytest.mark.parametrize(
    "faults",
    [
        [{**DOWN, "calls": [15, 30]}],
        [{"kind": "rate_limit", "retry_after_s": 0.2, "calls": [5, 15]}],
    ],
    ids=["outage", "rate limit"],
)
def test_dspys_optimizers_wait_too(configure, server, compiled_undisturbed, faults):
    """What they try and what it scores is the same; a call that failed is made once more by nobody else."""
    server.set_faults(faults)
    _, told = configure()
    n_before = len(server.calls)
    study = compiled().wait()
    programs, n_calls = compiled_undisturbed
    assert any(isinstance(each, StudyPaused) for each in told)
    assert tried(study) == programs
    assert only_unreadable(study)
    n_failed = sum(call.mishap is not None for call in server.calls[n_before:])
    assert len(server.calls) - n_before == n_calls + n_failed


def test_they_end_when_patience_does(configure, server, compiled_undisturbed):
    """The study says so, nothing counts as failed, and it goes on where it was."""
    server.set_faults([{**DOWN, "calls": [14, 1_000_000]}])
    configure(patience_s=0.3)
    n_before = len(server.calls)
    with pytest.raises(ExecutionError, match="answered nothing for"):
        compiled().wait()
    server.set_faults(None)
    study = compiled(resume=True).wait()
    assert tried(study) == compiled_undisturbed[0]
    answered = sum(call.mishap is None for call in server.calls[n_before:])
    assert answered == compiled_undisturbed[1]


def test_they_are_cancelled_while_they_wait(configure, server):
    """At once, and a wrong key ends them before anything is tried twice."""
    server.set_faults([{**DOWN, "calls": [14, 1_000_000]}])
    configure(breaker=BreakerSettings(cool_down_s=60))
    study = compiled()
    until(study, lambda: study.pause is not None)
    study.cancel()
    assert study.wait().state == "cancelled"
    configure(key="a-wrong-key")
    with pytest.raises(ExecutionError, match="does not take the key"):
        compiled().wait()


def test_what_they_make_runs_and_is_saved_without_a_study(configure, tmp_path):
    """Its models are ordinary ones: DSPy loads them, with its own retries."""
    configure()
    study = compiled().wait()
    study.compiled.save(str(tmp_path / "program.json"))
    assert "patient" not in (tmp_path / "program.json").read_text().lower()
    lm = study.compiled.predictors()[0].lm
    assert lm is None or lm.num_retries == 3
    assert study.program(message=TRIAGE.dev[0].message).label


def test_without_reliability_failures_are_data_points(server):
    """Who turned it off has chosen that."""
    server.set_faults([DOWN])
    lm = dspy.LM(NAME, api_base=server.url, api_key=KEY, cache=False, num_retries=0)
    dx.configure([lm], store="memory", reliability=False)
    study = begin(budget=dx.Budget(trials=1)).wait()
    assert study.best.n_failed == 12
    dx.configure(["sandbox/small"], store="memory")


# ── what is decided, by a clock of its own ──────────────────────────────────────────────────────


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def waiting(clock):
    guards = Guards(Reliability(patience_s=60), clock=clock)
    return Waiting(guards, "study", ["p/m"], publish=lambda _: None)


def down(kind=UnavailableError, **given):
    return kind("it is down", provider="p/m", **given)


def test_an_example_that_fails_alone_is_its_own_failure(waiting, clock):
    """A model that answers others has failed often enough on the tenth try; one that answers nobody has not."""
    assert waiting.delay_s(down(), tries=10, since=100.0) > 0
    clock.now += 1
    waiting.answered(["p/m"])
    assert waiting.delay_s(down(), tries=9, since=100.0) > 0
    assert waiting.delay_s(down(), tries=10, since=100.0) is None
    assert waiting.delay_s(down(RateLimitedError), tries=50, since=100.0) > 0


def test_what_asking_again_would_not_help_stands(waiting):
    """Requests that are refused, and answers in no form, are scored as they are."""
    assert waiting.delay_s(down(RequestRefusedError), tries=1, since=0.0) is None
    assert waiting.delay_s(down(UnreadableAnswerError), tries=1, since=0.0) is None
    assert waiting.delay_s(down(BadResponseError), tries=1, since=0.0) > 0


def test_tries_slow_down(waiting, clock):
    """At first within 0.2 s, 5 s after the retry budget is spent, and never before a provider's own time."""
    guard = waiting.guards.of("p/m")
    assert 0 <= waiting.delay_s(down(), tries=1, since=clock.now) <= 0.2
    assert waiting.delay_s(down(RateLimitedError, retry_after_s=7.0), tries=1, since=clock.now) >= 7
    while guard.retry.budget.allows_retry:
        guard.retry.budget.on_failure()
    assert waiting.delay_s(down(), tries=1, since=clock.now) == 5.0


def test_patience_counts_from_the_last_answer(waiting, clock):
    """Whoever answered in between is waited for anew."""
    clock.now = 159.0
    waiting.check([("p/m", 100.0)])
    waiting.answered(["p/m"])
    clock.now = 219.0
    waiting.check([("p/m", 100.0), ("p/m", 180.0)])
    clock.now = 220.0
    with pytest.raises(UnavailableError, match="answered nothing for 61 s, and a study waits for 60 s"):
        waiting.check([("p/m", 100.0)])
