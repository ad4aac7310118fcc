"""Telemetry: what happens becomes lines, for whole calls, across processes, and counts that are right on average."""

from __future__ import annotations

import logging
import math
from typing import get_args

import pytest

import dspex as dx
from dspex import events, sandbox, telemetry
from dspex.errors import DefinitionError, UnknownNameError
from dspex.events import (
    AttemptFailed,
    DecisionMade,
    Event,
    EventBus,
    ExecutionFinished,
    LabelGiven,
    TaskFinished,
)
from dspex.records import Label
from dspex.telemetry import LOGGER

TRIAGE = sandbox.task("triage")


@pytest.fixture
def heard():
    """Hear every event of the process, and in which call it was published."""
    found = []
    stop = events.everywhere.subscribe(lambda event: found.append((event, events.correlation_id.get())))
    yield found
    stop()


@pytest.fixture
def lines(caplog):
    """Read what the log of events has written."""
    return lambda: [record.getMessage() for record in caplog.records if record.name == LOGGER]


def name_here():
    """Say of which piece of work this is a part."""
    return dx.pools.correlation_id.get()


def rate(runtime, name="x"):
    runtime.events.publish(LabelGiven(Label(name, 1.0, 0.0)))


# ── one name for all that belongs to a call ─────────────────────────────────────────────────────


def test_a_call_and_what_it_does_in_workers_share_a_name(runtime, heard):
    """The decision, the task in another process and the execution carry what the result is named by."""
    adapter = dx.adapters.bridged("Predict", sandbox.lm("large"), pool="general")
    result = dx.execute(TRIAGE.signature, message=TRIAGE.dev[0].message, adapter=adapter)
    assert result.correlation_id
    named = {
        type(event): getattr(event, "correlation_id", None) or name
        for event, name in heard
        if isinstance(event, DecisionMade | TaskFinished | ExecutionFinished)
    }
    assert named == dict.fromkeys((DecisionMade, TaskFinished, ExecutionFinished), result.correlation_id)
    (task,) = (event for event, _ in heard if isinstance(event, TaskFinished))
    assert (task.pool, task.how) == ("general", "done")
    assert 0 < task.seconds < 60
    assert dx.pools.general.submit(name_here).result(60) is None


def test_the_worker_itself_knows_the_name(runtime):
    """What is submitted within a call finds the call's name set."""
    with events.correlated() as name:
        assert dx.pools.general.submit(name_here).result(60) == name
        result = dx.execute(TRIAGE.signature, message=TRIAGE.dev[0].message)
    assert result.correlation_id == name  # a call within another piece of work is a part of it
    assert events.correlation_id.get() is None


def test_calls_have_names_of_their_own(runtime):
    """And none of them is left behind."""
    first, second = (dx.execute(TRIAGE.signature, message=TRIAGE.dev[k].message) for k in range(2))
    assert first.correlation_id != second.correlation_id
    assert events.correlation_id.get() is None


# ── lines ───────────────────────────────────────────────────────────────────────────────────────


def test_a_call_is_written_with_its_name(runtime, lines):
    """At info its execution, at debug its decision too, each with the name at the end."""
    with dx.log_events() as log:
        result = dx.execute(TRIAGE.signature, message=TRIAGE.dev[0].message)
        log.level = "debug"
        other = dx.execute(TRIAGE.signature, message=TRIAGE.dev[1].message)
    first, *rest = lines()
    assert first.startswith(f"ExecutionFinished {result.decision.strategy} (policy) ")
    assert first.endswith(f", ok [{result.correlation_id}]")
    assert [each.split()[0] for each in rest] == ["DecisionMade", "ExecutionFinished"]
    assert all(each.endswith(f"[{other.correlation_id}]") for each in rest)
    assert log.counts == {"ExecutionFinished": 2, "DecisionMade": 1}
    assert repr(log) == "<EventLog at debug: 1 DecisionMade, 2 ExecutionFinished>"


def test_another_level_holds_from_the_next_event_on(runtime, lines):
    """Nothing is written between warning and the next change."""
    log = dx.log_events("warning")
    rate(runtime, "left out")
    log.level = "info"
    rate(runtime, "written")
    log.level = "warning"
    rate(runtime, "left out again")
    log.close()
    log.level = "debug"
    rate(runtime, "after the end")
    with log.open().open():
        rate(runtime, "once")
    assert lines() == ["LabelGiven written: 1", "LabelGiven once: 1"]


def test_trouble_is_written_always_and_without_secrets(lines):
    """Of a small share of calls each failed attempt is there all the same."""
    with dx.log_events("warning", sample=1e-9), events.correlated() as name:
        EventBus().publish(AttemptFailed("openai/gpt", 0, "sk-planted-4711-planted was refused", False))
    (written,) = lines()
    assert written.startswith("AttemptFailed model=openai/gpt, number=0, error=[redacted] was refused, ")
    assert written.endswith(f" [{name}]")


def test_every_kind_of_event_is_told_in_a_line(lines):
    """What a session, a study, its optimizers and a pool do is written without an error, one line each."""
    assert set(telemetry._LEVELS) == set(get_args(Event))
    with dx.log_events("debug") as log:
        runtime = dx.configure(["sandbox/small"], modules=["Predict"], store="memory")
        result = dx.execute(TRIAGE.signature, message=TRIAGE.dev[0].message)
        result.rate(1.0)
        study = dx.optimize(
            TRIAGE.signature,
            trainset=TRIAGE.train[:8],
            metric=dx.metrics.exact_match,
            space=dx.Space(temperature=dx.Temperature(0.0, 1.0)),
            optimizer=["tpe", "beacon"],
            budget=dx.Budget(trials=6),
        )
        study.wait()
        runtime.close()
    assert {
        "LabelGiven",
        "StudyStarted",
        "StintFinished",
        "TrialFinished",
        "ExampleScored",
        "StudyFinished",
    } <= set(log.counts)
    assert sum(log.counts.values()) == len(lines())
    assert all(len(each) <= 340 and "\n" not in each for each in lines())
    assert [each for each in lines() if "object at 0x" in each] == []


def test_without_any_logging_set_up_lines_go_to_stderr(capsys, monkeypatch):
    """As in a notebook that has not configured logging; afterwards nothing is left."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    dx.log_events("warning")
    with dx.log_events():  # in place of the first, whose handler goes with it
        EventBus().publish(LabelGiven(Label("it", 0.5, 0.0)))
    assert capsys.readouterr().err.endswith("INFO    LabelGiven it: 0.5\n")
    assert logging.getLogger(LOGGER).handlers == []


def test_one_log_is_open_at_a_time(lines):
    """A second one takes the place of the first, so that no line is written twice."""
    first = dx.log_events()
    with dx.log_events("info") as second:
        EventBus().publish(LabelGiven(Label("it", 0.5, 0.0)))
    assert (first.counts, second.counts) == ({}, {"LabelGiven": 1})
    assert len(lines()) == 1


# ── shares of calls ─────────────────────────────────────────────────────────────────────────────


def test_counts_of_a_share_are_right_on_average(lines):
    """However the share changes on the way: each written call stands for as many as it was drawn from."""
    calls, bus = 20_000, EventBus()
    with dx.log_events("debug") as log:
        logging.getLogger(LOGGER).setLevel("ERROR")  # counting is enough here
        for share in (0.05, 0.25):
            log.sample = share
            for _ in range(calls // 2):
                with events.correlated():
                    bus.publish(LabelGiven(Label("it", 1.0, 0.0)))
    spread = math.sqrt(sum(calls / 2 * (1 - share) / share for share in (0.05, 0.25)))
    assert abs(log.counts["LabelGiven"] - calls) < 4 * spread
    assert log.counts["LabelGiven"] != calls


def test_a_call_is_written_whole_or_not_at_all(lines):
    """Its events share a fate, whichever bus they come from."""
    here, pool = EventBus(), EventBus()
    with dx.log_events("debug", sample=0.3):
        for k in range(200):
            with events.correlated() as name:
                here.publish(LabelGiven(Label(f"e{k}", 1.0, 0.0)))
            pool.publish(TaskFinished("general", k, "done", 0.1, name))
    found = [each.rsplit(" ", 1)[1] for each in lines()]
    assert all(found.count(name) == 2 for name in set(found))
    assert 20 < len(set(found)) < 100


# ── bad input ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("sample", [0, -0.1, 1.5, True, "all"])
def test_a_share_that_is_none_is_refused(sample):
    """And the log goes on as it was."""
    with dx.log_events() as log:
        with pytest.raises(DefinitionError, match=r"a share of calls in \(0, 1\], got"):
            log.sample = sample
        assert log.sample == 1.0


def test_an_unknown_level_names_the_nearest(lines):
    """And no log is opened in place of the open one."""
    with dx.log_events() as log, events.correlated():
        with pytest.raises(UnknownNameError, match="did you mean 'warning'"):
            dx.log_events("warn")
        with pytest.raises(DefinitionError):
            dx.log_events("warning", sample=2)
        EventBus().publish(LabelGiven(Label("it", 0.5, 0.0)))
    assert log.counts == {"LabelGiven": 1}
    assert len(lines()) == 1
