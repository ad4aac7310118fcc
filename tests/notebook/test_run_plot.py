"""A study's plot: the data it draws, the picture, and the figure."""

from __future__ import annotations

import copy
import dataclasses
import math
import re

import pytest

import dspex as dx
from dspex import sandbox
from dspex.notebook.plots import run
from dspex.notebook.widgets import run_view


@pytest.fixture(scope="module")
def study():
    """Run a small study with finalists: 60 examples, of which the search sees 48."""
    runtime = dx.Runtime(["sandbox/small"], store="memory")
    task = sandbox.task("triage")
    made = runtime.optimize(
        dx.signature(task.signature, task.instructions),
        space=dx.Space(demos=dx.Int(0, 8), temperature=dx.Float(0, 1.5, default=0.7)),
        trainset=task.train[:40],
        valset=task.dev[:60],
        metric=dx.metrics.exact_match,
        budget=dx.Budget(trials=6),
        name="small <study>",
    )
    yield made.wait()
    runtime.close()


@pytest.fixture
def data(study):
    return run.run_data(study)


def test_data_holds_every_trial_and_the_totals(study, data):
    """The data is the study's, number for number."""
    assert [point.score for point in data.points] == [trial.score for trial in study.finished_trials]
    assert data.best.number == study.best.number
    assert data.default_score == study.baseline.score
    assert (data.state, data.planned_trials) == ("finished", 6)
    assert data.cost_usd == pytest.approx(study.usage.cost_usd)
    assert data.variables == ("demos", "temperature")
    assert data.points[0].values == ("0", "0.7")


def test_best_so_far_rises_over_the_search_and_leaves_finalists_out(data):
    """Finalists are scored on other examples, so that they are no part of the line."""
    search = [point for point in data.points if not point.is_final]
    assert len(search) < len(data.points)
    enough = max(point.n_examples for point in search) / 2
    seen = [point.number for point in search if point.n_examples >= enough]
    assert [number for number, _ in data.best_so_far] == seen
    scores = [score for _, score in data.best_so_far]
    assert scores == sorted(scores)
    assert scores[-1] == max(point.score for point in search if point.n_examples >= enough)


def test_only_the_sandbox_is_called_simulated(study):
    """A study is simulated if every model it may ask is, the space's or the program's own."""
    assert run.run_data(study).is_simulated
    other = copy.copy(study)
    other.definition = dataclasses.replace(study.definition, models=["sandbox/small", "openai/gpt-4o-mini"])
    assert not run.run_data(other).is_simulated


def test_picture_shows_every_trial_and_names_its_axes(data):
    """One mark a trial with what it was, both axes named, the default dashed."""
    svg = run.run_svg(data)
    assert svg.count("<title>trial ") == len(data.points)
    assert ">trial</text>" in svg
    assert ">score</text>" in svg
    assert "stroke-dasharray" in svg
    assert "finalist" in svg
    assert "demos=0, temperature=0.7" in svg


def test_card_needs_no_script_and_no_network_and_escapes_names(data):
    """What is saved can be read anywhere: no script, no address, no markup from names."""
    card = run.run_html(data)
    assert "<script" not in card
    assert "http" not in card
    assert "small &lt;study&gt;" in card
    assert "<study>" not in card
    assert "simulated" in card


def test_card_can_be_read_in_both_themes(data):
    """No colour is fixed: each is the text's or the theme's, with a fallback that suits both."""
    card = run.run_html(data)
    fixed = re.findall(r"#[0-9A-Fa-f]{3,8}\b", card)
    fallbacks = re.findall(r"var\(--jp-[a-z0-9-]+, ?#[0-9A-Fa-f]{3,8}\)", card)
    assert len(fixed) == len(fallbacks)
    assert "white" not in card
    assert "black" not in card
    assert "currentColor" in card


def test_no_trials_is_no_picture_and_still_a_card(data):
    """A study that has not scored anything yet can be shown."""
    empty = dataclasses.replace(data, points=(), best=None, default_score=None, state="running")
    assert run.run_svg(empty) == ""
    assert "0 trials" in run.run_html(empty)
    assert "Best configuration" not in run.run_html(empty)


def test_infinite_and_equal_scores_are_drawn_as_well_as_they_can_be(data):
    """A metric may give anything; the axis stays finite."""
    first = data.points[0]
    infinite = dataclasses.replace(first, number=1, score=math.inf, stderr=None)
    odd = dataclasses.replace(data, points=(first, infinite), best=first, default_score=first.score)
    svg = run.run_svg(odd)
    assert svg.count("<title>trial ") == 1
    assert "nan" not in svg
    assert "inf" not in svg.replace("info", "")


def test_text_gives_the_best_configuration(data):
    """Where only text is shown, the result is still there."""
    text = run.run_text(data)
    assert f"best {data.best.score:.3f} in trial {data.best.number}" in text
    assert "best configuration: demos=" in text


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.42, 0.95, [0.5, 0.6, 0.7, 0.8, 0.9]),
        (0, 9, [0, 2, 4, 6, 8]),
        (-3.2, 120.0, [0, 20, 40, 60, 80, 100, 120]),
    ],
)
def test_ticks_are_round_and_inside(low, high, expected):
    """An axis is labelled with numbers that one can read."""
    assert run.ticks(low, high) == expected


def test_a_pause_is_shown(data):
    """What a running study waits for stands in its card, its text, and what a page is sent."""
    waits = "waits for openai/gpt-4o-mini: its breaker is open"
    paused = dataclasses.replace(data, state="running", reason="", pause=waits)
    assert waits in run.run_html(paused)
    assert waits in run.run_text(paused)
    assert run_view.snapshot(paused)["status"]["reason"] == waits
    assert run_view.snapshot(data)["status"]["reason"] == data.reason
