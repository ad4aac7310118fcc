import contextlib
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import threading

import pandas as pd
import pytest
from sqlalchemy import event, text

from dspex.errors import StoreError
from dspex.records import Answer, Execution, Label, Requirements, Score, Strategy, Trial, Usage
from dspex.store import Store
from dspex.store.log import Cursor

ASKED = Requirements("QA", "5ig", 12, 1, False, "low")


def execution(name, at=1.0, **changes):
    given = {
        "requirements": ASKED,
        "strategy": Strategy("sandbox/small", "Predict"),
        "role": "policy",
        "propensities": {"sandbox/small · Predict": 1.0},
        "ok": True,
        "usage": Usage(1, 20, 3, 1e-5, 0.25),
    }
    return Execution(name, at, **{**given, **changes})


def trial(number, score=0.5, **changes):
    given = {
        "configuration": {"t": 0.5, "tone": None},
        "configuration_key": f"k{number}",
        "n_examples": 4,
        "n_failed": 1,
        "usage": Usage(4, 80, 12, 4e-5, 1.0),
        "started_at": 10.0 + number,
        "finished_at": 11.0 + number,
    }
    return Trial(number=number, score=score, **{**given, **changes})


def begin(store, name, started_at=1.0):
    store.put_study(
        name,
        started_at=started_at,
        state="running",
        program="QA",
        optimizer="beacon",
        metric="exact_match",
        seed=0,
        definition={"space": "s"},
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs.db"


# ── the log ─────────────────────────────────────────────────────────────────────────────────────


def test_what_goes_in_comes_out(store):
    """Every field of an execution and of a label survives."""
    records = [
        execution("a", 1.0),
        execution(
            "b", 2.0, ok=False, error="it broke: ü → 漢", role="fallback", parent_id="a", propensities={}
        ),
        Label("a", 0.75, 3.0),
    ]
    for record in records:
        store.append(record)
    assert store.since(Cursor())[0] == records


def test_reading_goes_on_where_it_stopped(store):
    """A cursor marks what has been read, executions and labels apart; nothing comes twice."""
    assert store.since(Cursor()) == ([], Cursor(0, 0))
    store.append(execution("a", 1.0))
    found, cursor = store.since(Cursor())
    assert [record.id for record in found] == ["a"]
    assert store.since(cursor) == ([], cursor)
    store.append(Label("a", 1.0, 2.0))
    store.append(execution("b", 3.0))
    found, later = store.since(cursor)
    assert found == [Label("a", 1.0, 2.0), execution("b", 3.0)]
    assert store.since(later) == ([], later)
    assert len(store.since(Cursor())[0]) == 3


def test_read_in_order_of_time(store):
    """Executions and labels come together, oldest first, whatever order they were kept in."""
    for record in (execution("late", 9.0), Label("late", 1.0, 5.0), execution("early", 1.0)):
        store.append(record)
    assert [record.at for record in store.since(Cursor())[0]] == [1.0, 5.0, 9.0]


def test_limit_keeps_the_newest_executions(store):
    """With a limit the older executions are passed over; the cursor is at the end all the same."""
    for number in range(10):
        store.append(execution(f"e{number}", float(number)))
    found, cursor = store.since(Cursor(), limit=3)
    assert [record.id for record in found] == ["e7", "e8", "e9"]
    assert store.since(cursor)[0] == []
    assert len(store.since(Cursor(), limit=100)[0]) == 10


def test_what_was_appended_is_flushed_before_reading(store):
    """A reader in the same process never misses what was appended before it asked."""
    for number in range(200):
        store.append(execution(f"e{number}"))
        assert len(store.since(Cursor(execution=number))[0]) == 1


def test_many_threads_lose_nothing(store):
    """Rows appended from several threads, while others read, are all there."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # threads meet more often than they usually would
    done = threading.Event()

    def write(name):
        for number in range(1000):
            store.append(execution(f"{name}{number}"))

    def read():
        while not done.is_set():
            store.history(limit=5)
            store.study("s")

    try:
        readers = [threading.Thread(target=read) for _ in range(3)]
        writers = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
        for thread in [*readers, *writers]:
            thread.start()
        for thread in writers:
            thread.join()
        done.set()
        for thread in readers:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert len({record.id for record in store.since(Cursor())[0]}) == 4000


def test_reading_does_not_undo_what_is_being_written(store):
    """A row that is written, but not yet committed, when a reader lets go is kept."""
    written, released = threading.Event(), threading.Event()

    def after(connection, cursor, statement, *rest):
        if statement.startswith("INSERT INTO execution"):
            written.set()
            released.wait(1)
        elif statement.startswith("SELECT study") and not written.is_set():
            store.append(execution("meanwhile"))
            written.wait(1)  # a store may as well let the writer wait

    event.listen(store._engine, "after_cursor_execute", after)
    store.study("s")
    released.set()
    assert [record.id for record in store.since(Cursor())[0]] == ["meanwhile"]


def test_flush_makes_it_safe(path):
    """After a flush another reader of the file finds the rows."""
    store = Store(str(path))
    store.append(execution("a"))
    store.flush()
    with sqlite3.connect(path) as other:
        assert other.execute("select id, cost_usd from execution").fetchall() == [("a", 1e-5)]
    other.close()
    store.close()


def test_closing_writes_what_waits(path):
    """Rows appended just before `close` are kept; closing twice is fine."""
    store = Store(str(path))
    for number in range(120):
        store.append(execution(f"e{number}"))
    store.close()
    store.close()
    again = Store(str(path))
    assert len(again.since(Cursor())[0]) == 120
    again.close()


@pytest.mark.parametrize(
    "use",
    [
        lambda store: store.append(execution("a")),
        lambda store: store.append_score("s", Score("c", "e", 1.0)),
        lambda store: store.append_trial("s", trial(0)),
        lambda store: store.put_study("s", state="done"),
        lambda store: store.since(Cursor()),
        lambda store: store.history(),
        lambda store: store.studies(),
        lambda store: store.trials("s"),
        lambda store: store.scores("s"),
        lambda store: store.study("s"),
    ],
    ids=["append", "score", "trial", "put_study", "since", "history", "studies", "trials", "scores", "study"],
)
def test_a_closed_store_says_so(store, use):
    """Nothing is written to or read from a store that is closed."""
    store.close()
    with pytest.raises(StoreError) as caught:
        use(store)
    assert str(caught.value) == "the store is closed\n  → dspex.configure(...) opens one"


def test_repr_hides_passwords(path):
    """A store shows where it lies."""
    store = Store(str(path))
    assert repr(store) == f"<Store sqlite:///{path}>"
    store.close()


# ── rows that cannot be written ─────────────────────────────────────────────────────────────────


def test_a_row_that_cannot_be_written_surfaces_at_the_next_flush(store):
    """The failure is told once, to the next who waits; the writer lives on."""
    store.append(execution("a"))
    store.flush()
    store.append(execution("a"))
    with pytest.raises(
        StoreError, match=r"rows could not be written to (sqlite|postgresql).*(?i:unique)"
    ) as caught:
        store.flush()
    assert caught.value.hint == "is the disk full, or another program holding the file?"
    store.flush()
    store.append(execution("b"))
    assert [record.id for record in store.since(Cursor())[0]] == ["a", "b"]


def test_one_bad_row_takes_no_others_with_it(store, caplog):
    """Rows that were waiting together with one that cannot be written are kept."""
    caplog.set_level(logging.CRITICAL, logger="dspex.store")
    store.append(execution("a"))
    store.flush()
    for name in ("b", "a", "c"):
        store.append(execution(name))
    with pytest.raises(StoreError):
        store.flush()
    assert [record.id for record in store.since(Cursor())[0]] == ["a", "b", "c"]


def test_closing_with_a_failed_row_does_not_hide_it(path, caplog):
    """A row that could not be written is at least in the log when the store closes."""
    store = Store(str(path))
    with caplog.at_level(logging.ERROR, logger="dspex.store"):
        store.append(execution("a"))
        store.append(execution("a"))
        store.close()
    assert any("could not be written" in record.getMessage() for record in caplog.records)


def test_a_file_that_was_taken_away_is_reported(path):
    """Writing to a database that somebody emptied is an error, and reading too."""
    store = Store(str(path))
    with sqlite3.connect(path) as other:
        other.execute("drop table execution")
    other.close()
    store.append(execution("a"))
    with pytest.raises(StoreError, match="no such table: execution"):
        store.flush()
    with pytest.raises(StoreError, match="no such table: execution"):
        store.history()
    store.close()


# ── processes ───────────────────────────────────────────────────────────────────────────────────

WRITER = """
import sys
sys.path.insert(0, {folder!r})
from dspex.records import Execution, Requirements, Strategy, Usage
from dspex.store import Store
store = Store({path!r})
print("open", flush=True)
sys.stdin.readline()
for number in range({n}):
    store.append(Execution({name!r} + str(number), 1.0, Requirements("QA", "k", 1, 1, False, "low"),
                           Strategy("m", "P"), "policy", {{}}, True, Usage()))
    if number % 20 == 0:
        store.flush()
store.flush()
print("flushed", flush=True)
sys.stdin.readline()
store.close()
"""


def writer(path, name, n):
    code = WRITER.format(folder=os.getcwd(), path=str(path), name=name, n=n)  # noqa: PTH109  # the child imports from here
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "open\n"
    return process


def go_on(process):
    process.stdin.write("\n")
    process.stdin.flush()


def test_two_processes_write_one_file(path):
    """Two kernels that write to the same project's store at the same time lose nothing."""
    writers = [writer(path, name, 600) for name in "ab"]
    for process in writers:
        go_on(process)
    for process in writers:
        assert process.communicate("\n", timeout=60)[0] == "flushed\n"
        assert process.returncode == 0
    store = Store(str(path))
    found, _ = store.since(Cursor())
    store.close()
    assert {record.id for record in found} == {f"{name}{number}" for name in "ab" for number in range(600)}
    assert len(found) == 1200


def test_two_processes_write_one_database(postgres):
    """Two kernels on one PostgreSQL server lose nothing."""
    writers = [writer(postgres, name, 100) for name in "ab"]
    for process in writers:
        go_on(process)
    for process in writers:
        assert process.communicate("\n", timeout=60)[0] == "flushed\n"
    with contextlib.closing(Store(postgres)) as store:
        found, _ = store.since(Cursor())
    assert {record.id for record in found} == {f"{name}{number}" for name in "ab" for number in range(100)}


def test_a_reader_misses_no_row_that_was_numbered_early_and_committed_late(postgres):
    """Rows become visible in the order of their numbers, also when the first writer is slow to commit."""
    numbered, committed = threading.Event(), threading.Event()

    def pause(_connection, _cursor, statement, *_):
        if statement.startswith("INSERT INTO execution"):
            numbered.set()
            committed.wait(30)

    slow, quick, reader = (Store(postgres) for _ in range(3))
    event.listen(slow._engine, "after_cursor_execute", pause)
    slow.append(execution("early"))
    assert numbered.wait(30)
    quick.append(execution("late"))
    flushing = threading.Thread(target=quick.flush)
    flushing.start()
    waiting = text("select count(*) from pg_locks where not granted")
    with reader._engine.connect() as connection:
        while flushing.is_alive() and not connection.execute(waiting).scalar():
            flushing.join(0.01)
    first, cursor = reader.since(Cursor())
    committed.set()
    flushing.join(30)
    slow.flush()
    second, _ = reader.since(cursor)
    for store in (slow, quick, reader):
        store.close()
    assert [record.id for record in [*first, *second]] == ["early", "late"]


def test_a_killed_process_loses_nothing_it_had_flushed(path):
    """What was flushed is there after `kill -9`."""
    process = writer(path, "a", 100)
    go_on(process)
    assert process.stdout.readline() == "flushed\n"
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    store = Store(str(path))
    assert len(store.since(Cursor())[0]) == 100
    store.append(execution("after"))
    store.flush()
    store.close()


def test_leaving_without_closing_keeps_what_was_appended(path):
    """A kernel that simply ends still writes what it had appended."""
    code = WRITER.format(folder=os.getcwd(), path=str(path), name="a", n=3)  # noqa: PTH109  # the child imports from here
    code = code.rsplit("store.flush()", 1)[0]
    subprocess.run([sys.executable, "-c", code], input="\n", text=True, check=True, capture_output=True)
    store = Store(str(path))
    assert len(store.since(Cursor())[0]) == 3
    store.close()


# ── studies ─────────────────────────────────────────────────────────────────────────────────────


def test_study_rows_are_begun_and_changed(store):
    """The first `put_study` makes the row, later ones change columns of it."""
    assert store.study("s") is None
    begin(store, "s")
    store.put_study("s", state="done", best_score=0.75, best_configuration={"t": 0.5})
    row = store.study("s")
    assert (row["state"], row["best_score"], row["best_configuration"], row["definition"], row["seed"]) == (
        "done",
        0.75,
        {"t": 0.5},
        {"space": "s"},
        0,
    )


def test_trials_and_scores_come_back(store):
    """A study's trials come by number, its ledger rows as they are, and other studies' do not."""
    trials = [trial(1, phase="final"), trial(0)]
    scores = [
        Score("k0", "e0", 1.0, Usage(1, 2, 3, 4e-6, 0.5)),
        Score("k0", "e1", 0.0, Usage(), "Traceback …"),
    ]
    for each in trials:
        store.append_trial("s", each)
    for each in scores:
        store.append_score("s", each)
    store.append_trial("other", trial(0))
    assert store.trials("s") == [trials[1], trials[0]]
    assert store.scores("s") == scores
    assert store.scores("other") == []


def test_a_trial_is_safe_when_it_returns(path):
    """`append_trial` returns only once the row is in the file."""
    store = Store(str(path))
    store.append_trial("s", trial(0))
    with sqlite3.connect(path) as other:
        assert other.execute("select count(*) from trial").fetchone() == (1,)
    other.close()
    store.close()


def test_studies_frame(store):
    """Studies come newest first, with their trials, calls and cost; one without either counts 0."""
    begin(store, "old", 1.0)
    begin(store, "new", 2.0)
    store.append_trial("old", trial(0))
    store.append_trial("old", trial(1))
    store.append_score("old", Score("k0", "e0", 1.0, Usage(2, 2, 3, 0.25, 0.5)))
    store.append_score("old", Score("k0", "e1", 1.0, Usage(1, 2, 3, 0.5, 0.5)))
    frame = store.studies()
    assert frame["name"].tolist() == ["new", "old"]
    assert frame[["trials", "calls", "cost_usd"]].to_numpy().tolist() == [[0, 0, 0.0], [2, 3, 0.75]]
    assert frame["trials"].dtype == int
    assert frame["started_at"].tolist() == [
        pd.Timestamp(2, unit="s", tz="UTC"),
        pd.Timestamp(1, unit="s", tz="UTC"),
    ]


def test_empty_frames_have_their_columns(store):
    """Before anything has happened, both frames are empty and have their columns."""
    assert (len(store.studies()), len(store.history())) == (0, 0)
    assert {"name", "state", "trials", "calls", "cost_usd", "best_score"} <= set(store.studies().columns)
    assert {"id", "at", "model", "module", "ok", "quality"} <= set(store.history().columns)


# ── history ─────────────────────────────────────────────────────────────────────────────────────


def test_history_frame(store):
    """Executions come newest first, as many as asked for, at times that pandas knows."""
    for number in range(3):
        store.append(execution(f"e{number}", float(number)))
    frame = store.history()
    assert frame["id"].tolist() == ["e2", "e1", "e0"]
    assert frame["at"].iloc[0] == pd.Timestamp(2, unit="s", tz="UTC")
    assert frame["quality"].isna().all()
    assert "seq" not in frame
    assert store.history(limit=2)["id"].tolist() == ["e2", "e1"]
    assert frame.loc[0, ["model", "module", "role", "ok", "calls", "tokens_in"]].tolist() == [
        "sandbox/small",
        "Predict",
        "policy",
        True,
        1,
        20,
    ]


def test_the_latest_label_wins(store):
    """Judging an answer again replaces the earlier judgement, and makes no second row."""
    store.append(execution("a"))
    store.append(execution("b"))
    for quality in (0.0, 0.5, 1.0):
        store.append(Label("a", quality, 2.0))
    frame = store.history().set_index("id")
    assert len(frame) == 2
    assert frame.loc["a", "quality"] == 1.0
    assert pd.isna(frame.loc["b", "quality"])


def test_an_answer_is_kept_replaced_and_forgotten(store):
    """The newest of one key is found, here and by whoever opens the store next; a forgotten one is not."""
    first = Answer("k", Strategy("m", "Predict"), {"answer": "a", "items": [1]}, "e1", 1.0)
    newer = Answer("k", Strategy("m", "ChainOfThought"), {"answer": "b"}, "e2", 2.0)
    for each in (first, newer):
        store.append_answer(each)
    store.flush()
    assert store.answer("k") == newer
    assert store.answer("other") is None
    store.forget_answer("k")
    assert store.answer("k") is None


def test_errors_are_kept_without_secrets(store):
    """What somebody else wrote into an error, a feedback or a reason may hold a key."""
    planted = "Authorization: Bearer zebra-crossing-0815"
    store.append(execution("e1", ok=False, error=planted))
    assert "zebra" not in store.history()["error"].iloc[0]
