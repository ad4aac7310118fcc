"""The report of a study: its facts, in Markdown and as a page."""

from __future__ import annotations

import pytest
from spaces import SIGNATURE, SPACE, TRIAGE

import dspex as dx
from dspex.errors import DataError


def test_markdown_says_what_was_found(experiment):
    """Conclusion, budget, holdout, best, importances, trials, versions, tags and the badge are there."""
    text = experiment.report().markdown
    assert text.startswith("# experiment (simulated, paper, first)\n\n**best ")
    for part in (
        "on 60 held-out examples",
        "without the luck of the winner",
        "| budget | trials 10 |",
        f"| used | {len(experiment.finished_trials)} trials, ",
        "| seed | 0 |",
        "| model | sandbox/small \\| sandbox/medium \\| sandbox/large | sandbox/small |",
        "## What mattered",
        f"| {experiment.best.number} | {experiment.best.phase} | ",
        "dspy 3.",
    ):
        assert part in text, part


def test_it_is_saved_as_a_page_or_as_text(experiment, tmp_path):
    """The ending decides; a page needs nothing from elsewhere."""
    report = experiment.report()
    assert report.save(tmp_path / "report.md").read_text(encoding="utf-8") == report.markdown
    page = report.save(tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert report.html in page
    assert "http" not in page.replace("http://www.w3.org", "")
    with pytest.raises(DataError, match="a report is"):
        report.save(tmp_path / "report.pdf")


def test_without_a_holdout_it_warns(runtime):
    """What the best was chosen by flatters it; the report says so, and what to do."""
    study = runtime.optimize(
        SIGNATURE,
        space=SPACE,
        trainset=TRIAGE.train,
        valset=TRIAGE.dev[:20],
        metric=dx.metrics.exact_match,
        budget=dx.Budget(trials=2),
    ).wait()
    report = study.report()
    assert "flatters it; dspex.optimize(..., holdout=0.2)" in report.markdown
    assert report.importance is None


def test_dspys_optimizers_have_one_too(compiled):
    """Instructions and demonstrations take the place of variables."""
    report = compiled.report()
    assert report.importance is None
    assert "| optimizer | bootstrap_rs |" in report.markdown
    assert "30 scored, 20 held out" in report.markdown


def test_importances_are_tables(experiment, compiled):
    """What the sandbox plants matters most, shares add up to 1, and a study without a space says so."""
    shares = experiment.importance()
    assert shares.index[0] == "model"
    assert shares["importance"].sum() == pytest.approx(1)
    assert list(experiment.importance(evaluator="ped-anova").index) != []
    assert experiment.interactions().index.names == ["first", "second"]
    with pytest.raises(DataError, match="compiled searched no space"):
        compiled.importance()


def test_tags_are_among_the_runs(runtime):
    """`runs()` shows them, resuming keeps or replaces them, and what is no word is refused."""
    given = {"space": SPACE, "trainset": TRIAGE.train[:20], "metric": dx.metrics.exact_match}
    runtime.optimize(
        SIGNATURE, **given, budget=dx.Budget(trials=1), name="tagged", tags=["a", "b", "a"]
    ).wait()
    assert runtime.runs().loc["tagged", "tags"] == ["a", "b"]
    runtime.optimize(SIGNATURE, **given, name="tagged", resume=True, budget=dx.Budget(trials=1)).wait()
    assert runtime.runs().loc["tagged", "tags"] == ["a", "b"]
    runtime.optimize(
        SIGNATURE, **given, name="tagged", resume=True, tags="c", budget=dx.Budget(trials=1)
    ).wait()
    assert runtime.runs().loc["tagged", "tags"] == ["c"]
    with pytest.raises(DataError, match="tags must be words, got 3"):
        runtime.optimize(SIGNATURE, **given, tags=[3])
