"""How a study's report looks: one card, right in light and dark, that also stands alone as a page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dspex.notebook import html
from dspex.notebook.plots.programs import heatmap_svg, lineage_html

if TYPE_CHECKING:
    from dspex.optimizers.report import Report

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="color-scheme" content="light dark">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title>
<style>body{{margin:24px auto;max-width:960px;padding:0 16px}}</style></head><body>{body}</body></html>
"""


def page(report: Report) -> str:
    """Draw a report as a whole page that needs no network."""
    return _PAGE.format(title=html.text(report.name), body=report_html(report))


def report_html(report: Report) -> str:
    """Draw a report."""
    marks = [*(["simulated"] if report.is_simulated else []), *report.tags]
    parts: list[Any] = [
        html.Raw(" ".join([html.strong(report.name), *map(html.badge, marks)])),
        html.strong(report.conclusion),
    ]
    if report.caution is not None:
        parts.append(html.muted(report.caution))
    parts += [_comparison(report), _facts(report), _best(report), _importance(report)]
    parts.append(_heading("Scores by example"))
    parts.append(html.Raw(heatmap_svg(report.heatmap)))
    parts.append(html.details("where it came from", html.Raw(lineage_html(report.lineage))))
    parts.append(html.details(f"all {len(report.trials)} trials", _trials(report)))
    parts += [html.muted(notice) for notice in report.notices]
    parts.append(html.muted(", ".join(f"{name} {each}" for name, each in report.versions.items())))
    return html.card(*parts)


def _heading(title: str) -> html.Raw:
    return html.Raw(f'<div style="margin-top:12px">{html.strong(title)}</div>')


def _comparison(report: Report) -> html.Raw:
    found = report.comparison
    if found is None:
        return html.Raw("")
    return html.table(
        ("", "score", "n", "difference", "95 % interval", "p", "effect d"),
        [
            (found.first, html.bar(found.first_score), found.n, f"{found.difference:+.3f}",
             f"[{found.low:+.3f}, {found.high:+.3f}]", f"{found.p_value:.3g}", f"{found.effect:.2f}"),
            (found.second, html.bar(found.second_score), found.n, "", "", "", ""),
        ],
    )  # fmt: skip


def _facts(report: Report) -> html.Raw:
    rows = [(html.muted(name), text) for name, text in report.facts.items()]
    if report.expected is not None:
        rows.append((html.muted("best"), report.expected))
    return html.table(("study", ""), rows)


def _best(report: Report) -> html.Raw:
    best = {name: html.code(value) for name, value in report.best.items()}
    if report.space:
        rows = [
            (name, best.get(name, ""), html.muted(default), html.muted(values))
            for name, values, default in report.space
        ]
        drawn = html.table(("variable", "best", "default", "searched"), rows)
    else:
        drawn = html.table(("variable", "best"), best.items())
    return html.Raw(_heading("Best configuration") + drawn)


def _importance(report: Report) -> html.Raw:
    if report.importance is None:
        return html.Raw("")
    rows = [(name, html.bar(share)) for name, share in report.importance["importance"].items()]
    rows += [(html.muted(f"{first} with {second}"), html.bar(share)) for first, second, share in report.pairs]
    return html.Raw(
        _heading("What mattered") + html.table(("variable", "share of the differences in score"), rows)
    )


def _trials(report: Report) -> html.Raw:
    frame = report.trials.reset_index()
    rows = [
        [f"{value:.4g}" if isinstance(value, float) else value for value in row]
        for row in frame.itertuples(index=False)
    ]
    return html.table(list(frame.columns), rows)
