"""The tables, and how records become rows and rows become records. One schema for SQLite and PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import JSON, Boolean, Column, Float, Index, Integer, MetaData, String, Table, Text

from dspex.records import Execution, Label, Requirements, Score, Strategy, Trial, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

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
    Index("score_by_study", "study", "configuration_key", "example_key", unique=True),
)


def usage_row(usage: Usage) -> dict[str, Any]:
    """Return a usage's columns."""
    return {
        "calls": usage.calls,
        "tokens_in": usage.tokens_in,
        "tokens_out": usage.tokens_out,
        "cost_usd": usage.cost_usd,
        "latency_s": usage.latency_s,
    }


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
        "error": record.error,
        "parent_id": record.parent_id,
        "configuration": dict(record.configuration),
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
        "error": record.error,
        **usage_row(record.usage),
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
        ),
        strategy=Strategy(row["model"], row["module"]),
        role=row["role"],
        propensities=row["propensities"],
        ok=row["ok"],
        usage=to_usage(row),
        error=row["error"],
        parent_id=row["parent_id"],
        configuration=row["configuration"] or {},  # rows older than the column have none
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


def to_score(row: Mapping[str, Any]) -> Score:
    """Read a ledger row."""
    return Score(row["configuration_key"], row["example_key"], row["score"], to_usage(row), row["error"])


def to_label(row: Mapping[str, Any]) -> Label:
    """Read a label."""
    return Label(row["execution_id"], row["quality"], row["at"])
