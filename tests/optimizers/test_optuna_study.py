"""A study as Optuna's: its trials, its best, and its importances."""

from __future__ import annotations

import optuna
import pytest


def test_trials_are_optunas(experiment):
    """Each trial of the search is there with its score, and the best is the best."""
    found = experiment.to_optuna()
    searched = [trial for trial in experiment.finished_trials if trial.phase == "search"]
    assert [trial.value for trial in found.trials] == [trial.score for trial in searched]
    assert found.best_value == max(trial.score for trial in searched)
    counts = {trial.number: trial.n_examples for trial in searched}
    assert found.best_trial.user_attrs["n_examples"] == counts[found.best_trial.number]
    assert found.best_params["model"].startswith("sandbox/")


def test_optuna_can_work_with_them(experiment):
    """Its importances are computed, and its figures drawn."""
    shares = optuna.importance.get_param_importances(
        experiment.to_optuna(), evaluator=optuna.importance.PedAnovaImportanceEvaluator()
    )
    assert set(shares) == {"temperature", "model", "module", "demos"}
    pytest.importorskip("plotly")
    figure = optuna.visualization.plot_optimization_history(experiment.to_optuna())
    assert len(figure.data[0].x) == len(experiment.to_optuna().trials)


def test_programs_of_dspys_optimizers_are_trials_too(compiled):
    """Their parameters are the instructions and how many demonstrations there are."""
    found = compiled.to_optuna()
    assert set(found.best_params) == {"instructions", "demos"}
    assert len(found.trials) == sum(trial.phase == "search" for trial in compiled.finished_trials)
