"""A study's run: every trial's score, the best so far, and the default to beat."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from dspex.notebook import html

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from dspex.optimizers.study import Study, StudyState
    from dspex.records import Trial, Value

    Place = Callable[[float], str]

# The theme's colour where there is one; else one that stands out from white and from black alike.
_TRIAL = "var(--jp-brand-color1,#0072B2)"
_BEST = "var(--jp-success-color1,#009E73)"
_FINAL = "var(--jp-warn-color0,#D55E00)"
_FAINT = 0.35
"""How strong a trial is drawn whose score says little yet."""


@dataclass(frozen=True, slots=True)
class Point:
    """One trial as it is drawn."""

    number: int
    score: float
    """Mean over the examples, in metric units."""
    stderr: float | None
    """None where there is no such bound: it holds for scores in [0, 1] only."""
    n_examples: int
    n_failed: int
    cost_usd: float
    is_final: bool
    """Whether it was scored on every example; those of the search were on some."""
    values: tuple[str, ...]
    """The configuration, one text per variable."""


@dataclass(frozen=True, slots=True)
class RunData:
    """A study's trials and totals at one moment."""

    name: str
    state: StudyState
    reason: str
    variables: tuple[str, ...]
    points: tuple[Point, ...]
    best: Point | None
    default_score: float | None
    planned_trials: int
    planned_scores: int | None
    """How many examples the search scores at most; None where that is not known."""
    cost_usd: float
    elapsed_s: float
    """Seconds that the finished trials took; those of a resumed study include what it did before."""
    is_simulated: bool
    pause: str | None = None
    """What it waits for at the moment."""

    @property
    def best_so_far(self) -> tuple[tuple[int, float], ...]:
        """(trial number, highest score up to it) for each trial of the search that was scored on enough examples.

        Enough is half as many as the trial with the most: a score of two examples says little. The finalists
        are scored on other examples, so that they cannot continue this line.
        """
        line: list[tuple[int, float]] = []
        for point in drawable(self.points):
            if not (point.is_final or self.is_young(point)):
                line.append((point.number, max(point.score, line[-1][1]) if line else point.score))
        return tuple(line)

    def is_young(self, point: Point) -> bool:
        """Whether a trial of the search was scored on too few examples, so far, to say much."""
        most = max((each.n_examples for each in drawable(self.points) if not each.is_final), default=0)
        return not point.is_final and point.n_examples < most / 2

    @property
    def summary(self) -> str:
        """The run in one line of text."""
        parts = [f"{self.state}", *([self.pause] if self.pause else []), f"{len(self.points)} trials"]
        if self.best is not None:
            parts.append(f"best {self.best.score:.3f} in trial {self.best.number}")
        if self.default_score is not None:
            parts.append(f"default {self.default_score:.3f}")
        parts.append(f"${self.cost_usd:.4f}" + (" (simulated)" if self.is_simulated else ""))
        return ", ".join(parts)


def run_data(study: Study) -> RunData:
    """Read what is drawn off a study, running or not."""
    variables = study.definition.variables
    points = tuple(_point(trial, variables) for trial in study.finished_trials)
    baseline = study.baseline
    return RunData(
        name=study.name,
        state=study.state,
        reason=study.reason,
        pause=study.pause,
        variables=variables,
        points=points,
        best=_point(study.best, variables) if points else None,
        default_score=None if baseline is None else baseline.score,
        planned_trials=study.definition.budget.trials or 0,
        planned_scores=study.planned_scores,
        cost_usd=study.usage.cost_usd,
        elapsed_s=elapsed_s(study.finished_trials),
        is_simulated=study.is_simulated,
    )


def elapsed_s(trials: Iterable[Trial]) -> float:
    """Add up the time in which trials were evaluated, in seconds; several at once count once."""
    total, until = 0.0, -math.inf
    for began, ended in sorted((trial.started_at, trial.finished_at) for trial in trials):
        total += max(0.0, ended - max(began, until))
        until = max(until, ended)
    return total


def drawable(points: Sequence[Point]) -> list[Point]:
    """Return the points that have a place on an axis; a metric may well be infinite."""
    return [point for point in points if math.isfinite(point.score)]


def _point(trial: Trial, variables: Sequence[str]) -> Point:
    has_bound = 0 <= trial.score <= 1 and trial.n_examples > 0
    return Point(
        number=trial.number,
        score=trial.score,
        stderr=trial.stderr if has_bound else None,
        n_examples=trial.n_examples,
        n_failed=trial.n_failed,
        cost_usd=trial.usage.cost_usd,
        is_final=trial.phase == "final",
        values=tuple(_shown(trial.configuration.get(name)) for name in variables),
    )


def _shown(value: Value) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


# ── a picture, and the card around it ───────────────────────────────────────────────────────────

_WIDTH, _HEIGHT = 680, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 28, 40


def run_svg(data: RunData) -> str:
    """Draw a run as a picture that needs no script and no network; empty without trials."""
    points = drawable(data.points)
    if not points:
        return ""
    scores = [point.score for point in points]
    if data.default_score is not None and math.isfinite(data.default_score):
        scores.append(data.default_score)
    low, high = _padded(min(scores), max(scores))
    last = max(points[-1].number, 1)
    plot_width, plot_height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def x(number: float) -> str:
        return f"{_LEFT + plot_width * (number + 0.5) / (last + 1):.1f}"

    def y(score: float) -> str:
        return f"{_TOP + plot_height * (high - score) / (high - low):.1f}"

    parts = [_frame(data), *_y_axis(low, high, y), *_x_axis(last, x)]
    if data.default_score is not None and math.isfinite(data.default_score):
        parts.append(
            f'<path d="M{_LEFT} {y(data.default_score)}H{_WIDTH - _RIGHT}" stroke="currentColor" '
            f'stroke-dasharray="6 4" opacity=".65" fill="none"><title>default {data.default_score:.3f}</title></path>'
        )
    parts.append(_steps([(x(number), y(score)) for number, score in data.best_so_far]))
    young = [data.is_young(point) for point in points]
    parts += [
        _mark(point, x(point.number), y(point.score), data.variables, opacity=_FAINT if is_young else 1.0)
        for point, is_young in zip(points, young, strict=True)
    ]
    return "".join([*parts, _legend(has_finals=points[-1].is_final, has_young=any(young)), "</svg>"])


def run_html(data: RunData) -> str:
    """Draw a run as a card for wherever nothing runs: saved notebooks, GitHub, nbconvert."""
    head = [html.strong(data.name), html.badge(data.state)]
    if data.is_simulated:
        head.append(html.badge("simulated"))
    facts = [f"{len(data.points)} trials", f"${data.cost_usd:.4f}", f"{data.elapsed_s:.1f} s"]
    if data.best is not None:
        spread = "" if data.best.stderr is None else f" ± {data.best.stderr:.3f}"
        facts.insert(0, f"best {data.best.score:.3f}{spread}")
    if data.default_score is not None:
        facts.insert(1, f"default {data.default_score:.3f}")
    lines: list[str] = [
        html.Raw(" ".join(head)),
        html.Raw(" · ".join(html.text(fact) for fact in facts)),
    ]
    if data.reason:
        lines.append(html.muted(f"ended: {data.reason}"))
    if data.pause:
        lines.append(html.muted(data.pause))
    lines.append(html.Raw(run_svg(data)))
    if data.best is not None:
        lines.append(html.muted(f"Best configuration (trial {data.best.number})"))
        lines.append(
            html.table(
                ("variable", "value"),
                zip(data.variables, map(html.code, data.best.values), strict=True),
            )
        )
    return html.card(*lines)


def run_text(data: RunData) -> str:
    """Describe a run where only text is shown."""
    lines = [f"{data.name}: {data.summary}"]
    if data.best is not None:
        values = zip(data.variables, data.best.values, strict=True)
        lines.append("best configuration: " + ", ".join(f"{name}={value}" for name, value in values))
    return "\n".join(lines)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return round numbers within [low, high], about `count` of them.

    Examples
    --------
    >>> ticks(0.42, 0.95)
    [0.5, 0.6, 0.7, 0.8, 0.9]
    """
    rough = (high - low) / count
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(size * magnitude for size in (1, 2, 5, 10) if size * magnitude >= 0.75 * rough)
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 12) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _padded(low: float, high: float) -> tuple[float, float]:
    margin = 0.08 * (high - low) or 0.1 * max(abs(high), 1.0)
    return low - margin, high + margin


def _frame(data: RunData) -> str:
    label = escape(f"Scores of {data.name}: {data.summary}", quote=True)
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" role="img" aria-label="{label}" '
        'style="max-width:100%;height:auto;color:var(--jp-ui-font-color1,currentColor)" '
        'font-family="system-ui,sans-serif" font-size="11" fill="currentColor">'
    )


def _y_axis(low: float, high: float, y: Place) -> list[str]:
    middle = _TOP + (_HEIGHT - _TOP - _BOTTOM) / 2
    parts = [f'<text transform="translate(13 {middle}) rotate(-90)" text-anchor="middle">score</text>']
    for value in ticks(low, high):
        parts.append(f'<path d="M{_LEFT} {y(value)}H{_WIDTH - _RIGHT}" stroke="currentColor" opacity=".15"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y(value)}" dy=".35em" text-anchor="end">{value:.6g}</text>')
    return parts


def _x_axis(last: int, x: Place) -> list[str]:
    bottom = _HEIGHT - _BOTTOM
    numbers = sorted({round(value) for value in ticks(0, last, 8)})
    return [
        f'<path d="M{_LEFT} {bottom}H{_WIDTH - _RIGHT}" stroke="currentColor" opacity=".5"/>',
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 6}" text-anchor="middle">trial</text>',
        *(f'<text x="{x(k)}" y="{bottom + 15}" text-anchor="middle">{k}</text>' for k in numbers),
    ]


def _steps(places: Sequence[tuple[str, str]]) -> str:
    if not places:
        return ""
    path = f"M{places[0][0]} {places[0][1]}" + "".join(f"H{x}V{y}" for x, y in places[1:])
    return f'<path d="{path}" fill="none" style="stroke:{_BEST}" stroke-width="2"/>'


def _mark(point: Point, x: str, y: str, variables: Sequence[str], *, opacity: float) -> str:
    values = ", ".join(f"{name}={value}" for name, value in zip(variables, point.values, strict=True))
    spread = "" if point.stderr is None else f" ± {point.stderr:.3f}"
    title = f"<title>trial {point.number}: {point.score:.3f}{spread}; {escape(values)}</title>"
    if point.is_final:
        return f'<path d="M{x} {y}m0 -6l6 6l-6 6l-6 -6z" style="fill:{_FINAL}">{title}</path>'
    faint = "" if opacity == 1 else f' opacity="{opacity}"'
    return f'<circle cx="{x}" cy="{y}" r="4" style="fill:{_TRIAL}"{faint}>{title}</circle>'


def _legend(*, has_finals: bool, has_young: bool) -> str:
    def entry(x: int, mark: str, label: str) -> str:
        return f'<g transform="translate({x} 10)">{mark}<text x="14" dy=".35em">{label}</text></g>'

    entries = [
        entry(_LEFT + 8, f'<circle r="4" style="fill:{_TRIAL}"/>', "trial"),
        entry(
            _LEFT + 76,
            f'<path d="M-8 0H8" style="stroke:{_BEST}" stroke-width="2"/>',
            "best so far",
        ),
        entry(
            _LEFT + 182,
            '<path d="M-8 0H8" stroke="currentColor" stroke-dasharray="6 4" opacity=".65"/>',
            "default",
        ),
    ]
    if has_finals:
        diamond = f'<path d="M0 -6l6 6l-6 6l-6 -6z" style="fill:{_FINAL}"/>'
        entries.append(entry(_LEFT + 262, diamond, "finalist, on all examples"))
    if has_young:
        entries.append(
            entry(
                _LEFT + 446,
                f'<circle r="4" style="fill:{_TRIAL}" opacity="{_FAINT}"/>',
                "trial, on few examples",
            )
        )
    return "".join(entries)
