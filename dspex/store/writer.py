"""The writer: one thread that puts rows into the database, a few at a time."""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, Insert, Table, delete, insert, select, text
from sqlalchemy.dialects import postgresql, sqlite

from dspex.errors import StoreError
from dspex.redact import quiet_logger
from dspex.store import schema

if TYPE_CHECKING:
    from sqlalchemy import Connection

_log = quiet_logger("dspex.store")
_BATCH_ROWS = 50
_BATCH_S = 0.1
_ANSWERS = 100_000
"""Answers of the response cache that are kept; the oldest go first."""
_ANSWERS_BETWEEN_LOOKS = 1_000

# Readers go on from the last number they saw, so that rows must become visible in the order of their numbers.
# SQLite has one writer at a time; PostgreSQL is told to.
_ONE_WRITER = text("LOCK TABLE execution, label IN SHARE ROW EXCLUSIVE MODE")

_Row = tuple[Table, dict[str, Any]]


class _Flush:
    """Travels through the queue; what was put in before it is in the database when `done` is set."""

    def __init__(self) -> None:
        self.done = threading.Event()


class Writer:
    """Takes rows from any thread and writes them in order, every 50 rows or 100 ms.

    Parameters
    ----------
    engine
        The database; it is not disposed of.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._queue: queue.SimpleQueue[_Row | _Flush | None] = queue.SimpleQueue()
        self._failure: Exception | None = None
        self._answers_until_look = 0
        self._closing = threading.Lock()
        self.is_closed = False
        self._thread = threading.Thread(target=self._write, name="dspex-store", daemon=True)
        self._thread.start()

    def put(self, table: Table, row: dict[str, Any]) -> None:
        """Put a row at the end of the queue.

        Raises
        ------
        StoreError
            If the store is closed.
        """
        with self._closing:
            self.refuse_closed()
            self._queue.put((table, row))

    def flush(self) -> None:
        """Wait until every row that was put so far is in the database; a closed writer has nothing left.

        Raises
        ------
        StoreError
            If rows could not be written since the last flush.
        """
        mark = _Flush()
        with self._closing:
            if self.is_closed:
                return
            self._queue.put(mark)
        mark.done.wait()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise StoreError(
                f"rows could not be written to {self._engine.url.render_as_string()}: {failure}",
                hint="is the disk full, or another program holding the file?",
            ) from failure

    def close(self) -> bool:
        """Write what is waiting and end; False if that was done before."""
        with self._closing:
            if self.is_closed:
                return False
            self.is_closed = True
            self._queue.put(None)
        self._thread.join(timeout=10)
        return True

    def refuse_closed(self) -> None:
        """Raise `StoreError` once it is closed."""
        if self.is_closed:
            raise StoreError("the store is closed", hint="dspex.configure(...) opens one")

    def insertion(self, table: Table) -> Insert:
        """Return the statement that adds rows; what two studies may both bring is kept as the first brought it."""
        dialect = {"sqlite": sqlite, "postgresql": postgresql}[self._engine.dialect.name]
        if table is schema.answer:
            fresh = dialect.insert(table)
            newer = {column.name: fresh.excluded[column.name] for column in table.columns}
            replacing: Insert = fresh.on_conflict_do_update(index_elements=["key"], set_=newer)
            return replacing
        if table not in schema.BROUGHT_TWICE:
            return insert(table)
        statement: Insert = dialect.insert(table).on_conflict_do_nothing()
        return statement

    # ── the thread ──────────────────────────────────────────────────────────────────────────────

    def _write(self) -> None:
        going = True
        while going:
            rows, marks, going = self._gather()
            if not self._inserted(rows):
                # One of them is at fault: the others must not be lost with it.
                for row in rows:
                    self._inserted([row], is_last_try=True)
            for mark in marks:
                mark.done.set()

    def _gather(self) -> tuple[list[_Row], list[_Flush], bool]:
        """Wait for a first item, then take what comes until the batch is full, old, or asked for."""
        rows: list[_Row] = []
        item = self._queue.get()
        deadline = time.monotonic() + _BATCH_S
        while True:
            if item is None:
                return rows, [], False
            if isinstance(item, _Flush):
                return rows, [item], True
            rows.append(item)
            if len(rows) >= _BATCH_ROWS:
                return rows, [], True
            try:
                item = self._queue.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return rows, [], True

    def _inserted(self, rows: list[_Row], *, is_last_try: bool = False) -> bool:
        by_table: dict[Table, list[dict[str, Any]]] = {}
        for table, row in rows:
            by_table.setdefault(table, []).append(row)
        try:
            with self._engine.begin() as connection:
                if self._engine.dialect.name == "postgresql":
                    connection.execute(_ONE_WRITER)
                for table, each in by_table.items():
                    connection.execute(self.insertion(table), each)
                self._forget_old_answers(connection, len(by_table.get(schema.answer, ())))
        except Exception as error:  # noqa: BLE001  # the writer must outlive any row, or `flush` would wait for ever
            if is_last_try:
                self._failure = error
                _log.exception("a row of %s could not be written", rows[0][0].name)
            return False
        return True

    def _forget_old_answers(self, connection: Connection, n_new: int) -> None:
        """Drop the oldest answers beyond the limit, now and then; a process looks at its first."""
        self._answers_until_look -= n_new
        if n_new == 0 or self._answers_until_look > 0:
            return
        self._answers_until_look = _ANSWERS_BETWEEN_LOOKS
        at = schema.answer.c.at
        # Answers of one moment stay together: a clock may be coarse.
        oldest_kept = select(at).order_by(at.desc()).offset(_ANSWERS - 1).limit(1).scalar_subquery()
        connection.execute(delete(schema.answer).where(at < oldest_kept))
