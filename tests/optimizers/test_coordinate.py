"""Several optimizers on one program: shared ledger, budget and space, and every gain attributed."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from spaces import SIGNATURE, SPACE, TRIAGE

import dspex as dx
from dspex import optimizers
from dspex.bridge import identity
from dspex.errors import DataError, ExecutionError, LeaseError, UnknownNameError
from dspex.events import StintFinished, StintStarted, TrialFinished
from dspex.optimizers.coordinate import Coordinate, shares
from dspex.records import Stint, Usage

pytestmark = pytest.mark.usefixtures("runtime")

SIMBA = optimizers.Simba(max_steps=2, bsize=8, num_candidates=3, prompt_model="sandbox/large")
THREE = ["beacon", SIMBA, "bootstrap"]
every_schedule = pytest.mark.parametrize("schedule", ["sequential", "alternating", "parallel"])


def begin(members=THREE, *, schedule="sequential", rounds=2, **changes):
    given = {
        "space": SPACE,
        "trainset": TRIAGE.train[:40],
        "valset": TRIAGE.dev[:24],
        "metric": TRIAGE.metric,
        "optimizer": Coordinate(members, schedule=schedule, rounds=rounds),
        "budget": dx.Budget(calls=600),
        **changes,
    }
    return dx.optimize(SIGNATURE, **given)


def truth(study):
    return dx.sandbox.expected_score(study.program, TRIAGE.test)


class TestRunning:
    """Each schedule from the public call."""

    @every_schedule
    def test_the_result_is_the_best_and_never_worse_than_the_default(self, schedule):
        """The final race compares the default, what each found and the best on the same examples."""
        study = begin(schedule=schedule).wait()
        finals = {trial.configuration_key: trial for trial in study.finished_trials if trial.phase == "final"}
        assert study.best.score == max(trial.score for trial in finals.values())
        assert {trial.n_examples for trial in finals.values()} == {24}
        assert study.baseline.configuration_key in finals
        assert study.best.score > study.baseline.score
        assert study.program(message=TRIAGE.test[0].message).label

    @every_schedule
    def test_the_budget_of_all_is_never_exceeded(self, schedule):
        """Calls are shared out, and those that are under way in the end are set aside."""
        for calls in (80, 250):
            study = begin(schedule=schedule, budget=dx.Budget(calls=calls)).wait()
            assert 24 <= study.usage.calls <= calls
            dx.configure(dx.sandbox.MODELS, store="memory")

    def test_every_gain_is_attributed(self, runtime):
        """Who found what, from which score to which, for how many calls; announced as it happens."""
        seen = []
        runtime.events.subscribe(seen.append)
        study = begin(schedule="alternating").wait()
        gains = study.improvements
        assert gains["from"].iloc[0] == study.baseline.score
        assert gains["to"].iloc[-1] == study.best.score
        assert (gains["from"].iloc[1:].to_numpy() == gains["to"].iloc[:-1].to_numpy()).all()
        assert set(gains["by"]) <= {"beacon", "simba", "bootstrap"}
        assert tuple(event.stint for event in seen if isinstance(event, StintFinished)) == study.stints
        begun = [event.optimizer for event in seen if isinstance(event, StintStarted)]
        assert begun == [turn.optimizer for turn in study.stints]
        live = {event.trial.number for event in seen if isinstance(event, TrialFinished)}
        assert live == {trial.number for trial in study.finished_trials}
        paid = sum(turn.usage.calls for turn in study.stints)
        assert paid <= study.usage.calls <= paid + 24 * (len(study.stints) + 1)

    def test_what_one_finds_is_where_the_next_one_starts(self):
        """Bootstrapped demonstrations and the searched configuration are in one program."""
        study = begin(["beacon", "bootstrap"], budget=dx.Budget(trials=24)).wait()
        predictor = study.program.predictors()[0]
        assert predictor.demos
        assert predictor.lm.model == study.best.configuration["model"]
        assert list(study.improvements["by"]) == ["beacon", "bootstrap"]
        frozen = {trial.configuration["model"] for trial in study.finished_trials if trial.number > 12}
        assert study.best.configuration["model"] in frozen

    def test_what_was_found_at_once_is_joined(self):
        """In parallel one finds a configuration and the other demonstrations; the result has both."""
        space = dx.Space(model=SPACE["model"])
        study = begin(["grid", "bootstrap"], schedule="parallel", rounds=1, space=space).wait()
        assert {turn.before for turn in study.stints} == {study.baseline.score}
        assert study.best.configuration != study.baseline.configuration
        assert study.program.predictors()[0].demos
        assert study.best.score > study.improvements["to"].max()

    def test_texts_alone_need_no_space(self):
        """Without a space two of DSPy's optimizers take turns."""
        study = begin([SIMBA, "bootstrap"], space=None).wait()
        assert study.best.score >= study.baseline.score
        assert {turn.optimizer for turn in study.stints} == {"simba", "bootstrap"}

    def test_a_list_is_enough(self):
        """`optimizer=[...]` is a sequential schedule, named after its optimizers."""
        study = begin(optimizer=["random", "labeled"]).wait()
        assert study.name.startswith("random+labeled-")
        assert [turn.optimizer for turn in study.stints] == ["random", "labeled"]

    def test_without_a_valset_the_examples_are_halved(self):
        """Nobody is scored on examples that another one shows; the study says so."""
        study = begin(["random", "labeled"], valset=None).wait()
        assert "without a valset 20 examples are learnt from and the other 20 score" in study.notices
        assert study.best.n_examples == 20
        assert "the other 20 score" in repr(study)


def test_together_they_are_not_behind_the_best_alone():
    """On a joint space and at the same budget, by the sandbox's own truth on unseen examples."""
    space = dx.Space(
        temperature=SPACE["temperature"],
        model=dx.Model(["sandbox/small", "sandbox/medium"]),
        module=SPACE["module"],
    )
    given = {"space": space, "budget": dx.Budget(calls=700)}
    alone = [truth(begin(optimizer="beacon", **given).wait())]
    alone.append(truth(begin(optimizer=SIMBA, **{**given, "space": None}).wait()))
    alone.append(truth(begin(optimizer="bootstrap", **{**given, "space": None}).wait()))
    assert truth(begin(schedule="alternating", **given).wait()) >= max(alone)


class TestSharing:
    """One ledger: trials of one are visible to the others."""

    def test_a_repeated_configuration_costs_nothing(self):
        """A second search walks the same configurations: not one call to a model, nor to the metric."""
        calls = []

        def metric(example, prediction, trace=None):
            calls.append(example)
            return float(prediction.label == example.label)

        space = dx.Space(module=SPACE["module"], model=SPACE["model"])
        study = begin(["grid", "random"], space=space, metric=metric, budget=dx.Budget(trials=24)).wait()
        first, second = study.stints
        assert first.usage.calls > 0
        assert second.n_trials == first.n_trials == 6
        assert second.usage.calls == 0
        # One trial call of the metric beforehand, on a perfect prediction.
        assert len(calls) == 6 * 24 + 1

    def test_what_dspys_optimizer_scored_a_search_need_not(self):
        """The default, which the first one has scored on every example, is free for the second."""
        study = begin(["labeled", "random"], budget=dx.Budget(trials=4)).wait()
        rows = study.scores
        assert not rows.duplicated(["configuration", "program", "example", "repetition"]).any()

    def test_one_seed_is_one_study(self):
        """The same seed gives the same gains and the same program, in a store of its own."""
        dx.configure(dx.sandbox.MODELS, store="memory", workers=1)
        two = begin(schedule="alternating", seed=4).wait()
        dx.configure(dx.sandbox.MODELS, store="memory", workers=1)
        three = begin(schedule="alternating", seed=4).wait()
        gains = [each.improvements.drop(columns="cost_usd") for each in (two, three)]
        assert gains[0].equals(gains[1])
        assert identity.fingerprint(identity.said_by(two.program)) == identity.fingerprint(
            identity.said_by(three.program)
        )


class TestStopping:
    """Cancelled, preempted, and one of them failing."""

    def test_cancel_keeps_the_best_so_far(self):
        """In the middle of a turn: what was found before it is there."""
        reached, go_on, calls = threading.Event(), threading.Event(), []

        def metric(example, prediction, trace=None):
            calls.append(1)
            if len(calls) > 200:
                reached.set()
                go_on.wait(60)
            return float(prediction.label == example.label)

        study = begin(["random", SIMBA], metric=metric, budget=dx.Budget(trials=40))
        assert reached.wait(60)
        study.cancel()
        go_on.set()
        assert study.is_done
        assert study.state == "cancelled"
        assert study.best.score >= study.baseline.score
        assert study.program.predictors()

    def test_the_second_is_queued_until_the_first_is_killed(self):
        """Two studies on one registry: the second waits, and has the variables when the first is gone."""
        reached, go_on = threading.Event(), threading.Event()

        def metric(example, prediction, trace=None):
            if threading.current_thread() is not threading.main_thread():
                reached.set()
                go_on.wait(60)
            return float(prediction.label == example.label)

        registry = dx.Registry(SPACE, demos=TRIAGE.train[:8])
        first = begin(["random", "labeled"], space=registry, metric=metric)
        assert reached.wait(60)
        second = begin(["random", "labeled"], space=registry, budget=dx.Budget(trials=4))
        assert second.state == "queued"
        with pytest.raises(LeaseError, match="leased by"):
            begin(["random", "labeled"], space=registry, on_conflict="abort")
        first.cancel()
        go_on.set()
        assert second.wait(60).state == "finished"
        assert first.state == "cancelled"

    def test_one_that_fails_leaves_the_others_alone(self):
        """The study says what failed, and the others' result stands."""
        down = dx.sandbox.lm("sandbox/large", faults=dx.sandbox.Faults(outage=1.0), num_retries=0)
        broken = optimizers.BootstrapFewShot(teacher_settings={"lm": down})
        study = begin(["random", broken], budget=dx.Budget(trials=12)).wait()
        assert study.best.score > study.baseline.score
        assert any(notice.startswith("bootstrap failed: the teacher failed") for notice in study.notices)
        assert study.stints[1].reason.startswith("failed: the teacher failed on each of the first")

    def test_nothing_but_failures_fail_the_study(self):
        """If every optimizer fails, so does the study, with the first one's error."""
        down = dx.sandbox.lm("sandbox/large", faults=dx.sandbox.Faults(outage=1.0), num_retries=0)
        broken = optimizers.BootstrapFewShot(teacher_settings={"lm": down})
        study = begin([broken], space=None)
        with pytest.raises(ExecutionError, match="the teacher failed"):
            study.wait()


class TestResuming:
    """A resumed study walks through its turns again."""

    def test_what_was_paid_for_is_not_paid_for_again(self, runtime):
        """Run to its end and resumed: the same gains, and no call to a model."""
        dx.configure(dx.sandbox.MODELS, store="memory", workers=1)
        given = {"schedule": "alternating", "name": "mine", "budget": dx.Budget(trials=40)}
        study = begin(**given).wait()
        seen = []
        answer = dx.sandbox.SimulatedModel.answer
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                dx.sandbox.SimulatedModel, "answer", lambda *given: seen.append(1) or answer(*given)
            )
            again = begin(**given, resume=True).wait()
        assert again.best.score == study.best.score
        assert again.improvements["to"].tolist() == study.improvements["to"].tolist()
        assert not seen


class TestAsAnExperiment:
    """What every study can say about itself, one of several optimizers can too."""

    def test_the_best_is_compared_on_the_holdout(self, several):
        """The rows of the best and of the default are found, and the holdout is no part of the search."""
        held = len(several.definition.holdout)
        assert several.comparison.on == "holdout"
        assert several.comparison.n == held == 7
        assert len(several.example_scores(several.best_program())) == held + len(several.definition.scored)

    def test_every_trial_is_a_row_of_the_heatmap(self, several):
        """Each trial's own program is found by its text; what it scored is its row's mean."""
        drawn = several.heatmap()
        means = np.nanmean(drawn.scores, axis=1)
        assert {trial.configuration_key for trial in drawn.trials} == {
            trial.configuration_key for trial in several.finished_trials if trial.phase != "bootstrap"
        }
        thorough = [k for k, trial in enumerate(drawn.trials) if trial.n_examples == len(drawn.example_keys)]
        assert thorough
        for k in thorough:
            assert means[k] == pytest.approx(drawn.trials[k].score)

    def test_its_lineage_ends_with_the_best(self, several):
        """Each step is scored on every example and is better than its parent."""
        steps = several.lineage().steps
        scores = {step.number: step.score for step in steps}
        assert steps[-1].is_best
        assert {step.n_examples for step in steps} == {len(several.definition.scored)}
        assert all(step.score > scores[step.parent] for step in steps if step.parent is not None)

    def test_importances_and_optuna_know_space_and_texts(self, several):
        """The space's variables are weighed; Optuna's parameters hold the demonstrations too."""
        assert set(several.importance().index) == set(several.definition.space)
        found = several.to_optuna()
        assert set(SPACE) <= {name for trial in found.trials for name in trial.params}
        assert max(trial.params["demos"] for trial in found.trials) > 0

    def test_it_is_reported_and_handed_on(self, several, tmp_path):
        """Report and zip hold both optimizers, with BEACON's options in the plan."""
        assert "beacon+bootstrap" in several.report().markdown
        path = several.export(tmp_path / "several.zip")
        assert optimizers.archive.verify(path).study == several.name
        assert "beacon {'acquisition': \"'ei'\", 'batch': '4'}" in several.definition.identity["plan"]

    def test_a_registry_takes_the_searched_values_alone(self, several):
        """Demonstrations stay with the program."""
        registry = dx.Registry(several.definition.space)
        registry.adopt(several)
        assert {name: several.best.configuration[name] for name in registry} == dict(registry)


class TestDividing:
    """The budget moves to whoever gains."""

    def turn(self, member, gain, calls):
        return Stint("x", member, 1, 0.5, 0.5 + gain, Usage(calls=calls), 1, "")

    def test_more_gain_a_call_is_a_larger_share(self):
        """Nobody falls below three tenths of an even share."""
        found = shares([self.turn(0, 0.3, 100), self.turn(1, 0.0, 100), self.turn(2, 0.1, 100)], 3)
        assert sum(found) == pytest.approx(1)
        assert found[0] > found[2] > found[1] > 0.1

    def test_equal_gains_for_fewer_calls_count_more(self):
        """Gain is divided by calls."""
        dear, cheap = shares([self.turn(0, 0.2, 400), self.turn(1, 0.2, 100)], 2)
        assert cheap > dear

    def test_without_gains_all_have_the_same(self):
        """At the beginning, and when nobody has found anything."""
        assert shares([self.turn(0, 0.0, 100), self.turn(1, 0.0, 500)], 2) == [0.5, 0.5]


class TestDefining:
    """What cannot work is refused before anything runs."""

    @pytest.mark.parametrize(
        ("make", "error", "message"),
        [
            (lambda: Coordinate([]), DataError, "at least one optimizer must be named"),
            (lambda: Coordinate(["simba"], schedule="nested"), UnknownNameError, "'nested'"),
            (lambda: Coordinate(["simba"], rounds=0), DataError, "rounds must be a whole number > 0, got 0"),
            (lambda: Coordinate(["becon"]), UnknownNameError, "did you mean 'beacon'"),
            (lambda: Coordinate(["beacon", "knn"]), DataError, "knn cannot take turns"),
            (lambda: begin(["simba", "bootstrap"]), DataError, "none of simba, bootstrap searches the space"),
            (lambda: begin(["beacon", "simba"], space=None), DataError, "beacon needs a space to search"),
            (
                lambda: begin(["beacon", "simba"], space=dx.Space(demos=dx.Int(0, 4))),
                DataError,
                "beacon has nothing to search: demos is left to the other optimizers",
            ),
            (
                lambda: begin(trainset=TRIAGE.train[:1], valset=None),
                DataError,
                "several optimizers need examples to learn from and others to score",
            ),
        ],
    )
    def test_bad_input_is_refused(self, make, error, message):
        """The rule and the values are said."""
        with pytest.raises(error) as caught:
            make()
        assert message in str(caught.value)

    def test_waves_hold_what_changes_different_things(self):
        """In parallel a search, an optimizer of instructions and one of demonstrations run at once."""
        parallel = Coordinate(["beacon", "copro", "simba", "bootstrap"], schedule="parallel")
        assert parallel.waves() == [[0, 1, 3], [2]]
        assert Coordinate(["beacon", "copro"], schedule="alternating").waves() == [[0], [1]]
