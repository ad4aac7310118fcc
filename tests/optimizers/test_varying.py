"""SIMBA over variables: configurations beside demonstrations and rules, in DSPy's own loop."""

from __future__ import annotations

import random

import dspy
import numpy as np
import pytest
from spaces import SIGNATURE, TRIAGE

import dspex as dx
from dspex import optimizers
from dspex.bridge import identity, varying
from dspex.optimizers.varying import changed

pytestmark = pytest.mark.usefixtures("runtime")

SPACE = dx.Space(
    temperature=dx.Float(0.0, 1.5, default=0.7),
    model=dx.Model(list(dx.sandbox.MODELS)),
    module=dx.Module(["Predict", "ChainOfThought"]),
    adapter=dx.Adapter(["chat", "json"]),
)


def begin(**changes):
    given = {
        "space": SPACE,
        "trainset": TRIAGE.train[:40],
        "metric": TRIAGE.metric,
        "optimizer": optimizers.Simba(max_steps=4, bsize=16, num_candidates=4, prompt_model="sandbox/large"),
        **changes,
    }
    return dx.optimize(SIGNATURE, **given)


class TwoSteps(dspy.Module):
    def __init__(self):
        super().__init__()
        self.first = dspy.Predict(SIGNATURE.to_dspy())
        self.second = dspy.Predict("message, hint -> label")

    def forward(self, message):
        return self.second(message=message, hint=self.first(message=message).label)


class TestChanging:
    """A variable changes by its type."""

    def moved(self, name, n=40):
        rng = random.Random(0)
        return [changed(SPACE, [name], SPACE.default(), None, rng)[name] for _ in range(n)]

    def test_numbers_step_and_labels_become_another(self):
        """A number stays in its range and near; a module, a model and an adapter are never the one before."""
        temperatures = self.moved("temperature")
        assert all(0.0 <= each <= 1.5 for each in temperatures)
        assert len(set(temperatures)) > 10
        assert sum(abs(each - 0.7) < 0.6 for each in temperatures) > 30
        assert set(self.moved("module")) == {"ChainOfThought"}
        assert set(self.moved("model")) == set(dx.sandbox.MODELS) - {SPACE.default()["model"]}
        assert set(self.moved("adapter")) == {"json"}

    def test_whole_numbers_stay_whole(self):
        """An integer steps to another one on its grid."""
        space, rng = dx.Space(n=dx.Int(0, 8, step=2, default=4)), random.Random(1)
        found = {changed(space, ["n"], space.default(), None, rng)["n"] for _ in range(40)}
        assert found <= {0, 2, 6, 8}
        assert len(found) > 1

    def test_a_better_trajectory_passes_its_configuration_on(self):
        """About every second time it is taken over as it is; otherwise one variable is changed."""
        better = {**SPACE.default(), "model": "sandbox/large", "module": "ChainOfThought"}
        rng = random.Random(0)
        found = [changed(SPACE, list(SPACE), SPACE.default(), better, rng) for _ in range(100)]
        assert 35 < found.count(better) < 65

    def test_constraints_hold(self):
        """What breaks one is drawn again."""
        space = dx.Space(a=dx.Int(0, 3, default=0), b=dx.Int(0, 3, default=3), constraints=["a <= b"])
        rng = random.Random(0)
        at = space.default()
        for _ in range(60):
            at = changed(space, ["a", "b"], at, None, rng)
            assert at["a"] <= at["b"]


class TestRunning:
    """DSPy's SIMBA runs whole, its candidates on configurations of their own."""

    def test_it_searches_configurations_and_texts_together(self):
        """Trials differ in numbers, labels and texts, and the result is truly better than prompts alone make it."""
        study = begin().wait()
        trials = study.trials[study.trials["phase"] == "search"]
        assert trials["temperature"].nunique() > 1
        assert trials["model"].nunique() > 1
        assert trials["module"].nunique() > 1
        assert trials["demos"].max() > 0
        assert trials["instructions"].nunique() > 1
        alone = begin(space=None).wait()
        score = dx.sandbox.expected_score(study.program, TRIAGE.test)
        assert score > dx.sandbox.expected_score(alone.program, TRIAGE.test) + 0.1

    def test_it_is_never_worse_than_the_student(self):
        """The result, the best seen and the default are compared on every example."""
        study = begin(optimizer=optimizers.Simba(max_steps=1, bsize=8, num_candidates=2)).wait()
        finals = [trial for trial in study.finished_trials if trial.phase == "final"]
        assert study.best.score == max(trial.score for trial in finals)
        assert study.baseline in finals
        assert study.baseline.configuration["temperature"] == 0.7

    def test_the_program_runs_the_best_configuration_alone(self):
        """What a study returns is tied to the model, the temperature and the module that its best trial names."""
        study = begin().wait()
        best = study.best.configuration
        predictor = study.program.predictors()[0]
        assert predictor.lm.model == best["model"]
        assert predictor.lm.kwargs["temperature"] == best["temperature"]
        assert type(study.program).__name__ == best["module"]
        assert study.program(message=TRIAGE.test[0].message).label

    def test_its_rows_are_those_of_a_search(self):
        """A configuration that SIMBA has evaluated costs a search in the same store nothing."""
        optimizer = optimizers.Simba(max_steps=1, bsize=8, num_candidates=2)
        simba = begin(optimizer=optimizer, valset=TRIAGE.dev[:20]).wait()
        search = dx.optimize(
            SIGNATURE,
            space=SPACE,
            trainset=TRIAGE.train[:40],
            valset=TRIAGE.dev[:20],
            metric=TRIAGE.metric,
            optimizer="random",
            budget=dx.Budget(trials=1),
        ).wait()
        assert simba.usage.calls > 0
        assert search.usage.calls == 0
        assert search.baseline.score == simba.baseline.score

    def test_both_predictors_get_demonstrations(self):
        """A program of two predictors: both have demonstrations, and both run the configuration."""
        space = dx.Space({"temperature": SPACE["temperature"], "first.module": SPACE["module"]})
        optimizer = optimizers.Simba(max_steps=4, bsize=8, num_candidates=4, prompt_model="sandbox/large")
        study = dx.optimize(
            TwoSteps(),
            space=space,
            trainset=TRIAGE.train[:24],
            metric=lambda example, prediction, trace=None: prediction.label == example.label,
            optimizer=optimizer,
        ).wait()
        shown = [each for each in study.candidates if each.n_demos]
        assert any(all(each.demos.values()) for each in shown)
        modules = {trial.configuration["first.module"] for trial in study.finished_trials}
        assert modules == {"Predict", "ChainOfThought"}
        assert len(study.program.predictors()) == 2

    def test_a_program_on_several_models_is_sampled_with_each(self):
        """Every predictor keeps to its own variable's model, also while trajectories are sampled."""
        models = dx.Model(["sandbox/small", "sandbox/large"])
        space = dx.Space({"first.model": models, "second.temperature": SPACE["temperature"]})
        study = dx.optimize(
            TwoSteps(),
            space=space,
            trainset=TRIAGE.train[:16],
            metric=TRIAGE.metric,
            optimizer=optimizers.Simba(max_steps=4, bsize=8, num_candidates=4),
        ).wait()
        assert {trial.configuration["first.model"] for trial in study.finished_trials} == {
            "sandbox/small",
            "sandbox/large",
        }
        first, second = study.program.predictors()
        assert first.lm.model == study.best.configuration["first.model"]
        assert second.lm.kwargs["temperature"] == study.best.configuration["second.temperature"]

    def test_a_registry_is_leased_and_adopts_the_best(self):
        """SIMBA begins with the registry's values, nobody writes meanwhile, and texts are not written back."""
        registry = dx.Registry(SPACE)
        registry["temperature"] = 0.3
        study = begin(space=registry).wait()
        assert study.baseline.configuration["temperature"] == 0.3
        assert "instructions" in study.best.configuration
        registry.adopt(study)
        assert dict(registry) == {name: study.best.configuration[name] for name in SPACE}

    def test_a_resumed_run_pays_for_nothing_twice(self):
        """Run to its end and resumed: the same program, and not one call more."""
        study = begin(name="mine").wait()
        again = begin(name="mine", resume=True).wait()
        assert again.best.configuration == study.best.configuration
        assert again.usage.calls == study.usage.calls

    def test_one_seed_is_one_search(self):
        """The same seed gives the same programs, in a store of its own."""
        one = begin(seed=2).wait()
        dx.configure(dx.sandbox.MODELS, store="memory")
        two = begin(seed=2).wait()
        assert {each.key for each in one.candidates} == {each.key for each in two.candidates}
        assert one.usage.calls == two.usage.calls
        assert one.best.configuration == two.best.configuration


def test_buckets_are_ordered_as_dspys(monkeypatch):
    """The strategies meet buckets by the gap from best to worst, then the best, then the gap to the mean."""
    met = []

    def noting(own, change):
        def note(bucket, system, **given):
            scores = [each["score"] for each in bucket]
            met.append((max(scores) - min(scores), max(scores), max(scores) - sum(scores) / len(scores)))
            return True

        return [note]

    monkeypatch.setattr(varying, "strategies", noting)
    begin(optimizer=optimizers.Simba(max_steps=1, bsize=16, num_candidates=6)).wait()
    assert len(met) == 7
    assert met == sorted(met, reverse=True)
    assert len(set(met)) > 1


class TestRetelling:
    """What a program says goes with it when its modules are others."""

    def test_instructions_and_demonstrations_pass_between_modules(self):
        """From a Predict to a ChainOfThought and back: the rules stay, reasoning comes and goes."""
        predict, thought = dspy.Predict("question -> answer"), dspy.ChainOfThought("question -> answer")
        predict.signature = predict.signature.with_instructions("Be brief.")
        predict.demos = [dspy.Example(question="1 + 1", answer="2")]
        varying.retold(thought, identity.said_by(predict))
        assert thought.predict.signature.instructions == "Be brief."
        assert "reasoning" in thought.predict.signature.fields
        thought.predict.demos = [dspy.Example(question="1 + 1", reasoning="Count.", answer="2")]
        varying.retold(predict, identity.said_by(thought))
        assert predict.demos == [dspy.Example(question="1 + 1", answer="2")]


def test_every_program_of_a_varied_study_is_found_again(varied):
    """Heatmap, importances, comparison and Optuna's trials know configurations beside texts."""
    drawn = varied.heatmap()
    best = next(trial for trial in drawn.trials if trial.configuration_key == varied.best.configuration_key)
    row = drawn.scores[drawn.trials.index(best)]
    assert np.nanmean(row) == pytest.approx(varied.best.score)
    assert set(varied.importance().index) == set(varied.definition.space)
    assert varied.comparison.n == len(varied.definition.scored)
    params = {name for trial in varied.to_optuna().trials for name in trial.params}
    assert {"model", "module", "instructions", "demos"} <= params
