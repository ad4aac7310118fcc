from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.schema import CreateTable

from dspex.records import Candidate, Execution, Label, Requirements, Score, Strategy, Trial, Usage
from dspex.store import schema

USAGE = Usage(1, 2, 3, 4e-6, 0.5)


def test_records_become_rows_and_rows_records():
    """Each record's row reads back as the record, and fills exactly the columns that the table has."""
    asked = Requirements("QA", "k", 3, 2, True, "high")
    pairs = [
        (
            schema.execution,
            execution := Execution(
                "e", 1.0, asked, Strategy("m", "P"), "fallback", {}, False, USAGE, "no", "p", {"t": 0.5}
            ),
            schema.execution_row(execution),
            schema.to_execution,
        ),
        (schema.label, label := Label("e", 0.5, 2.0), schema.label_row(label), schema.to_label),
        (
            schema.trial,
            trial := Trial(3, {"t": 1}, "k", 0.5, 4, 1, USAGE, 1.0, 2.0, "final"),
            schema.trial_row("s", trial),
            schema.to_trial,
        ),
        (
            schema.score,
            score := Score("c", "e", 1.0, USAGE, "no", "t", "m", 2, "Wrong.", "x"),
            schema.score_row("s", score),
            lambda row: schema.to_score([row[column.name] for column in schema.SCORE_COLUMNS]),
        ),
        (
            schema.candidate,
            candidate := Candidate("k", 3, {"self": "Do."}, {"self": ({"q": "1"},)}, "j"),
            schema.candidate_row("s", candidate),
            schema.to_candidate,
        ),
    ]
    for table, record, row, back in pairs:
        assert back(row) == record
        assert {*row, "seq"} == set(table.columns.keys())


def test_tables_compile_for_both_databases():
    """The one schema is valid for SQLite and for PostgreSQL."""
    for table in schema.metadata.sorted_tables:
        for dialect in (sqlite.dialect(), postgresql.dialect()):
            assert f"CREATE TABLE {table.name}" in str(CreateTable(table).compile(dialect=dialect))
