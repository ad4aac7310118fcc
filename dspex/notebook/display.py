"""How dspex's values look in a notebook. Registered by name, so that nothing is imported before it is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dspex.notebook import html
from dspex.notebook.plots import programs

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspex.native.signature import Signature
    from dspex.orchestrator.insights import Route
    from dspex.orchestrator.result import Result
    from dspex.records import Alternative, Belief, Decision
    from dspex.runtime import Runtime
    from dspex.variables.space import Space

_SHOWN_CHARS = 400


def register_in_running_shell() -> None:
    """Make values draw themselves, and studies show themselves live, in the shell that is running."""
    from IPython import get_ipython

    shell = get_ipython()
    if shell is not None:
        register(shell)


def register(shell: Any) -> None:
    """Make values draw themselves in `shell`; doing it twice changes nothing."""
    formatters = shell.display_formatter.formatters
    by_name: dict[tuple[str, str], Callable[[Any], str]] = {
        ("dspex.native.signature", "Signature"): signature_html,
        ("dspex.optimizers.views", "Heatmap"): programs.heatmap_html,
        ("dspex.optimizers.views", "Lineage"): programs.lineage_html,
        ("dspex.orchestrator.insights", "Route"): route_html,
        ("dspex.orchestrator.result", "Result"): result_html,
        ("dspex.records", "Decision"): decision_html,
        ("dspex.runtime", "Runtime"): runtime_html,
        ("dspex.variables.space", "Space"): space_html,
    }
    for (module, name), draw in by_name.items():
        formatters["text/html"].for_type_by_name(module, name, draw)
    shell.display_formatter.ipython_display_formatter.for_type_by_name(
        "dspex.optimizers.study", "Study", show_study
    )
    if hasattr(shell, "kernel"):
        from dspex.notebook import studies

        studies.watch()


def show_study(study: Any) -> None:
    """Show a study live; what is shown in this cell already is not shown twice."""
    from dspex.notebook import studies

    studies.show_once(study)


def signature_html(signature: Signature) -> str:
    """Draw a signature as a table of its fields."""
    rows = [
        (html.strong(field.name), field.role, html.code(field.type_text), field.description or "")
        for field in signature.fields
    ]
    return html.card(
        html.strong(signature.name),
        html.muted(signature.instructions),
        html.table(("field", "", "type", ""), rows),
    )


def space_html(space: Space) -> str:
    """Draw a space as a table of its variables and constraints."""
    from dspex.variables import views

    rows = [
        (
            html.strong(row.name),
            row.kind,
            html.code(row.values),
            row.default,
            html.code(row.when) if row.when else "",
            row.notes,
        )
        for row in views.table(space)
    ]
    return html.card(html.table(("variable", "kind", "values", "default", "when", ""), rows))


def result_html(result: Result) -> str:
    """Draw an answer, the decision behind it, and its trace."""
    usage = result.usage
    head = [html.strong(result.decision.strategy)]
    if result.is_simulated:
        head.append(html.badge("simulated"))
    head.append(html.muted(f"{usage.latency_s:.2f} s · ${usage.cost_usd:.6f} · {usage.calls} call(s)"))
    fields = [(html.muted(name), _shortened(value)) for name, value in result.output.items()]
    steps = [(step.kind, html.Raw(f"{1000 * step.duration_s:.2f}"), step.detail) for step in result.trace]
    return html.card(
        html.table(("field", "answer"), fields),
        html.Raw(" ".join(html.text(part) for part in head)),
        html.details(f"why: {result.decision.reason}", _alternatives(result.decision)),
        html.details("trace", html.table(("step", "ms", "what happened"), steps)),
    )


def decision_html(decision: Decision) -> str:
    """Draw a decision with every alternative."""
    return html.card(html.strong(decision.strategy), html.muted(decision.reason), _alternatives(decision))


def runtime_html(runtime: Runtime) -> str:
    """Draw the runtime: what is configured and what was learned from."""
    simulated = (
        [html.badge("simulated")] if all(name.startswith("sandbox/") for name in runtime.models) else []
    )
    models = html.Raw(" ".join([*(html.code(name) for name in runtime.models), *simulated]))
    weights = runtime.objective
    rows = [
        (html.muted("models"), models),
        (
            html.muted("objective"),
            f"quality {weights.quality:g}, speed {weights.speed:g}, cheapness {weights.cheapness:g}",
        ),
        (html.muted("pool"), f"{runtime.pool.name}, {runtime.pool.workers} at once"),
        (html.muted("learned from"), f"{runtime.orchestrator.beliefs.n_observations} executions"),
    ]
    return html.card(html.table(("dspex", ""), rows))


def route_html(route: Route) -> str:
    """Draw the learned route: a plot over time above a table of what is believed now."""
    from dspex.notebook.plots import routing

    ranked = html.table(
        ("strategy", "utility", "share", "quality", "latency s", "$ per 1000", "n"),
        [
            (name, html.bar(row.utility), f"{row.share:.0%}", f"{row.quality:.2f}", f"{row.latency_s:.2f}",
             f"{1000 * row.cost_usd:.3f}", int(row.n))
            for name, row in route.now.iterrows()
        ],
    )  # fmt: skip
    if route.now.empty:
        return html.card(html.muted("nothing has been executed yet: dspex.execute(...) teaches"))
    return html.card(
        html.strong(f"Learned route of {route.signature}"), html.Raw(routing.route_svg(route)), ranked
    )


def _alternatives(decision: Decision) -> html.Raw:
    return html.table(
        ("strategy", "utility", "chosen with", "quality", "success", "latency s", "$ per 1000"),
        [_row(each) for each in decision.alternatives],
    )


def _row(each: Alternative) -> tuple[Any, ...]:
    def interval(belief: Belief, digits: int, times: float = 1.0) -> html.Raw:
        spread = html.muted(f"[{times * belief.low:.{digits}f}, {times * belief.high:.{digits}f}]")
        return html.Raw(f'<span style="white-space:nowrap">{times * belief.mean:.{digits}f} {spread}</span>')

    return (
        each.strategy,
        html.bar(each.utility),
        f"{each.propensity:.0%}",
        interval(each.quality, 2),
        interval(each.success, 2),
        interval(each.latency_s, 2),
        interval(each.cost_usd, 2, 1000.0),
    )


def _shortened(value: Any) -> str:
    shown = str(value)
    return shown if len(shown) <= _SHOWN_CHARS else f"{shown[:_SHOWN_CHARS]} … ({len(shown)} characters)"
