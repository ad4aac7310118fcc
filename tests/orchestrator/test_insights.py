"""The learned route: the log replayed into shares and utilities."""

from __future__ import annotations

import pytest
from worlds import FAST, SLOW, execution

from dspex.orchestrator.insights import route
from dspex.orchestrator.model import BeliefModel
from dspex.records import Label, Objective, Usage


def log_of(n: int) -> list:
    records: list = []
    for number in range(n):
        strategy = SLOW if number % 5 == 0 else FAST
        each = execution(number, strategy, usage=Usage(1, 10, 10, 1e-4, 0.2 if strategy == FAST else 3.0))
        records += [each, Label(each.id, 0.9 if strategy == FAST else 0.4, number + 0.5)]
    return records


def test_shows_every_strategy_over_time_and_now():
    """One row per execution and strategy; the table now is ranked and counts add up."""
    found = route(log_of(50), BeliefModel, Objective())
    assert len(found.over_time) == 100
    assert list(found.now.index) == [str(FAST), str(SLOW)]
    assert found.now["n"].sum() == 50
    assert found.now["share"].sum() == pytest.approx(1.0)
    assert found.now.loc[str(FAST), "quality"] == pytest.approx(0.9, abs=0.05)
    last = found.over_time[found.over_time["execution"] == 50]
    assert last["share"].sum() == pytest.approx(1.0)


def test_an_empty_log_is_an_empty_route():
    """Nothing executed is no error."""
    found = route([], BeliefModel, Objective())
    assert found.now.empty
    assert repr(found) == "<Route: nothing has been executed yet>"


def test_its_text_names_the_task_and_the_ranking():
    """The repr is a table that reads without a notebook."""
    text = repr(route(log_of(20), BeliefModel, Objective()))
    assert text.startswith("<Route of QA, 20 executions>")
    assert text.index("fast · Predict") < text.index("slow · Predict")
