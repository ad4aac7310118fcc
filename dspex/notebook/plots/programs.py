"""A study's programs: what each scored on each example, and which one came from which."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

from dspex.notebook import html

if TYPE_CHECKING:
    from dspex.optimizers.views import Heatmap, Lineage, Step

_WIDTH, _LEFT, _TOP = 680, 96, 22
_ROW_HEIGHT, _MOST_ROWS = 16, 40
_RIGHT_COLOUR, _WRONG_COLOUR = "#0072B2", "#D55E00"


def heatmap_svg(data: Heatmap) -> str:
    """Draw scores by configuration and example, as a picture that needs no script and fits any theme.

    The colour goes from the lowest score to the highest; what was not scored stays empty. At most the 40 best
    configurations are drawn.
    """
    trials, scores = data.trials[:_MOST_ROWS], data.scores[:_MOST_ROWS]
    if not trials or not data.examples:
        return ""
    seen = [float(value) for row in scores for value in row if math.isfinite(value)]
    low, high = (min(seen), max(seen)) if seen else (0.0, 1.0)
    width = (_WIDTH - _LEFT) / len(data.examples)
    parts = [
        f'<text x="{_LEFT}" y="14">examples, hardest first</text>',
        f'<text x="{_WIDTH}" y="14" text-anchor="end">{_legend(low, high)}</text>',
    ]
    for row, trial in enumerate(trials):
        y = _TOP + row * _ROW_HEIGHT
        parts.append(f'<text x="0" y="{y + 12}">#{trial.number} · {trial.score:.3f}</text>')
        for column, value in enumerate(scores[row]):
            if math.isnan(value):
                continue
            title = f"trial {trial.number}: {value:.3g}\n{data.examples[column]}"
            parts.append(
                f'<rect x="{_LEFT + column * width:.2f}" y="{y}" width="{max(width - 0.5, 0.5):.2f}" '
                f'height="{_ROW_HEIGHT - 1}" {_fill(value, low, high)}><title>{escape(title)}</title></rect>'
            )
    height = _TOP + len(trials) * _ROW_HEIGHT + 2
    label = escape(f"Scores of {data.study} by configuration and example", quote=True)
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" role="img" aria-label="{label}" '
        'style="max-width:100%;height:auto;color:var(--jp-ui-font-color1,currentColor)" '
        f'font-family="system-ui,sans-serif" font-size="11" fill="currentColor">{"".join(parts)}</svg>'
    )


def heatmap_html(data: Heatmap) -> str:
    """Draw a heatmap as a card."""
    left_out = len(data.trials) - _MOST_ROWS
    more = [html.muted(f"{left_out} more configurations are in .to_frame()")] if left_out > 0 else []
    return html.card(html.strong(f"Scores of {data.study} by example"), html.Raw(heatmap_svg(data)), *more)


def lineage_html(data: Lineage) -> str:
    """Draw who came from whom, as an indented tree with what was changed."""
    children: dict[int | None, list[Step]] = {}
    known = {step.number for step in data.steps}
    for step in data.steps:
        children.setdefault(step.parent if step.parent in known else None, []).append(step)
    lines: list[str] = []
    # An own stack: a search may gain more often than Python may recurse.
    waiting = [(step, 0) for step in reversed(children.get(None, []))]
    while waiting:
        step, depth = waiting.pop()
        lines.append(_step(step, depth))
        waiting += [(each, depth + 1) for each in reversed(children.get(step.number, []))]
    return html.card(html.strong(f"Lineage of {data.study}"), *map(html.Raw, lines))


def _step(step: Step, depth: int) -> str:
    head = f"{html.strong(f'#{step.number}')} {html.bar(step.score)} " + html.muted(
        f"{step.n_examples} examples"
    )
    if step.is_best:
        head += f" {html.badge('best')}"
    changes = "".join(f"<div>{_coloured(line)}</div>" for line in step.changes)
    indent = 18 * min(depth, 12)
    return f'<div style="margin:4px 0 4px {indent}px;border-left:2px solid rgba(127,127,127,.4);padding-left:8px">{head}{changes}</div>'


def _coloured(line: str) -> str:
    colour = {"+": _RIGHT_COLOUR, "-": _WRONG_COLOUR}.get(line[:1])
    edge = "" if colour is None else f"border-left:3px solid {colour};padding-left:6px"
    return f'<span style="font-family:var(--jp-code-font-family,monospace);font-size:12px;{edge}">{escape(line)}</span>'


def _fill(value: float, low: float, high: float) -> str:
    share = 1.0 if high <= low else (value - low) / (high - low)
    # The lowest score is its own colour, not an absence: empty means not scored.
    if share == 0:
        return f'fill="{_WRONG_COLOUR}" fill-opacity=".75"'
    return f'fill="{_RIGHT_COLOUR}" fill-opacity="{0.25 + 0.65 * share:.2f}"'


def _legend(low: float, high: float) -> str:
    return f'<tspan fill="{_WRONG_COLOUR}">■</tspan> {low:.3g}  <tspan fill="{_RIGHT_COLOUR}">■</tspan> {high:.3g}'
