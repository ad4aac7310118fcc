"""The learned routing over time: which strategies were chosen, and what each was believed to be worth."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from dspex.orchestrator.insights import Route

# Okabe and Ito's palette: told apart by colour-blind readers too, on white and on black.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
"""Of the best; more than these nobody tells apart."""
OTHERS = "#8c8c8c"
_MAX_POINTS = 300


class Line(NamedTuple):
    """One strategy over time; `execution`, `share` and `utility` have equal lengths."""

    strategy: str
    colour: str
    execution: list[int]
    share: list[float]
    utility: list[float]


def route_lines(route: Route) -> list[Line]:
    """Return one line a strategy, best first, thinned to at most 300 points; all but the best in one grey."""
    lines = []
    for k, strategy in enumerate(route.now.index):
        mine = route.over_time[route.over_time["strategy"] == strategy]
        mine = mine.iloc[:: max(1, -(-len(mine) // _MAX_POINTS))]
        colour = COLOURS[k] if k < len(COLOURS) else OTHERS
        lines.append(
            Line(
                strategy, colour, mine["execution"].tolist(), mine["share"].tolist(), mine["utility"].tolist()
            )
        )
    return lines


_WIDTH, _HEIGHT, _LEFT, _TOP, _GAP = 680, 150, 44, 20, 44


def route_svg(route: Route) -> str:
    """Draw shares of choices above believed utilities, as a picture that needs no script and fits any theme."""
    lines = route_lines(route)
    last = max((line.execution[-1] for line in lines if line.execution), default=1)
    panels = []
    for row, (title, field) in enumerate(
        (("share of the last 25 choices", "share"), ("believed utility", "utility"))
    ):
        top = _TOP + row * (_HEIGHT + _GAP)
        panels.append(_axes(title, top, last))
        # The best lie on top.
        panels += [_path(line, getattr(line, field), top, last) for line in reversed(lines)]
    legend_top = _TOP + 2 * (_HEIGHT + _GAP)
    legend = [(line.strategy, line.colour) for line in lines[: len(COLOURS)]]
    if len(lines) > len(legend):
        legend.append((f"{len(lines) - len(legend)} more", OTHERS))
    for k, (label, colour) in enumerate(legend):
        x, y = _LEFT + (k % 2) * 320, legend_top + (k // 2) * 18
        panels.append(
            f'<rect x="{x}" y="{y - 9}" width="12" height="4" fill="{colour}"/>'
            f'<text x="{x + 18}" y="{y - 3}">{escape(label)}</text>'
        )
    height = legend_top + -(-len(legend) // 2) * 18 + 4
    best = lines[0].strategy if lines else "nothing"
    return (
        f'<svg viewBox="0 0 {_LEFT + _WIDTH + 12} {height}" width="100%" style="max-width:{_LEFT + _WIDTH + 12}px" '
        f'role="img" aria-label="Learned route of {escape(route.signature)}: now best is {escape(best)}" '
        f'font-size="11" fill="currentColor" font-family="sans-serif">{"".join(panels)}</svg>'
    )


def _axes(title: str, top: int, last: int) -> str:
    parts = [f'<text x="{_LEFT}" y="{top - 6}" font-weight="bold">{title}</text>']
    for share in (0.0, 0.5, 1.0):
        y = top + (1 - share) * _HEIGHT
        parts.append(
            f'<line x1="{_LEFT}" x2="{_LEFT + _WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="currentColor" opacity=".2"/>'
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{share:g}</text>'
        )
    bottom = top + _HEIGHT + 14
    parts.append(f'<text x="{_LEFT}" y="{bottom}">1</text>')
    parts.append(f'<text x="{_LEFT + _WIDTH}" y="{bottom}" text-anchor="end">execution {last}</text>')
    return "".join(parts)


def _path(line: Line, values: list[float], top: int, last: int) -> str:
    points = " ".join(
        f"{_LEFT + (execution - 1) / max(1, last - 1) * _WIDTH:.1f},{top + (1 - value) * _HEIGHT:.1f}"
        for execution, value in zip(line.execution, values, strict=True)
    )
    title = f"<title>{escape(line.strategy)}</title>"
    style = 'stroke-width=".8" opacity=".5"' if line.colour == OTHERS else 'stroke-width="1.6"'
    return f'<polyline points="{points}" fill="none" stroke="{line.colour}" {style}>{title}</polyline>'
