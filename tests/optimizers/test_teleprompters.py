"""DSPy's optimizers from the public call: whole, live, cancelled, resumed, and what they stumble over."""

from __future__ import annotations

import threading
import time

import dspy
import pytest
from dspy.utils.exceptions import AdapterParseError
from spaces import SIGNATURE, TRIAGE

import dspex as dx
from dspex import optimizers, session
from dspex.bridge import identity
from dspex.errors import DataError, DefinitionError, ExecutionError, UnknownNameError
from dspex.events import ExampleScored, StudyFinished, TrialFinished, TrialStarted

pytestmark = pytest.mark.usefixtures("runtime")

LARGE = {"lm": "sandbox/large"}
EVERY = {
    "simba": lambda: optimizers.Simba(max_steps=2, bsize=8, num_candidates=3, prompt_model="sandbox/large"),
    "miprov2": lambda: optimizers.MIPROv2(
        num_candidates=3, num_trials=4, minibatch_size=8, minibatch_full_eval_steps=2
    ),
    "gepa": lambda: optimizers.GEPA(max_metric_calls=60),
    "copro": lambda: optimizers.COPRO(breadth=3, depth=1, prompt_model="sandbox/large"),
    "bootstrap": lambda: optimizers.BootstrapFewShot(max_labeled_demos=4, teacher_settings=LARGE),
    "bootstrap_rs": lambda: optimizers.BootstrapFewShotWithRandomSearch(
        num_candidate_programs=2, max_labeled_demos=4
    ),
    "bootstrap_optuna": lambda: optimizers.BootstrapFewShotWithOptuna(
        num_candidate_programs=3, max_labeled_demos=4
    ),
    "knn": lambda: optimizers.KNNFewShot(k=2),
    "infer_rules": lambda: optimizers.InferRules(num_candidates=2, num_rules=3, max_labeled_demos=4),
    "better_together": lambda: optimizers.BetterTogether(
        p=optimizers.BootstrapFewShot(max_labeled_demos=2), c=optimizers.COPRO(breadth=2, depth=1)
    ),
    "labeled": lambda: optimizers.LabeledFewShot(k=4),
}
every_optimizer = pytest.mark.parametrize("name", EVERY)


def begin(kind="bootstrap", /, **changes):
    given = {
        "trainset": TRIAGE.train[:20],
        "valset": TRIAGE.dev[:20],
        "metric": dx.metrics.exact_match,
        "optimizer": EVERY[kind](),
        **changes,
    }
    return dx.optimize(SIGNATURE, **given)


def text_of(program):
    """Name what a program says, and where it runs it differently."""
    return identity.fingerprint(identity.said_by(program))


class Door:
    """A metric that stops at its n-th call until it is let through."""

    def __init__(self, closed_at):
        self.closed_at = closed_at
        self.calls = 0
        self.reached = threading.Event()
        self.open = threading.Event()

    def __call__(self, example, prediction, trace=None):
        if threading.current_thread() is not threading.main_thread():
            self.calls += 1
            if self.calls >= self.closed_at:
                self.reached.set()
                self.open.wait(60)
        return float(prediction.label == example.label)


# ── whole and live ──────────────────────────────────────────────────────────────────────────────


@every_optimizer
def test_it_runs_whole_and_live(runtime, name):
    """Every program is a trial with its rows, the trials are announced, and the result is compared in the end."""
    seen = []
    runtime.events.subscribe(seen.append)
    study = begin(name).wait()
    assert study.state == "finished"
    assert study.reason.startswith(f"{name} is done")
    assert study.best.phase == "final"
    assert study.best.score >= study.baseline.score
    assert study.baseline.n_examples == study.best.n_examples
    begun = {event.number for event in seen if isinstance(event, TrialStarted)}
    ended = {event.trial.number: event.trial for event in seen if isinstance(event, TrialFinished)}
    assert begun == set(ended)
    assert ended == {trial.number: trial for trial in study.finished_trials}
    assert {event.number for event in seen if isinstance(event, ExampleScored)} <= begun
    assert isinstance(seen[-2], StudyFinished)
    assert {trial.number: trial for trial in runtime.store.trials(study.name)} == ended


@every_optimizer
def test_its_result_is_a_program_that_runs_alone(name):
    """The program answers without any configuration, on the model it was scored with."""
    program = begin(name, trainset=TRIAGE.train[:10], valset=TRIAGE.dev[:6]).wait().program
    assert any(answers(program, each) for each in TRIAGE.test[:6])
    assert all(each.lm is not None for each in program.predictors())


def answers(program, example) -> bool:
    """Whether a simulated model answers so that it can be read, which it now and then does not."""
    try:
        return bool(program(message=example.message).label)
    except AdapterParseError:
        return False


def test_every_evaluation_lands_in_the_ledger():
    """What DSPy's own evaluations scored is there row by row: each candidate of a random search on each example."""
    study = begin("bootstrap_rs").wait()
    compiled = study.compiled.candidate_programs
    by_program = study.scores.groupby("program")["score"].agg(["mean", "count"])
    whole = by_program[by_program["count"] == 20]["mean"].round(4)
    for candidate in compiled:
        assert round(candidate["score"] / 100, 4) in set(whole)


def test_candidates_keep_what_they_said(runtime):
    """Instructions and demonstrations of every program are there, with the program it came from."""
    study = begin("miprov2").wait()
    candidates = {each.key: each for each in study.candidates}
    assert len(candidates) >= 3
    assert {each.number for each in candidates.values()} <= {trial.number for trial in study.finished_trials}
    assert any(each.n_demos for each in candidates.values())
    assert len({each.instructions["self"] for each in candidates.values()}) >= 2
    first = min(candidates.values(), key=lambda each: each.number)
    assert first.parent is None
    assert all(each.parent in candidates for each in candidates.values() if each is not first)
    assert {each.key for each in runtime.store.candidates(study.name)} == set(candidates)


def test_what_it_asks_beside_running_programs_is_paid_for():
    """The model that proposes instructions is in the bill, beside the rows."""
    study = begin("gepa").wait()
    rows = sum(score.usage.calls for score in study._ledger.rows())
    assert study.usage.calls > rows > 0


def test_bootstrap_truly_gains():
    """With a better teacher the program gains at least 10 points by the sandbox's own truth."""
    study = begin("bootstrap", seed=1).wait()
    before = dspy.Predict(SIGNATURE.to_dspy())
    before.lm = session.current().lm("sandbox/small")
    gain = dx.sandbox.expected_score(study.program, TRIAGE.test) - dx.sandbox.expected_score(
        before, TRIAGE.test
    )
    assert gain > 0.1


def test_simba_gains_on_a_seeded_task():
    """SIMBA's program is at least 10 points better by the sandbox's own truth."""
    optimizer = optimizers.Simba(max_steps=4, bsize=16, num_candidates=4, prompt_model="sandbox/large")
    study = begin(trainset=TRIAGE.train[:64], valset=None, optimizer=optimizer).wait()
    before = dspy.Predict(SIGNATURE.to_dspy())
    before.lm = session.current().lm("sandbox/small")
    after = dx.sandbox.expected_score(study.program, TRIAGE.test)
    assert after > dx.sandbox.expected_score(before, TRIAGE.test) + 0.1


@pytest.mark.parametrize("name", ["simba", "miprov2", "gepa", "bootstrap_optuna"])
def test_one_seed_is_one_program(name):
    """The same seed gives the same program, in a store of its own."""
    one = begin(name, seed=3).wait()
    session.configure(dx.sandbox.MODELS, store="memory")
    two = begin(name, seed=3).wait()
    assert text_of(one.program) == text_of(two.program)
    assert one.usage.calls == two.usage.calls > 0
    assert {each.key for each in one.candidates} == {each.key for each in two.candidates}


# ── cancelled ───────────────────────────────────────────────────────────────────────────────────


@every_optimizer
def test_cancel_takes_less_than_half_a_second_and_keeps_the_best(runtime, name):
    """Also while something hangs: the study ends, and the best program so far is there."""
    door = Door(closed_at=3)
    study = begin(name, metric=door)
    assert door.reached.wait(60)
    began = time.perf_counter()
    study.cancel()
    took = time.perf_counter() - began
    door.open.set()
    assert took < 0.5
    assert study.is_done
    assert study.state == "cancelled"
    if study.finished_trials and study._best() is not None:
        assert study.program.predictors()
    assert runtime.runs().loc[study.name, "state"] == "cancelled"


# ── resumed ─────────────────────────────────────────────────────────────────────────────────────


@every_optimizer
def test_a_resumed_run_pays_only_for_what_is_missing(name):
    """Cancelled in the middle and resumed: the program of an uninterrupted run, each call paid once."""
    session.configure(dx.sandbox.MODELS, store="memory", workers=1)
    whole = begin(name, metric=Door(10**9)).wait()
    session.configure(dx.sandbox.MODELS, store="memory", workers=1)
    door = Door(closed_at=max(2, whole.definition.metric.calls // 2))
    part = begin(name, metric=door, name="mine")
    assert door.reached.wait(60)
    part.cancel()
    door.open.set()
    for thread in threading.enumerate():
        if thread.name == "dspex-compile-mine":
            thread.join(10)
    part.wait(30)
    paid = part.usage.calls
    rest = begin(name, metric=Door(10**9), name="mine", resume=True).wait()
    assert text_of(rest.program) == text_of(whole.program)
    assert rest.best.score == whole.best.score
    assert rest.usage.calls == whole.usage.calls
    assert paid < whole.usage.calls or whole.usage.calls == 0


# ── budgets ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("budget", "reason"),
    [
        (dx.Budget(trials=3), "3 trials done"),
        (dx.Budget(calls=150), "150 calls are made or set aside"),
        (dx.Budget(tokens=30_000), "30000 tokens are used or set aside"),
        (dx.Budget(usd=0.004), "$0.004 are spent or set aside"),
        (dx.Budget(patience=2), "no gain in 2 trials"),
    ],
)
def test_budgets_hold(budget, reason):
    """Each limit ends the optimizer, and the comparison in the end is still paid from what was set aside."""
    study = begin("bootstrap_rs", optimizer="bootstrap_rs", budget=budget).wait()
    assert study.state == "finished"
    assert study.reason.startswith(reason)
    assert study.best.phase == "final"
    assert study.compiled is None
    used = study.usage
    assert used.calls <= (budget.calls or 10**9) + 20
    assert used.tokens_in + used.tokens_out <= (budget.tokens or 10**9) * 1.2
    assert used.cost_usd <= (budget.usd or 10**9) * 1.2
    searched = [trial for trial in study.finished_trials if trial.phase == "search"]
    assert len(searched) <= (budget.trials or 10**9) + 1


def test_a_budget_of_seconds_holds_while_everything_hangs():
    """Time that is over ends the optimizer although nobody answers; what was seen stays."""
    door = Door(closed_at=3)
    study = begin("bootstrap_rs", metric=door, budget=dx.Budget(seconds=0.3))
    while not study.reason and not study._work.reason:
        door.reached.wait(0.05)
    door.open.set()
    assert study.wait(30).reason.startswith("0.3 s are over")


# ── several at once, and others' output ─────────────────────────────────────────────────────────


def test_several_run_at_once():
    """Three optimizers in one process do not mix up their programs, rows or models."""
    names = ("bootstrap_rs", "miprov2", "copro")
    alone = {}
    for name in names:
        session.configure(dx.sandbox.MODELS, store="memory")
        alone[name] = text_of(begin(name).wait().program)
    session.configure(dx.sandbox.MODELS, store="memory")
    together = {name: begin(name) for name in names}
    assert {name: text_of(study.wait().program) for name, study in together.items()} == alone


@pytest.mark.parametrize("name", ["simba", "miprov2", "gepa", "bootstrap_rs", "bootstrap_optuna"])
def test_nothing_is_printed(capfd, name):
    """No line, bar or log of DSPy's reaches the user's output."""
    begin(name).wait()
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")


def test_the_users_progress_bars_and_cache_stay():
    """DSPy clears every bar there is, and a study stands in for its cache: neither is felt outside."""
    import tqdm

    cache = dspy.cache
    bar = tqdm.tqdm(total=3, disable=False, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115  # a sink
    try:
        begin("bootstrap_rs").wait()
        assert bar in tqdm.tqdm._instances
    finally:
        bar.close()
        bar.fp.close()
    assert dspy.cache is cache


# ── what they stumble over ──────────────────────────────────────────────────────────────────────


def test_an_unknown_option_names_the_nearest():
    """DSPy's own options are known before anything runs."""
    with pytest.raises(UnknownNameError, match="did you mean 'max_steps'"):
        optimizers.Simba(max_step=3)


def test_a_search_without_a_space_is_refused():
    """Only DSPy's optimizers have something to vary without a space."""
    with pytest.raises(DataError, match="beacon needs a space to search, got none"):
        begin(optimizer="beacon")


class Two(dspy.Module):
    """Two predictors in a row."""

    def __init__(self):
        super().__init__()
        self.first = dspy.Predict("message -> summary")
        self.second = dspy.Predict(SIGNATURE.to_dspy())

    def forward(self, message):
        self.first(message=message)
        return self.second(message=message)


def test_simba_refuses_a_program_on_several_models():
    """It samples with one model; the error names what can be used instead."""
    program = Two()
    program.first.lm, program.second.lm = dx.lm("sandbox/small"), dx.lm("sandbox/large")
    with pytest.raises(DefinitionError, match="SIMBA samples with one model") as caught:
        dx.optimize(program, trainset=TRIAGE.train[:10], metric=TRIAGE.metric, optimizer="simba")
    assert "miprov2" in caught.value.hint


def test_simba_gives_demonstrations_to_both_predictors():
    """A program of two predictors on one model is SIMBA's, and both get demonstrations."""
    program = Two()
    program.set_lm(dx.lm("sandbox/small"))
    optimizer = optimizers.Simba(max_steps=3, bsize=8, num_candidates=3)
    study = dx.optimize(program, trainset=TRIAGE.train[:24], metric=TRIAGE.metric, optimizer=optimizer).wait()
    assert any(each.demos["first"] and each.demos["second"] for each in study.candidates)
    assert [each.lm.model for each in study.program.predictors()] == ["sandbox/small"] * 2


def test_simba_lowers_a_batch_that_is_too_large():
    """A trainset below the batch size is used whole, and the study says so."""
    study = begin(trainset=TRIAGE.train[:6], optimizer=optimizers.Simba(max_steps=1, num_candidates=2)).wait()
    assert study.notices == ("bsize was lowered from 32 to 6: the trainset has no more examples",)
    assert "bsize was lowered" in study.reason


def test_simbas_softmax_does_not_overflow():
    """A temperature that is too low is raised, and the study says so."""
    optimizer = optimizers.Simba(max_steps=1, bsize=4, num_candidates=2, temperature_for_sampling=1e-6)
    study = begin(optimizer=optimizer).wait()
    assert study.state == "finished"
    assert study.notices[0].startswith("temperature_for_sampling was raised from 1e-06 to 0.002")


def test_simba_refuses_scores_that_its_softmax_cannot_take():
    """The rule, the value and what to do, instead of weights that are not finite."""
    study = begin("simba", metric=lambda example, prediction: 1e6)
    with pytest.raises(ExecutionError, match="SIMBA handles scores up to 120 at this temperature"):
        study.wait()


@pytest.mark.parametrize("name", ["simba", "gepa", "bootstrap", "labeled", "copro"])
def test_a_trainset_of_one_works(name):
    """One example is enough to run, though not to learn much."""
    assert begin(name, trainset=TRIAGE.train[:1]).wait().state == "finished"


def test_a_trainset_of_one_without_a_valset_is_too_small_for_miprov2():
    """It has to split it; the error says what it needs."""
    with pytest.raises(ExecutionError, match="MIPROv2 needs examples to learn from and others to score"):
        begin("miprov2", trainset=TRIAGE.train[:1], valset=None).wait()


def five(gold, pred, trace, pred_name, pred_trace):
    """Score as GEPA's strict metrics do."""
    return dspy.Prediction(score=float(gold.label == pred.label), feedback=f"It is {gold.label}.")


@pytest.mark.parametrize("metric", [five, lambda example, prediction: example.label == prediction.label])
def test_gepa_takes_metrics_of_two_and_of_five_arguments(metric):
    """Either is called right everywhere: no score is silently 0."""
    study = begin("gepa", metric=dx.metrics.as_gepa(metric)).wait()
    assert study.state == "finished"
    assert not study.scores["error"].dropna().str.contains("TypeError").any()
    assert study.scores["score"].mean() > 0.2
    assert study.scores["feedback"].dropna().str.len().min() > 0


def test_a_metric_that_raises_is_a_data_point():
    """Its traceback is in the ledger, and the optimizer goes on."""
    broken = TRIAGE.train[3].message

    def metric(example, prediction, trace=None):
        if example.message == broken and threading.current_thread() is not threading.main_thread():
            raise LookupError("no such thing")
        return float(example.label == prediction.label)

    study = begin("simba", metric=metric).wait()
    failed = study.scores.dropna(subset="error")
    assert len(failed) > 0
    assert failed["error"].str.contains("LookupError: no such thing").all()


def test_a_model_that_fails_now_and_then_is_a_data_point():
    """Rate limits score 0 with their reason; the optimizer ends as usual."""
    flaky = dx.sandbox.lm("small", faults=dx.sandbox.Faults(rate_limit=0.3))
    program = dspy.Predict(SIGNATURE.to_dspy())
    program.lm = flaky
    study = dx.optimize(
        program, trainset=TRIAGE.train[:20], metric=TRIAGE.metric, optimizer=EVERY["bootstrap_rs"]()
    ).wait()
    assert study.state == "finished"
    assert study.scores["error"].dropna().str.contains("RateLimit").all()
    assert study.scores["error"].notna().sum() > 5


def test_a_model_that_always_fails_ends_the_study_at_once():
    """Ten failures and nothing else are an error with the model's own words."""
    dead = dx.sandbox.lm("small", faults=dx.sandbox.Faults(rate_limit=1.0))
    program = dspy.Predict(SIGNATURE.to_dspy())
    program.lm = dead
    study = dx.optimize(program, trainset=TRIAGE.train[:20], metric=TRIAGE.metric, optimizer=EVERY["copro"]())
    with pytest.raises(ExecutionError, match="RateLimit"):
        study.wait()


# ── BootstrapFewShot ────────────────────────────────────────────────────────────────────────────


def test_bootstrap_stops_once_it_has_enough():
    """Of fifty examples it tries only as many as four demonstrations need."""
    study = begin(
        trainset=TRIAGE.train[:50],
        optimizer=optimizers.BootstrapFewShot(max_labeled_demos=0, teacher_settings=LARGE),
    ).wait()
    (teacher,) = [trial for trial in study.finished_trials if trial.phase == "bootstrap"]
    assert 4 <= teacher.n_examples < 12
    assert len(study.compiled.demos) == 4
    assert all(demo.augmented for demo in study.compiled.demos)


def test_bootstrap_fills_up_with_labelled_examples():
    """Bootstrapped ones first, then examples as they are, none twice."""
    optimizer = optimizers.BootstrapFewShot(
        max_bootstrapped_demos=2, max_labeled_demos=6, teacher_settings=LARGE
    )
    demos = begin(optimizer=optimizer).wait().compiled.demos
    assert [bool(demo.get("augmented")) for demo in demos] == [True] * 2 + [False] * 4
    assert len({demo.message for demo in demos}) == 6


def test_a_teacher_never_sees_the_example_it_is_tried_on():
    """Neither as a labelled example nor as a demonstration that was made of it before."""
    shown = []

    class Teacher(dspy.Predict):
        def forward(self, **inputs):
            shown.append((inputs["message"], {demo["message"] for demo in self.demos}))
            return super().forward(**inputs)

    teacher = Teacher(SIGNATURE.to_dspy())
    teacher.demos = [
        dspy.Example(augmented=True, message=each.message, label=each.label) for each in TRIAGE.train[:8]
    ]
    teacher._compiled = True
    optimizer = optimizers.BootstrapFewShot(teacher=teacher, max_bootstrapped_demos=8)
    begin(trainset=TRIAGE.train[:8], optimizer=optimizer).wait()
    assert len(shown) == 8
    assert all(own not in demos and len(demos) == 7 for own, demos in shown)


def test_an_empty_bootstrap_says_why():
    """No answer reached the threshold: the reason tells how many were tried and how good the best was."""
    optimizer = optimizers.BootstrapFewShot(metric_threshold=2.0, max_labeled_demos=0)
    study = begin(optimizer=optimizer).wait()
    assert "no demonstration was bootstrapped from 20 attempts" in study.reason
    assert "20 scored less than a score of 2, the best 1" in study.reason
    assert study.best.score == study.baseline.score


def test_a_teacher_that_always_fails_says_so():
    """Its error is in the reason; a handful of failures end the study, many would be paid for in vain."""
    dead = dx.sandbox.lm("small", faults=dx.sandbox.Faults(rate_limit=1.0))
    optimizer = optimizers.BootstrapFewShot(teacher_settings={"lm": dead}, max_labeled_demos=0)
    study = begin(trainset=TRIAGE.train[:5], optimizer=optimizer).wait()
    assert "no demonstration was bootstrapped from 5 attempts, 5 failed (" in study.reason
    assert "RateLimit" in study.reason
    with pytest.raises(ExecutionError, match="the teacher failed on each of the first 10 examples"):
        begin(optimizer=optimizer).wait()


def test_the_result_is_not_scored_on_what_it_shows():
    """Without a valset, examples that became demonstrations are left out of the comparison."""
    study = begin("labeled", valset=None).wait()
    assert study.best.n_examples == study.baseline.n_examples == 20 - 4
