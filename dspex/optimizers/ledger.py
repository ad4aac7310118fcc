"""The ledger: every evaluation that was paid for, so that none is paid for twice."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import replace
from typing import TYPE_CHECKING

from dspex.records import Score, ScoreKey, Usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dspex.store import Store


_REMEMBERED = 10_000
"""Rows of other studies that need not be read from the store."""


class Ledger:
    """One study's rows, in memory and in the store; rows of other studies come in when they are the same.

    Parameters
    ----------
    study
        Whose it is.
    store
        Where rows are kept, and where other studies' rows are.
    metric_key
        What the study's metric computes.
    known
        Rows that the study has paid for before.
    """

    def __init__(self, study: str, store: Store, metric_key: str = "", known: Iterable[Score] = ()) -> None:
        self.metric_key = metric_key
        self.flights = _flights_of(store)
        self._study = study
        self._store = store
        self._lock = threading.Lock()
        # Whoever resumes a study says that its metric is the same, whatever else changed around it.
        mine = [
            score if score.metric_key == metric_key else replace(score, metric_key=metric_key)
            for score in known
        ]
        self._scores = {score.key: score for score in mine}
        self._took: dict[ScoreKey, Usage] = {}
        # Rows of databases that knew no text keys are told apart by configuration alone.
        self._unnamed = {
            (score.configuration_key, score.example_key): score
            for score in self._scores.values()
            if not score.text_key
        }

    def __len__(self) -> int:
        return len(self._scores)

    def find(self, key: ScoreKey) -> Score | None:
        """Return the row, if the study has it."""
        found = self._scores.get(key)
        return found or self._unnamed.get((key.configuration_key, key.example_key))

    def find_all(
        self, text_key: str, configuration_key: str, example_keys: Sequence[str]
    ) -> dict[str, Score]:
        """Return the rows of a program by example, the ones included that other studies have paid for."""
        keys = {
            each: ScoreKey(text_key, configuration_key, each, self.metric_key)
            for each in dict.fromkeys(example_keys)
        }
        found = {each: row for each, key in keys.items() if (row := self.find(key)) is not None}
        missing = [each for each in keys if each not in found]
        if missing:
            shared = self._store.shared_scores(text_key, self.metric_key, configuration_key, missing)
            for row in shared:
                if row.repetition == 0 and row.example_key not in found:
                    found[row.example_key] = self.borrow(row)
        return found

    def borrow(self, row: Score) -> Score:
        """Take over a row that somebody else has paid for."""
        borrowed = replace(row, usage=Usage())
        self._took[row.key] = row.usage
        self.add(borrowed)
        return borrowed

    def add(self, score: Score) -> bool:
        """Keep a row; False if it was there already."""
        with self._lock:
            if score.key in self._scores:
                return False
            self._scores[score.key] = score
        self._store.append_score(self._study, score)
        return True

    def took(self, row: Score) -> Usage:
        """Return what an evaluation took, whoever paid for it; nothing where that is not known."""
        return self._took.get(row.key, row.usage)

    def rows(self) -> list[Score]:
        """Return every row."""
        with self._lock:
            return list(self._scores.values())


class Flights:
    """Evaluations that are under way, or just over: whoever asks for the same one gets its row."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flying: dict[ScoreKey, Future[Score | None]] = {}
        self._landed: OrderedDict[ScoreKey, Score] = OrderedDict()

    def join(self, key: ScoreKey) -> Future[Score | None] | None:
        """Return the evaluation under way; None makes it the caller's, who must `land` it."""
        with self._lock:
            if key in self._landed:
                there: Future[Score | None] = Future()
                there.set_result(self._landed[key])
                return there
            flying = self._flying.get(key)
            if flying is None:
                self._flying[key] = Future()
            return flying

    def land(self, key: ScoreKey, score: Score | None) -> None:
        """Hand the row to whoever waits; None says that there is none, and another may try."""
        with self._lock:
            flying = self._flying.pop(key)
            if score is not None and score.error is None:
                self._landed[key] = score
                while len(self._landed) > _REMEMBERED:
                    self._landed.popitem(last=False)
        flying.set_result(score)


_lock = threading.Lock()
_flights: weakref.WeakKeyDictionary[Store, Flights] = weakref.WeakKeyDictionary()


def _flights_of(store: Store) -> Flights:
    with _lock:
        return _flights.setdefault(store, Flights())
