"""The report of a study: what was searched, what was found, how sure that is, and how to get it again."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dspex.errors import DataError
from dspex.optimizers import archive
from dspex.variables import views as space_views

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pandas as pd

    from dspex.optimizers.comparing import Difference
    from dspex.optimizers.experiment import Experiment
    from dspex.optimizers.views import Heatmap, Lineage
    from dspex.variables.space import Space

_DRAWN_BY = "dspex.notebook.reports"
"""Drawing lies above this room, so that it is found by name, when a page is asked for."""

_SHOWN_SHARE = 0.01


@dataclass(frozen=True)
class Report:
    """Everything that a report of a study says, as data; `markdown` and `html` say it in words.

    Attributes
    ----------
    facts
        Name → text: the task, the search, its seed, what it took.
    space
        Variable, values and default, as texts; empty where no space was searched.
    comparison
        None where there is too little to compare.
    importance
        Shares by variable; None where they cannot be told.
    """

    name: str
    tags: tuple[str, ...]
    is_simulated: bool
    facts: Mapping[str, str]
    space: Sequence[tuple[str, str, str]]
    best: Mapping[str, str]
    comparison: Difference | None
    importance: pd.DataFrame | None
    interactions: pd.DataFrame | None
    trials: pd.DataFrame
    heatmap: Heatmap
    lineage: Lineage
    versions: Mapping[str, str]
    notices: tuple[str, ...]

    def __repr__(self) -> str:
        return f"<Report {self.name}: {self.conclusion}>"

    @property
    def conclusion(self) -> str:
        """What was found, in one sentence."""
        return "too little was scored to compare" if self.comparison is None else str(self.comparison)

    @property
    def caution(self) -> str | None:
        """What a reader must know about the numbers, if anything."""
        found = self.comparison
        if found is None:
            return None
        if found.on == "search":
            return (
                "The best was chosen by the very examples it is compared on, which flatters it; "
                "dspex.optimize(..., holdout=0.2) keeps examples for an honest comparison."
            )
        return None

    @property
    def expected(self) -> str | None:
        """What the best of the search will probably score, which is less than it did."""
        found = self.comparison
        if found is None or found.corrected is None:
            return None
        return f"{found.observed:.3f} in the search, {found.corrected:.3f} without the luck of the winner"

    @property
    def pairs(self) -> list[tuple[str, str, float]]:
        """Which variables matter together: both names, and the share; those below 1 % left out."""
        if self.interactions is None:
            return []
        found = self.interactions.reset_index().itertuples(index=False)
        return [(first, second, share) for first, second, share in found if share >= _SHOWN_SHARE]

    @property
    def markdown(self) -> str:
        """The report as Markdown."""
        return "\n".join(_markdown(self))

    @property
    def html(self) -> str:
        """The report as a part of a page, for light and dark themes, without scripts."""
        drawn: str = importlib.import_module(_DRAWN_BY).report_html(self)
        return drawn

    def _repr_markdown_(self) -> str:
        return self.markdown

    def _repr_html_(self) -> str:
        return self.html

    def save(self, path: str | Path) -> Path:
        """Write the report as ``.html``, a whole page, or ``.md``, and return where.

        Raises
        ------
        DataError
            If the file's ending is neither.
        """
        path = Path(path)
        if path.suffix == ".md":
            text = self.markdown
        elif path.suffix == ".html":
            text = importlib.import_module(_DRAWN_BY).page(self)
        else:
            raise DataError(f"a report is .html or .md, got {path.name!r}", hint="report.save('report.html')")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path


def of(study: Experiment) -> Report:
    """Put a study's report together.

    Raises
    ------
    ExecutionError
        If no trial has finished yet.
    """
    what = study.definition
    return Report(
        name=study.name,
        tags=what.tags,
        is_simulated=study.is_simulated,
        facts=_facts(study),
        space=_space(what.space),
        best={name: _shown(value) for name, value in study.best.configuration.items()},
        comparison=_unless_too_little(lambda: study.comparison),
        importance=_unless_too_little(study.importance),
        interactions=_unless_too_little(study.interactions),
        trials=study.trials,
        heatmap=study.heatmap(),
        lineage=study.lineage(),
        versions=archive.versions(),
        notices=study.notices,
    )


def _space(space: Space | None) -> list[tuple[str, str, str]]:
    rows = [] if space is None else space_views.table(space)
    return [(name, values, default) for name, _, values, default, *_ in rows]


def _unless_too_little(ask: Any) -> Any:
    try:
        return ask()
    except DataError:  # said where it would have stood
        return None


def _facts(study: Experiment) -> dict[str, str]:
    what, usage = study.definition, study.usage
    limits = {name: limit for name, limit in vars(what.budget).items() if limit is not None}
    return {
        "state": f"{study.state}: {study.reason}" if study.reason else study.state,
        "program": what.program,
        "optimizer": what.optimizer,
        "metric": str(what.identity["metric"]),
        "models": ", ".join(what.models),
        "examples": f"{len(what.train)} given, {len(what.scored)} scored, {len(what.holdout)} held out",
        "budget": ", ".join(f"{name} {limit:g}" for name, limit in limits.items())
        or "until the optimizer is done",
        "used": f"{len(study.finished_trials)} trials, {usage.calls} calls, "
        f"{usage.tokens_in + usage.tokens_out} tokens, ${usage.cost_usd:.4f}",
        "seed": str(what.seed),
    }


def _markdown(report: Report) -> Iterable[str]:
    marks = [*(["simulated"] if report.is_simulated else []), *report.tags]
    yield f"# {report.name}" + (f" ({', '.join(marks)})" if marks else "")
    yield from ("", f"**{report.conclusion}**", "")
    if report.caution is not None:
        yield from (f"> {report.caution}", "")
    if report.expected is not None:
        yield from (f"Best configuration: {report.expected}.", "")
    yield from _table(("", ""), report.facts.items())
    yield from ("", "## Best configuration", "", *_table(("variable", "value"), report.best.items()))
    if report.space:
        yield from ("", "## Searched", "", *_table(("variable", "values", "default"), report.space))
    if report.importance is not None:
        shares = [(name, f"{share:.0%}") for name, share in report.importance["importance"].items()]
        yield from ("", "## What mattered", "", *_table(("variable", "share of the differences"), shares))
    if report.pairs:
        pairs = [(f"{first} with {second}", f"{share:.0%}") for first, second, share in report.pairs]
        yield from ("", *_table(("together", "share"), pairs))
    shown = report.trials.reset_index()
    yield from (
        "",
        "## Trials",
        "",
        *_table(tuple(shown.columns), (map(_shown, row) for row in shown.itertuples(index=False))),
    )
    if report.notices:
        yield from ("", "## Notices", "", *(f"- {notice}" for notice in report.notices))
    yield from (
        "",
        "## Versions",
        "",
        ", ".join(f"{name} {each}" for name, each in report.versions.items()),
        "",
    )


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _table(header: Sequence[Any], rows: Iterable[Iterable[Any]]) -> Iterable[str]:
    yield f"| {' | '.join(map(_cell, header))} |"
    yield f"|{'---|' * len(header)}"
    for row in rows:
        yield f"| {' | '.join(map(_cell, row))} |"


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
