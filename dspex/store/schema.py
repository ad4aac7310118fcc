"""The tables, and how records become rows and rows become records. One schema for SQLite and PostgreSQL."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sqlalchemy import JSON, Boolean, Column, Float, Index, Integer, MetaData, String, Table, Text

from dspex.records import (
    BRIDGED,
    Answer,
    Candidate,
    Execution,
    Label,
    Reply,
    Requirements,
    Score,
    Strategy,
    Trial,
    Usage,
)
from dspex.redact import redact

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

metadata = MetaData()


def _usage_columns() -> list[Column[Any]]:
    return [
        Column("calls", Integer, nullable=False),
        Column("tokens_in", Integer, nullable=False),
        Column("tokens_out", Integer, nullable=False),
        Column("cost_usd", Float, nullable=False),
        Column("latency_s", Float, nullable=False),
    ]


execution = Table(
    "execution",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("id", String(32), nullable=False, unique=True),
    Column("at", Float, nullable=False),
    Column("signature", String, nullable=False),
    Column("signature_key", String(16), nullable=False),
    Column("input_chars", Integer, nullable=False),
    Column("output_fields", Integer, nullable=False),
    Column("reasoning", Boolean, nullable=False),
    Column("complexity", String(8), nullable=False),
    Column("model", String, nullable=False),
    Column("module", String, nullable=False),
    Column("role", String(8), nullable=False),
    Column("propensities", JSON, nullable=False),
    Column("ok", Boolean, nullable=False),
    *_usage_columns(),
    Column("error", Text),
    Column("parent_id", String(32)),
    Column("configuration", JSON),
    Column("session", String),
    Column("adapter", String),
    Column("suits", String),
    Column("overtaken", Boolean),
)

label = Table(
    "label",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("execution_id", String(32), nullable=False, index=True),
    Column("quality", Float, nullable=False),
    Column("at", Float, nullable=False),
)

study = Table(
    "study",
    metadata,
    Column("name", String, primary_key=True),
    Column("started_at", Float, nullable=False),
    Column("finished_at", Float),
    Column("state", String(12), nullable=False),
    Column("reason", Text),
    Column("program", String, nullable=False),
    Column("optimizer", String, nullable=False),
    Column("metric", String, nullable=False),
    Column("seed", Integer, nullable=False),
    Column("definition", JSON, nullable=False),
    Column("baseline_score", Float),
    Column("best_score", Float),
    Column("best_configuration", JSON),
    Column("calls", Integer),
    Column("cost_usd", Float),
    Column("tags", JSON),
)

trial = Table(
    "trial",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("study", String, nullable=False),
    Column("number", Integer, nullable=False),
    Column("phase", String(8), nullable=False),
    Column("configuration", JSON, nullable=False),
    Column("configuration_key", String(16), nullable=False),
    Column("score", Float, nullable=False),
    Column("n_examples", Integer, nullable=False),
    Column("n_failed", Integer, nullable=False),
    *_usage_columns(),
    Column("started_at", Float, nullable=False),
    Column("finished_at", Float, nullable=False),
    Index("trial_by_study", "study", "number", unique=True),
)

score = Table(
    "score",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("study", String, nullable=False),
    Column("configuration_key", String(16), nullable=False),
    Column("example_key", String(16), nullable=False),
    Column("score", Float, nullable=False),
    *_usage_columns(),
    Column("error", Text),
    Column("text_key", String(16), nullable=False, server_default=""),
    Column("metric_key", String(16), nullable=False, server_default=""),
    Column("repetition", Integer, nullable=False, server_default="0"),
    Column("feedback", Text),
    Column("execution_id", String(32)),
    Index(
        "score_by_row",
        *("study", "configuration_key", "text_key", "example_key", "metric_key", "repetition"),
        unique=True,
    ),
    Index("score_by_evaluation", "text_key", "metric_key", "configuration_key", "example_key"),
)

candidate = Table(
    "candidate",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("study", String, nullable=False),
    Column("key", String(16), nullable=False),
    Column("number", Integer, nullable=False),
    Column("instructions", JSON, nullable=False),
    Column("demos", JSON, nullable=False),
    Column("parent", String(16)),
    Index("candidate_by_study", "study", "key", unique=True),
)

reply = Table(
    "reply",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("study", String, nullable=False),
    Column("value", JSON, nullable=False),
    *_usage_columns(),
    Index("reply_by_study", "study"),
)

answer = Table(
    "answer",
    metadata,
    Column("key", String(40), primary_key=True),
    Column("strategy", JSON, nullable=False),
    Column("output", JSON, nullable=False),
    Column("execution_id", String(32), nullable=False),
    Column("at", Float, nullable=False),
    Index("answer_by_age", "at"),
)

BROUGHT_TWICE = (candidate, reply, score)
"""Tables whose rows may come again: a thread that a cancelled study left behind is answered late."""

OBSOLETE_INDEXES = ("score_by_study",)
"""What earlier versions made, and rows of today may break."""


def usage_row(usage: Usage) -> dict[str, Any]:
    """Return a usage's columns."""
    return {
        "calls": usage.calls,
        "tokens_in": usage.tokens_in,
        "tokens_out": usage.tokens_out,
        "cost_usd": usage.cost_usd,
        "latency_s": usage.latency_s,
    }


def _harmless(text: str | None) -> str | None:
    """Take secrets out of what somebody else wrote, before it is kept."""
    return None if text is None else redact(text)


def execution_row(record: Execution) -> dict[str, Any]:
    """Return an execution's columns."""
    asked = record.requirements
    return {
        "id": record.id,
        "at": record.at,
        "signature": asked.signature,
        "signature_key": asked.signature_key,
        "input_chars": asked.input_chars,
        "output_fields": asked.output_fields,
        "reasoning": asked.reasoning,
        "complexity": asked.complexity,
        "model": record.strategy.model,
        "module": record.strategy.module,
        "role": record.role,
        "propensities": dict(record.propensities),
        "ok": record.ok,
        "error": _harmless(record.error),
        "parent_id": record.parent_id,
        "configuration": dict(record.configuration),
        "session": record.session,
        "adapter": record.strategy.adapter,
        "suits": asked.adapter,
        "overtaken": record.overtaken,
        **usage_row(record.usage),
    }


def trial_row(study_name: str, record: Trial) -> dict[str, Any]:
    """Return a trial's columns."""
    return {
        "study": study_name,
        "number": record.number,
        "phase": record.phase,
        "configuration": dict(record.configuration),
        "configuration_key": record.configuration_key,
        "score": record.score,
        "n_examples": record.n_examples,
        "n_failed": record.n_failed,
        "started_at": record.started_at,
        "finished_at": record.finished_at,
        **usage_row(record.usage),
    }


def score_row(study_name: str, record: Score) -> dict[str, Any]:
    """Return a ledger row's columns."""
    return {
        "study": study_name,
        "configuration_key": record.configuration_key,
        "example_key": record.example_key,
        "score": record.score,
        "error": _harmless(record.error),
        "text_key": record.text_key,
        "metric_key": record.metric_key,
        "repetition": record.repetition,
        "feedback": _harmless(record.feedback),
        "execution_id": record.execution_id,
        **usage_row(record.usage),
    }


def candidate_row(study_name: str, record: Candidate) -> dict[str, Any]:
    """Return a candidate's columns."""
    return {
        "study": study_name,
        "key": record.key,
        "number": record.number,
        "instructions": dict(record.instructions),
        "demos": {name: list(demos) for name, demos in record.demos.items()},
        "parent": record.parent,
    }


def reply_row(study_name: str, record: Reply) -> dict[str, Any]:
    """Return a reply's columns."""
    return {
        "key": record.key,
        "study": study_name,
        "value": dict(record.value),
        **usage_row(record.usage),
    }


def answer_row(record: Answer) -> dict[str, Any]:
    """Return an answer's columns."""
    return {
        "key": record.key,
        "strategy": asdict(record.strategy),
        "output": dict(record.output),
        "execution_id": record.execution_id,
        "at": record.at,
    }


def label_row(record: Label) -> dict[str, Any]:
    """Return a label's columns."""
    return {"execution_id": record.execution_id, "quality": record.quality, "at": record.at}


def to_usage(row: Mapping[str, Any]) -> Usage:
    """Read a usage."""
    return Usage(row["calls"], row["tokens_in"], row["tokens_out"], row["cost_usd"], row["latency_s"])


def to_execution(row: Mapping[str, Any]) -> Execution:
    """Read an execution."""
    return Execution(
        id=row["id"],
        at=row["at"],
        requirements=Requirements(
            signature=row["signature"],
            signature_key=row["signature_key"],
            input_chars=row["input_chars"],
            output_fields=row["output_fields"],
            reasoning=row["reasoning"],
            complexity=row["complexity"],
            adapter=row["suits"] or BRIDGED,  # rows older than the columns ran so
        ),
        strategy=Strategy(row["model"], row["module"], row["adapter"] or BRIDGED),
        role=row["role"],
        propensities=row["propensities"],
        ok=row["ok"],
        usage=to_usage(row),
        error=row["error"],
        parent_id=row["parent_id"],
        configuration=row["configuration"] or {},  # rows older than the column have none
        session=row["session"],
        overtaken=bool(row["overtaken"]),
    )


def to_trial(row: Mapping[str, Any]) -> Trial:
    """Read a trial."""
    return Trial(
        number=row["number"],
        configuration=row["configuration"],
        configuration_key=row["configuration_key"],
        score=row["score"],
        n_examples=row["n_examples"],
        n_failed=row["n_failed"],
        usage=to_usage(row),
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        phase=row["phase"],
    )


SCORE_COLUMNS = tuple(
    score.c[name]
    for name in (
        *("configuration_key", "example_key", "score"),
        *("calls", "tokens_in", "tokens_out", "cost_usd", "latency_s"),
        *("error", "text_key", "metric_key", "repetition", "feedback", "execution_id"),
    )
)
"""In the order in which `to_score` reads them: a study may have a hundred thousand rows."""


def to_score(row: Sequence[Any]) -> Score:
    """Read a ledger row, its columns in the order of `SCORE_COLUMNS`."""
    key, example, value, calls, tokens_in, tokens_out, cost, latency, *rest = row
    return Score(key, example, value, Usage(calls, tokens_in, tokens_out, cost, latency), *rest)


def to_candidate(row: Mapping[str, Any]) -> Candidate:
    """Read a candidate."""
    demos = {name: tuple(each) for name, each in row["demos"].items()}
    return Candidate(row["key"], row["number"], row["instructions"], demos, row["parent"])


def to_reply(row: Mapping[str, Any]) -> Reply:
    """Read a reply."""
    return Reply(row["key"], row["value"], to_usage(row))


def to_answer(row: Mapping[str, Any]) -> Answer:
    """Read an answer."""
    return Answer(row["key"], Strategy(**row["strategy"]), row["output"], row["execution_id"], row["at"])


def to_label(row: Mapping[str, Any]) -> Label:
    """Read a label."""
    return Label(row["execution_id"], row["quality"], row["at"])
