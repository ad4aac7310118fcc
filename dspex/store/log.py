"""The store: rows go in through one background writer, and come out as records or DataFrames."""

from __future__ import annotations

import atexit
import gc
import weakref
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.exc import DBAPIError

from dspex.errors import StoreError
from dspex.records import Answer, Candidate, Execution, Label, Reply, Score, Trial, Usage
from dspex.redact import redact
from dspex.store import schema
from dspex.store.database import default_url, open_engine
from dspex.store.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pandas as pd
    from sqlalchemy import Connection

__all__ = ["Cursor", "Store", "default_url"]


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a reader has read the log."""

    execution: int = 0
    label: int = 0


class Store:
    """Keeps executions, labels and studies.

    Appending costs the caller a queue put; one thread writes, every 50 rows or 100 ms. `flush` waits
    until everything is in the database, where it survives the process being killed.

    Parameters
    ----------
    url
        ``memory``, a path to a SQLite file, or a database URL.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._engine = open_engine(url)
        self._writer = Writer(self._engine)
        # A weak reference: the interpreter's exit must not be what keeps a store alive.
        atexit.register(_close, weakref.ref(self))

    def __repr__(self) -> str:
        return f"<Store {self._engine.url.render_as_string()}>"

    # ── writing ─────────────────────────────────────────────────────────────────────────────────

    def append(self, record: Execution | Label) -> None:
        """Put one row at the end of the log."""
        if isinstance(record, Execution):
            self._writer.put(schema.execution, schema.execution_row(record))
        else:
            self._writer.put(schema.label, schema.label_row(record))

    def append_score(self, study: str, score: Score) -> None:
        """Put one row into a study's ledger."""
        self._writer.put(schema.score, schema.score_row(study, score))

    def append_trial(self, study: str, trial: Trial) -> None:
        """Keep a finished trial, and return when it is safe."""
        self._writer.put(schema.trial, schema.trial_row(study, trial))
        self.flush()

    def replace_trial(self, study: str, trial: Trial) -> None:
        """Keep what is now known of a trial that was kept before."""
        table = schema.trial
        self.flush()
        with self._connection() as connection:
            connection.execute(
                update(table)
                .where(table.c.study == study, table.c.number == trial.number)
                .values(**schema.trial_row(study, trial))
            )

    def append_candidate(self, study: str, candidate: Candidate) -> None:
        """Keep what a program of a study says."""
        self._writer.put(schema.candidate, schema.candidate_row(study, candidate))

    def append_reply(self, study: str, reply: Reply) -> None:
        """Keep a model's answer, and return when it is safe: it was paid for."""
        # On the caller's thread: handing it over and waiting takes longer than writing it.
        with self._connection() as connection:
            connection.execute(self._writer.insertion(schema.reply), schema.reply_row(study, reply))

    def append_answer(self, answer: Answer) -> None:
        """Keep an answer for the next time that the same is asked; it takes the place of an older one."""
        self._writer.put(schema.answer, schema.answer_row(answer))

    def forget_answer(self, key: str) -> None:
        """Drop an answer."""
        self.flush()
        with self._connection() as connection:
            connection.execute(delete(schema.answer).where(schema.answer.c.key == key))

    def put_study(self, name: str, **columns: Any) -> None:
        """Begin a study's row or change columns of it."""
        self.flush()
        if columns.get("reason") is not None:
            columns["reason"] = redact(columns["reason"])
        with self._connection() as connection:
            changed = connection.execute(
                update(schema.study).where(schema.study.c.name == name).values(**columns)
            )
            if changed.rowcount == 0:
                connection.execute(insert(schema.study).values(name=name, **columns))

    def flush(self) -> None:
        """Wait until every row appended so far is in the database.

        Raises
        ------
        StoreError
            If rows could not be written since the last flush.
        """
        self._writer.flush()

    def close(self) -> None:
        """Write what is waiting and let the database go. Closing twice is fine."""
        if self._writer.close():
            self._engine.dispose()

    # ── reading ─────────────────────────────────────────────────────────────────────────────────

    def since(self, cursor: Cursor, *, limit: int | None = None) -> tuple[list[Execution | Label], Cursor]:
        """Read what was logged after `cursor`, oldest first, and where that leaves the reader.

        With `limit`, only the newest so many executions.
        """
        self.flush()
        executions, labels = schema.execution, schema.label
        with self._connection() as connection:
            if limit is not None:
                newest = connection.execute(select(func.max(executions.c.seq))).scalar() or 0
                cursor = Cursor(max(cursor.execution, newest - limit), cursor.label)
            rows = connection.execute(
                select(executions).where(executions.c.seq > cursor.execution).order_by(executions.c.seq)
            )
            found: list[Execution | Label] = []
            last_execution, last_label = cursor.execution, cursor.label
            for row in rows:
                found.append(schema.to_execution(row._asdict()))
                last_execution = row.seq
            rows = connection.execute(
                select(labels).where(labels.c.seq > cursor.label).order_by(labels.c.seq)
            )
            for row in rows:
                found.append(schema.to_label(row._asdict()))
                last_label = row.seq
        found.sort(key=lambda record: record.at)
        return found, Cursor(last_execution, last_label)

    def scores(self, study: str) -> list[Score]:
        """Read a study's ledger."""
        return self._scores(select(*schema.SCORE_COLUMNS).where(schema.score.c.study == study))

    def shared_scores(
        self, text_key: str, metric_key: str, configuration_key: str, example_keys: Sequence[str]
    ) -> list[Score]:
        """Read what any study has paid for: rows of one program under one metric, without failures."""
        table = schema.score
        query = select(*schema.SCORE_COLUMNS).where(
            table.c.text_key == text_key,
            table.c.metric_key == metric_key,
            table.c.configuration_key == configuration_key,
            table.c.error.is_(None),
        )
        wanted = set(example_keys)
        return [row for row in self._scores(query) if row.example_key in wanted]

    def candidates(self, study: str) -> list[Candidate]:
        """Read what the programs of a study say, in order."""
        table = schema.candidate
        query = select(table).where(table.c.study == study).order_by(table.c.number)
        return [schema.to_candidate(row) for row in self._rows(query)]

    def reply(self, key: str) -> Reply | None:
        """Read a model's answer, if it was paid for before."""
        with self._connection() as connection:
            row = connection.execute(select(schema.reply).where(schema.reply.c.key == key)).first()
        return None if row is None else schema.to_reply(row._asdict())

    def reply_keys(self) -> set[str]:
        """Return the keys of every reply that was paid for."""
        with self._connection() as connection:
            return set(connection.execute(select(schema.reply.c.key)).scalars())

    def replies_usage(self, study: str) -> Usage:
        """Add up what a study paid for replies."""
        table = schema.reply
        columns = (table.c.calls, table.c.tokens_in, table.c.tokens_out, table.c.cost_usd, table.c.latency_s)
        query = select(*(func.coalesce(func.sum(column), 0).label(column.name) for column in columns))
        return schema.to_usage(self._rows(query.where(table.c.study == study))[0])

    def trials(self, study: str) -> list[Trial]:
        """Read a study's finished trials, in order."""
        table = schema.trial
        query = select(table).where(table.c.study == study).order_by(table.c.number)
        return [schema.to_trial(row) for row in self._rows(query)]

    def answer(self, key: str) -> Answer | None:
        """Find an answer among those that are in the database; one that is still on its way is not waited for."""
        with self._connection() as connection:
            row = connection.execute(select(schema.answer).where(schema.answer.c.key == key)).first()
        return None if row is None else schema.to_answer(row._asdict())

    def study(self, name: str) -> Mapping[str, Any] | None:
        """Read a study's row."""
        return next(iter(self._rows(select(schema.study).where(schema.study.c.name == name))), None)

    def studies(self) -> pd.DataFrame:
        """Return every study with its trials and cost, newest first."""
        trial, score, study = schema.trial, schema.score, schema.study
        trials = select(trial.c.study, func.count().label("trials")).group_by(trial.c.study).subquery()
        # Money is counted in the ledger: it holds what unfinished trials have paid for too.
        spent = (
            select(
                score.c.study,
                func.sum(score.c.calls).label("calls"),
                func.sum(score.c.cost_usd).label("cost_usd"),
            )
            .group_by(score.c.study)
            .subquery()
        )
        query = (
            select(
                *(column for column in study.columns if column.name not in {"calls", "cost_usd"}),
                trials.c.trials,
                # What an optimizer of DSPy asks beside the rows, its study adds up when it ends.
                func.coalesce(study.c.calls, spent.c.calls).label("calls"),
                func.coalesce(study.c.cost_usd, spent.c.cost_usd).label("cost_usd"),
            )
            .join(trials, trials.c.study == study.c.name, isouter=True)
            .join(spent, spent.c.study == study.c.name, isouter=True)
            .order_by(study.c.started_at.desc())
        )
        frame = self._frame(query)
        return frame.fillna({"trials": 0, "calls": 0, "cost_usd": 0.0}).astype({"trials": int, "calls": int})

    def history(self, *, limit: int | None = None) -> pd.DataFrame:
        """Return the executions with their latest label, newest first."""
        execution, label = schema.execution, schema.label
        newest = (
            select(label.c.execution_id, func.max(label.c.seq).label("seq"))
            .group_by(label.c.execution_id)
            .subquery()
        )
        query = (
            select(execution, label.c.quality)
            .join(newest, newest.c.execution_id == execution.c.id, isouter=True)
            .join(label, label.c.seq == newest.c.seq, isouter=True)
            .order_by(execution.c.seq.desc())
        )
        frame = self._frame(query if limit is None else query.limit(limit))
        overtaken = [bool(each) for each in frame["overtaken"]]  # rows older than the column have none
        return frame.drop(columns=["seq"]).assign(overtaken=overtaken)

    def _rows(self, query: Any) -> list[dict[str, Any]]:
        self.flush()
        with self._connection() as connection:
            return [row._asdict() for row in connection.execute(query)]

    def _scores(self, query: Any) -> list[Score]:
        self.flush()
        with self._connection() as connection, _uncollected():
            return [schema.to_score(row) for row in connection.execute(query)]

    def _frame(self, query: Any) -> pd.DataFrame:
        import pandas as pd

        self.flush()
        with self._connection() as connection:
            result = connection.execute(query)
            frame = pd.DataFrame(result.all(), columns=list(result.keys()))
        for column in ("at", "started_at", "finished_at"):
            if column in frame:
                frame[column] = pd.to_datetime(frame[column], unit="s", utc=True)
        return frame

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        """Open a transaction; what the database says against it becomes a `StoreError`."""
        self._writer.refuse_closed()
        try:
            with self._engine.begin() as connection:
                yield connection
        except DBAPIError as error:
            raise StoreError(f"{self._engine.url.render_as_string()} cannot be used: {error.orig}") from error


@contextmanager
def _uncollected() -> Iterator[None]:
    """Collect no garbage meanwhile: among very many new rows, looking for it takes as long as reading them."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _close(reference: weakref.ref[Store]) -> None:
    store = reference()
    if store is not None:
        store.close()
