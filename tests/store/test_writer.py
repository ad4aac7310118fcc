"""The writer: what it waits for, and which answers it lets go."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import insert, inspect, text

from dspex.records import Answer, Score, Strategy
from dspex.store import Store, schema, writer


def answer(number, at=None):
    at = float(number) if at is None else at
    return Answer(f"k{number}", Strategy("m", "Predict"), {"answer": str(number)}, f"e{number}", at)


def kept(store, numbers):
    store.flush()
    return [number for number in numbers if store.answer(f"k{number}") is not None]


@pytest.fixture
def few(monkeypatch):
    """Keep the newest five answers, and look after every third."""
    monkeypatch.setattr(writer, "_ANSWERS", 5)
    monkeypatch.setattr(writer, "_ANSWERS_BETWEEN_LOOKS", 3)


def test_flushing_while_closing_does_not_hang(store, monkeypatch):
    """A flush that has begun when another thread closes the store comes back."""

    class Met(writer._Flush):
        def __init__(self):
            super().__init__()
            closing = threading.Thread(target=store.close)
            closing.start()
            closing.join(0.5)  # a store may as well let the flush go first

    monkeypatch.setattr(writer, "_Flush", Met)
    flushing = threading.Thread(target=store.flush, daemon=True)
    flushing.start()
    flushing.join(5)
    assert not flushing.is_alive()


def test_the_oldest_answers_leave_and_nothing_else_does(store, few):
    """However many are brought, the newest stay, and no other table is touched."""
    store.append_score("s", Score("c", "e", 1.0))
    for number in range(40):
        store.append_answer(answer(number))
        store.flush()
    left = kept(store, range(40))
    assert left == list(range(left[0], 40))
    assert 5 <= len(left) < 5 + 3
    assert len(store.scores("s")) == 1


def test_up_to_the_limit_every_answer_stays(store, few):
    """As many as fit are kept, whatever order they came in."""
    for number in (4, 0, 3, 1, 2):
        store.append_answer(answer(number))
        store.flush()
    assert kept(store, range(5)) == [0, 1, 2, 3, 4]


def test_an_answer_given_anew_is_as_young_as_its_newest_time(store, few):
    """What is asked again does not leave by the time at which it was asked first."""
    for number in range(5):
        store.append_answer(answer(number))
    store.flush()
    store.append_answer(answer(0, at=99.0))
    for number in (5, 6, 7):
        store.append_answer(answer(number))
        store.flush()
    assert 0 in kept(store, range(8))
    assert 1 not in kept(store, range(8))


def test_answers_of_one_moment_do_not_leave_together(store, few):
    """Where the clock did not move between many answers, none of them is taken for the oldest."""
    for number in range(12):
        store.append_answer(answer(number, at=1.0))
        store.flush()
    assert kept(store, range(12)) == list(range(12))


def test_an_older_store_is_brought_within_the_limit_and_gets_its_index(store, few):
    """A store that grew before there was a limit loses its oldest answers with the first new one."""
    with store._engine.begin() as connection:
        connection.execute(text("DROP INDEX answer_by_age"))
        rows = [schema.answer_row(answer(number)) for number in range(20)]
        connection.execute(insert(schema.answer), rows)
    again = Store(store._engine.url.render_as_string(hide_password=False))
    assert "answer_by_age" in {index["name"] for index in inspect(again._engine).get_indexes("answer")}
    again.append_answer(answer(20))
    again.flush()
    with again._engine.connect() as connection:
        left = connection.execute(text("SELECT key FROM answer ORDER BY at")).scalars().all()
    assert left == ["k16", "k17", "k18", "k19", "k20"]
    again.close()
