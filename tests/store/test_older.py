"""Databases of earlier versions open, keep their rows, and take today's."""

from __future__ import annotations

import contextlib
import sqlite3

from dspex.records import Candidate, Reply, Score, Usage
from dspex.store import Store

OLDER = """
CREATE TABLE score (
    seq INTEGER NOT NULL PRIMARY KEY, study VARCHAR NOT NULL, configuration_key VARCHAR(16) NOT NULL,
    example_key VARCHAR(16) NOT NULL, score FLOAT NOT NULL, calls INTEGER NOT NULL, tokens_in INTEGER NOT NULL,
    tokens_out INTEGER NOT NULL, cost_usd FLOAT NOT NULL, latency_s FLOAT NOT NULL, error TEXT
);
CREATE UNIQUE INDEX score_by_study ON score (study, configuration_key, example_key);
INSERT INTO score VALUES (1, 'old', 'c', 'e', 0.5, 1, 2, 3, 0.4, 0.5, NULL);
"""


def test_an_older_database_is_brought_up_to_date(tmp_path):
    """Its rows are there, and rows that only differ in what it did not know fit in beside them."""
    path = tmp_path / "older.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(OLDER)
    for _ in range(2):  # the second time there is nothing left to do
        store = Store(str(path))
        old = Score("c", "e", 0.5, Usage(1, 2, 3, 0.4, 0.5))
        assert store.scores("old")[0] == old
        store.append_score("old", Score("c", "e", 1.0, text_key="t", metric_key="m"))
        assert len(store.scores("old")) == 2
        store.close()


def test_what_comes_twice_is_kept_as_it_came_first():
    """A thread that was left behind may bring a row, a candidate or a reply again."""
    store = Store("memory")
    for score, text in ((1.0, "one"), (0.0, "two")):
        store.append_score("s", Score("c", "e", score, text_key="t"))
        store.append_candidate("s", Candidate("k", 0, {"self": text}, {}))
        store.append_reply("s", Reply("r", {"text": text}, Usage(1, 2, 3)))
    assert [row.score for row in store.scores("s")] == [1.0]
    assert [each.instructions for each in store.candidates("s")] == [{"self": "one"}]
    assert store.reply("r") == Reply("r", {"text": "one"}, Usage(1, 2, 3))
    assert store.replies_usage("s") == Usage(1, 2, 3)
    assert store.reply("unknown") is None
    store.close()


def test_the_cost_of_a_study_holds_what_was_asked_beside_its_rows():
    """Its own sum counts once it has ended, its rows before."""
    store = Store("memory")
    store.put_study(
        "s", started_at=0.0, state="running", program="p", optimizer="o", metric="m", seed=0, definition={}
    )
    store.append_score("s", Score("c", "e", 1.0, Usage(2, cost_usd=0.2)))
    assert store.studies().loc[0, ["calls", "cost_usd"]].tolist() == [2, 0.2]
    store.put_study("s", calls=3, cost_usd=0.3)
    assert store.studies().loc[0, ["calls", "cost_usd"]].tolist() == [3, 0.3]
    store.close()
