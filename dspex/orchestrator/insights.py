"""What was learned, over time: the log replayed into shares of choices and believed utilities."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dspex.orchestrator import policy
from dspex.records import Execution, Label, Requirements, Strategy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import pandas as pd

    from dspex.orchestrator.model import BeliefModel
    from dspex.records import Objective

_WINDOW = 25
"""Executions over which a share of choices is taken."""


@dataclass(frozen=True)
class Route:
    """The learned route of one signature.

    Attributes
    ----------
    signature
        The task's name.
    over_time
        One row per execution and strategy: ``execution`` (1, 2, …), ``strategy``, ``share`` of the last
        25 choices, believed ``utility``.
    now
        One row per strategy, best first: ``utility``, ``share`` of all choices, ``quality``, ``success``,
        ``latency_s``, ``cost_usd``, ``n``.
    """

    signature: str
    over_time: pd.DataFrame
    now: pd.DataFrame

    def __repr__(self) -> str:
        if self.now.empty:
            return "<Route: nothing has been executed yet>"
        shown = self.now.round({"utility": 3, "share": 2, "quality": 2, "success": 2, "latency_s": 2})
        return f"<Route of {self.signature}, {int(self.now['n'].sum())} executions>\n{shown.to_string()}"


def route(
    records: Iterable[Execution | Label],
    make_beliefs: Callable[[], BeliefModel],
    objective: Objective,
    signature: str | None = None,
) -> Route:
    """Replay the log into the route of one signature, by default the one executed most recently."""
    import pandas as pd

    log = list(records)
    executions = [record for record in log if isinstance(record, Execution)]
    if signature is None and executions:
        signature = executions[-1].requirements.signature
    mine = [each for each in executions if each.requirements.signature == signature]
    strategies = sorted({each.strategy for each in mine})
    beliefs, by_id = make_beliefs(), {each.id: each for each in executions}
    recent: deque[Strategy] = deque(maxlen=_WINDOW)
    rows: list[tuple[int, str, float, float]] = []
    asked: Requirements | None = None
    for record in log:
        if isinstance(record, Label):
            if record.execution_id in by_id:
                beliefs.learn_quality(by_id[record.execution_id], record.quality)
            continue
        beliefs.learn(record)
        if record.requirements.signature != signature:
            continue
        asked = record.requirements
        if record.role == "policy":
            recent.append(record.strategy)
        worth = policy.utilities(beliefs.predict(asked, strategies), objective)
        number = len(rows) // len(strategies) + 1
        for strategy, utility in zip(strategies, worth, strict=True):
            share = sum(each == strategy for each in recent) / max(1, len(recent))
            rows.append((number, str(strategy), share, float(utility)))
    over_time = pd.DataFrame(rows, columns=["execution", "strategy", "share", "utility"])
    return Route(signature or "", over_time, _now(beliefs, objective, asked, strategies, mine))


def _now(
    beliefs: BeliefModel,
    objective: Objective,
    asked: Requirements | None,
    strategies: list[Strategy],
    executions: list[Execution],
) -> pd.DataFrame:
    import pandas as pd

    columns = ["strategy", "utility", "share", "quality", "success", "latency_s", "cost_usd", "n"]
    if asked is None:
        return pd.DataFrame(columns=columns).set_index("strategy")
    worth = policy.utilities(beliefs.predict(asked, strategies), objective)
    rows = []
    for strategy, utility in zip(strategies, worth, strict=True):
        n = sum(each.strategy == strategy for each in executions)
        means = [
            beliefs.belief(head, asked, strategy).mean for head in ("quality", "success", "latency", "cost")
        ]
        rows.append((str(strategy), float(utility), n / len(executions), *means, n))
    frame = pd.DataFrame(rows, columns=columns).set_index("strategy")
    return frame.sort_values("utility", ascending=False)
