"""Evaluation: a program on examples, through the ledger, so that nothing is paid for twice."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from dspex.bridge import examples as examples_bridge
from dspex.bridge import identity
from dspex.bridge.observe import Stopped
from dspex.errors import ProviderError
from dspex.optimizers.gathering import Gathering, Job, Row, Unanswered
from dspex.optimizers.guarded import Guarded
from dspex.optimizers.measure import Recovering, Timed, here
from dspex.records import Score, ScoreKey, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    import dspy

    from dspex.optimizers.ledger import Ledger
    from dspex.optimizers.measure import Measure
    from dspex.optimizers.waiting import Waiting
    from dspex.pools import Pool

_POLL_S = 0.05
"""How soon a cancellation is noticed while another study is being waited for."""


class Task(NamedTuple):
    """One program, to be scored on examples."""

    program: dspy.Module
    lm: dspy.BaseLM
    configuration_key: str
    examples: Sequence[dspy.Example]


class Scored(NamedTuple):
    """What came of it."""

    scores: list[Score]
    """One per example, in their order."""
    spent: Usage
    """What was newly paid for."""


class Evaluator:
    """Runs programs on examples and scores what they answer.

    A program or a metric that raises is a score of 0 with its traceback; the others go on.

    Parameters
    ----------
    metric
        DSPy's ``metric(example, prediction)``, larger is better.
    stopped
        Asked all the time; when it says yes, `evaluate` ends with `CancelledError`.
    announce
        Called with each new row.
    timeout_s
        How long one example may take; one that takes longer scores 0, and the others go on.
    measure
        Where a program runs on an example: by default on the pool's thread.
    waiting
        What is done about models whose providers fail; without it that scores 0, as any failure does.
    """

    def __init__(
        self,
        metric: Callable[..., Any],
        ledger: Ledger,
        pool: Pool,
        *,
        stopped: Callable[[], bool],
        announce: Callable[[Score], None],
        timeout_s: float | None = None,
        measure: Measure = here,
        waiting: Waiting | None = None,
    ) -> None:
        self._metric = metric
        self._ledger = ledger
        self._pool = pool
        self._stopped = stopped
        self._announce = announce
        self._waiting = waiting
        self._measure: Measure = measure if timeout_s is None else Timed(measure, timeout_s)
        if waiting is not None:
            self._measure = Guarded(self._measure, waiting)
        self._measure = Recovering(self._measure)

    def evaluate(
        self, program: dspy.Module, lm: dspy.BaseLM, configuration_key: str, examples: Sequence[dspy.Example]
    ) -> Scored:
        """Score a program on every example, in their order, and say what was newly paid for."""
        return self.evaluate_all([Task(program, lm, configuration_key, examples)])[0]

    def evaluate_all(self, tasks: Sequence[Task]) -> list[Scored]:
        """Score several programs at the same time, each on its own examples.

        Raises
        ------
        CancelledError
            If `stopped` says so; what was scored until then is in the ledger.
        ProviderError
            If a model does not answer, and is waited for no longer.
        """
        known: list[dict[str, Score]] = []
        rows: list[Row] = []
        for number, task in enumerate(tasks):
            by_key = {examples_bridge.key_of(example): example for example in task.examples}
            text_key = identity.run_key(task.program, identity.said_by(task.program), task.lm)
            job = Job(number, task.program, task.lm, text_key, task.configuration_key)
            known.append(self._ledger.find_all(text_key, task.configuration_key, list(by_key)))
            rows += [Row(job, key, example) for key, example in by_key.items() if key not in known[number]]
        new = self._gathered(rows)
        return [
            self._scored(task, found, new.get(k, {}))
            for k, (task, found) in enumerate(zip(tasks, known, strict=True))
        ]

    def _gathered(self, rows: Sequence[Row]) -> dict[int, dict[str, Score]]:
        """Wait for rows, and keep each as it comes."""
        new: dict[int, dict[str, Score]] = {}
        gathering = Gathering(self._pool, self._once, waiting=self._waiting, stopped=self._stopped)
        for row, score in gathering.gathered(rows):
            new.setdefault(row.job.number, {})[row.example_key] = score
            self._ledger.add(score)
            self._announce(score)
        return new

    @staticmethod
    def _scored(task: Task, known: dict[str, Score], new: dict[str, Score]) -> Scored:
        keys = [examples_bridge.key_of(example) for example in task.examples]
        # Summed in the examples' order: floats added as they came would differ from run to run.
        spent = sum((new[key].usage for key in dict.fromkeys(keys) if key in new), Usage())
        return Scored([new[key] if key in new else known[key] for key in keys], spent)

    def _once(self, row: Row) -> Score:
        """Evaluate, unless another study is at this very row: then take what it gets."""
        job = row.job
        key = ScoreKey(job.text_key, job.configuration_key, row.example_key, self._ledger.metric_key)
        flights = self._ledger.flights
        while (flying := flights.join(key)) is not None:
            theirs = self._waited(flying)
            if theirs is not None:
                return replace(theirs, usage=Usage())
        mine: Score | None = None
        try:
            mine = self._score(row)
        finally:
            flights.land(key, mine)
        return mine

    def _waited(self, flying: Future[Score | None]) -> Score | None:
        while True:
            try:
                return flying.result(timeout=_POLL_S)
            except TimeoutError:
                if self._stopped():
                    raise Stopped from None

    def _score(self, row: Row) -> Score:
        """Evaluate on this thread; what a provider did wrong is told, if anything is done about that."""
        job = row.job
        found = self._measure(job.program, job.lm, self._metric, row.example, self._stopped)
        score = Score(
            configuration_key=job.configuration_key,
            example_key=row.example_key,
            score=found.score,
            usage=found.usage,
            error=found.error,
            text_key=job.text_key,
            metric_key=self._ledger.metric_key,
            feedback=found.feedback,
            execution_id=uuid.uuid4().hex,
        )
        if self._waiting is not None and isinstance(found.failure, ProviderError):
            raise Unanswered(score, found.failure)
        return score
