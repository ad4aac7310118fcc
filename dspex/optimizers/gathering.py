"""Gathering rows: each is scored on a pool, and one that its provider failed is submitted again."""

from __future__ import annotations

import concurrent.futures
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from dspex.bridge.observe import Stopped
from dspex.errors import CancelledError, CircuitOpenError, ExecutionError, ProviderError
from dspex.records import Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import dspy

    from dspex.optimizers.waiting import Waiting
    from dspex.pools import Pool
    from dspex.records import Score

_POLL_S = 0.05
"""How soon a cancellation is noticed while models are being waited for."""


@dataclass(frozen=True)
class Job:
    """A task's program, told from others by what it says."""

    number: int
    """The task's."""
    program: dspy.Module
    lm: dspy.BaseLM
    text_key: str
    configuration_key: str


@dataclass(eq=False)
class Row:
    """A row that is to be scored, and what was tried so far."""

    job: Job
    example_key: str
    example: dspy.Example
    tries: int = 0
    since: float = 0.0
    """When it failed first."""
    due: float = 0.0
    """When it may be asked again."""
    waits_for: str | None = None
    """The model that failed."""
    paid: Usage = field(default_factory=Usage)
    """For what failed."""


class Unanswered(Exception):  # noqa: N818  # nobody here did anything wrong
    """Says that a provider failed a row; the score stands if it is not tried again."""

    def __init__(self, score: Score, failure: ProviderError) -> None:
        super().__init__(failure.message)
        self.score, self.failure = score, failure


class Gathering:
    """Rows under way, until each is scored.

    Parameters
    ----------
    pool
        Whose threads score rows. None of them waits for a provider: that is done on the caller's.
    score
        Scores a row, or raises `Unanswered`.
    waiting
        What is done about providers that fail; None if `score` never says so.
    stopped
        Asked all the time.
    """

    def __init__(
        self,
        pool: Pool,
        score: Callable[[Row], Score],
        *,
        waiting: Waiting | None,
        stopped: Callable[[], bool],
    ) -> None:
        self._pool, self._score, self._waiting, self._stopped = pool, score, waiting, stopped
        self._pending: dict[concurrent.futures.Future[Score], Row] = {}
        self._held: list[Row] = []
        self._ended: ExecutionError | None = None

    def gathered(self, rows: Iterable[Row]) -> Iterator[tuple[Row, Score]]:
        """Yield each row with its score as it comes.

        Raises
        ------
        CancelledError
            If `stopped` says so, or the time is over while a provider is waited for.
        ProviderError
            If a provider is waited for no longer; what is under way is yielded before.
        """
        self._submit(rows)
        while self._pending or (self._held and self._ended is None):
            if self._stopped():
                self._drop_queued()
                raise CancelledError("the evaluation was cancelled")
            self._go_on()
            yield from self._arrived()
        if self._ended is not None:
            raise self._ended

    def _submit(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self._pending[self._pool.submit(self._score, row)] = row

    def _drop_queued(self) -> None:
        for future in list(self._pending):
            if future.cancel():
                del self._pending[future]

    def _arrived(self) -> Iterator[tuple[Row, Score]]:
        if not self._pending:
            time.sleep(_POLL_S)
            return
        done, _ = concurrent.futures.wait(self._pending, timeout=_POLL_S, return_when="FIRST_COMPLETED")
        for future in done:
            row = self._pending.pop(future)
            score = self._result(future, row)
            if score is not None:
                yield row, replace(score, usage=row.paid + score.usage) if row.paid.calls else score

    def _result(self, future: concurrent.futures.Future[Score], row: Row) -> Score | None:
        """Return a row's score, or None if it is to be scored again."""
        try:
            score = future.result()
        except Stopped as stopped:
            raise CancelledError("the evaluation was cancelled") from stopped
        except Unanswered as unanswered:
            return self._again(row, unanswered)
        if self._waiting is not None and row.waits_for is not None and score.error is None:
            self._waiting.answered([row.waits_for])
        return score

    # ── rows that a provider failed ─────────────────────────────────────────────────────────────

    def _again(self, row: Row, unanswered: Unanswered) -> Score | None:
        """Hold a row back for later; return its score if that stands."""
        assert self._waiting is not None  # nobody else says that a row was not answered
        failure, now = unanswered.failure, self._waiting.guards.clock()
        row.since = row.since or now
        row.tries += not isinstance(failure, CircuitOpenError)  # it was not asked
        try:
            delay = self._waiting.delay_s(failure, tries=row.tries, since=row.since)
        except ProviderError as error:
            self._end(error)
            return None
        if delay is None:
            return unanswered.score
        row.paid += replace(unanswered.score.usage, latency_s=0.0)
        row.due, row.waits_for = now + delay, failure.provider or ""
        self._held.append(row)
        return None

    def _go_on(self) -> None:
        """Submit again what is due, or end if that was waited for long enough."""
        if self._waiting is None or not self._held or self._ended is not None:
            return
        try:
            self._waiting.check((row.waits_for or "", row.since) for row in self._held)
        except ExecutionError as error:
            self._end(error)
            return
        now = self._waiting.guards.clock()
        due = [row for row in self._held if row.due <= now and self._waiting.may_ask(row.waits_for or "")]
        self._held = [row for row in self._held if row not in due]
        self._submit(due)

    def _end(self, error: ExecutionError) -> None:
        """Begin nothing more; what is under way is paid for, and still taken in."""
        self._ended = self._ended or error
        self._drop_queued()
