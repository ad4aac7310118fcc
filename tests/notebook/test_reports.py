"""A report as a page: complete, escaped, and without scripts."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import dspex as dx
from dspex.notebook import reports
from dspex.notebook.plots import programs

TRIAGE = dx.sandbox.task("triage")


@pytest.fixture(scope="module")
def study():
    """Run a small search with a holdout, under a name that needs escaping."""
    runtime = dx.Runtime(["sandbox/small"], store="memory")
    yield runtime.optimize(
        dx.signature(TRIAGE.signature, TRIAGE.instructions),
        space=dx.Space(demos=dx.Int(0, 8), temperature=dx.Float(0, 1.5, default=0.7)),
        trainset=TRIAGE.train[:40],
        valset=TRIAGE.dev[:60],
        metric=dx.metrics.exact_match,
        budget=dx.Budget(trials=6),
        holdout=TRIAGE.test[:20],
        name="a <study>",
        tags=["b<c"],
    ).wait()
    runtime.close()


def test_the_page_says_what_the_data_says(study):
    """Conclusion, facts, best values, importances, heatmap, lineage and every trial are drawn."""
    report = study.report()
    drawn = reports.report_html(report)
    for part in (
        report.conclusion,
        "a &lt;study&gt;",
        "b&lt;c",
        "simulated",
        "What mattered",
        "<svg",
        "all ",
    ):
        assert part in drawn, part
    assert all(text in drawn for text in report.best.values())
    assert drawn.count("<tr>") > len(report.trials)
    assert "<study>" not in drawn
    assert "<script" not in reports.page(report)


def test_without_a_comparison_there_is_no_table_of_one(study):
    """A report of too little says so instead."""
    report = dataclasses.replace(study.report(), comparison=None, importance=None)
    drawn = reports.report_html(report)
    assert "too little was scored to compare" in drawn
    assert "95 % interval" not in drawn
    assert "What mattered" not in drawn


def test_a_notebook_shows_them(shell, study):
    """A report, a heatmap and a lineage are drawn when they are a cell's value."""
    for value, expected in (
        (study.report(), "95 % interval"),
        (study.heatmap(), "hardest first"),
        (study.lineage(), "Lineage of a &lt;study&gt;"),
    ):
        assert expected in shell.display_formatter.format(value)[0]["text/html"]


def test_each_score_is_a_cell(study):
    """What was scored has a rectangle with its trial, score and example; what was not stays empty."""
    data = study.heatmap()
    drawn = programs.heatmap_svg(data)
    assert drawn.count("<rect") == np.isfinite(data.scores).sum()
    assert f"trial {data.trials[0].number}: " in drawn


def test_the_lineage_is_a_tree(study):
    """Each step is there with its changes, the best has its badge, and children are indented."""
    data = study.lineage()
    drawn = programs.lineage_html(data)
    assert drawn.count("padding-left:8px") == len(data.steps)
    assert drawn.count(">best</span>") == 1
    assert "margin:4px 0 4px 18px" in drawn
