"""Data of plots: the heatmap, the lineage, and what happened over time."""

from __future__ import annotations

import numpy as np

from dspex.optimizers.views import changed
from dspex.records import Candidate


def test_the_heatmap_holds_the_trials_scores(experiment):
    """A row's mean is its trial's score; the best is first, the hardest example is first."""
    found = experiment.heatmap()
    means = np.nanmean(found.scores, axis=1)
    assert np.allclose(means, [trial.score for trial in found.trials])
    assert found.trials[0].score == max(trial.score for trial in found.trials)
    assert len(found.trials) == len({trial.configuration_key for trial in experiment.finished_trials})
    full = found.scores[np.isfinite(found.scores).all(axis=1)]
    assert full[:, :10].mean() < full[:, -10:].mean()
    assert found.to_frame().shape == (len(found.trials), 70)


def test_the_heatmap_leaves_out_what_was_held_out(experiment):
    """The columns are the examples that the search scored."""
    messages = {example.message for example in experiment.definition.holdout}
    assert not messages & set(experiment.heatmap().examples)


def test_programs_of_dspys_optimizers_have_rows_too(compiled):
    """Each is found by what it says; none is empty."""
    found = compiled.heatmap()
    assert len(found.trials) >= 3
    assert np.isfinite(found.scores).any(axis=1).all()


def test_the_lineage_of_a_search_ends_at_the_best(experiment):
    """Each gain comes from the one before it and says what moved; the last one is the best."""
    steps = experiment.lineage().steps
    assert steps[0].parent is None
    assert [step.parent for step in steps[1:]] == [step.number for step in steps[:-1]]
    assert [step.is_best for step in steps].count(True) == 1
    assert all("→" in line for step in steps[1:] for line in step.changes)
    assert list(experiment.lineage().to_frame().index) == [step.number for step in steps]


def test_the_lineage_of_candidates_says_what_changed(compiled):
    """The first has the instructions, the others new demonstrations; parents come before children."""
    steps = compiled.lineage().steps
    assert steps[0].changes[0].startswith("+")
    assert all("demos:" in step.changes[-1] for step in steps[1:] if step.changes)
    assert all(step.parent is None or step.parent < step.number for step in steps)


def test_blank_lines_are_no_change():
    """What separates paragraphs of instructions is not shown; what they say is."""
    child = Candidate("child", 1, {"one": "Sort.\n\nBe brief.\n", "two": ""}, {"one": (), "two": ()})
    parent = Candidate("parent", 0, {"one": "Sort.", "two": "\n"}, {"one": (), "two": ()})
    assert changed(parent, child) == ["one:", "+Be brief."]
    assert changed(None, child) == ["one:", "+Sort.", "+Be brief."]


def test_time_runs_forward(experiment):
    """Calls and money add up to the trials' own, and the best so far never falls."""
    found = experiment.trajectory()
    assert found["elapsed_s"].is_monotonic_increasing
    assert found["best_so_far"].dropna().is_monotonic_increasing
    calls = sum(trial.usage.calls for trial in experiment.finished_trials)
    assert found["calls_so_far"].iloc[-1] == calls
    given = experiment.allocation()
    assert given.iloc[-1].sum() == calls
    assert given.columns[0] == experiment.best.configuration_key or given.iloc[-1, 0] > 0
