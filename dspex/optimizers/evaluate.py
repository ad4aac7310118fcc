"""Evaluation: a program on examples, through the ledger, so that nothing is paid for twice."""

from __future__ import annotations

import concurrent.futures
import contextvars
import threading
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from dspex.bridge import examples as examples_bridge
from dspex.bridge import identity
from dspex.bridge import program as program_bridge
from dspex.bridge.observe import Stopped
from dspex.errors import CancelledError
from dspex.records import Score, ScoreKey, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import dspy

    from dspex.optimizers.ledger import Ledger
    from dspex.pools import Pool

_POLL_S = 0.05
"""How soon a cancellation is noticed while models are being waited for."""


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


@dataclass(frozen=True)
class _Job:
    """A task's program, told from others by what it says."""

    program: dspy.Module
    lm: dspy.BaseLM
    text_key: str
    configuration_key: str


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
    ) -> None:
        self._metric = metric
        self._ledger = ledger
        self._pool = pool
        self._stopped = stopped
        self._announce = announce
        self._timeout_s = timeout_s

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
        """
        known: list[dict[str, Score]] = []
        pending: dict[concurrent.futures.Future[Score], tuple[int, str]] = {}
        for number, task in enumerate(tasks):
            by_key = {examples_bridge.key_of(example): example for example in task.examples}
            text_key = identity.run_key(task.program, identity.said_by(task.program), task.lm)
            job = _Job(task.program, task.lm, text_key, task.configuration_key)
            known.append(self._ledger.find_all(text_key, task.configuration_key, list(by_key)))
            for key, example in by_key.items():
                if key not in known[number]:
                    pending[self._pool.submit(self._once, job, key, example)] = number, key
        new = self._gathered(pending)
        return [
            self._scored(task, found, new.get(k, {}))
            for k, (task, found) in enumerate(zip(tasks, known, strict=True))
        ]

    def _gathered(
        self, pending: dict[concurrent.futures.Future[Score], tuple[int, str]]
    ) -> dict[int, dict[str, Score]]:
        """Wait for rows, and keep each as it comes."""
        new: dict[int, dict[str, Score]] = {}
        while pending:
            if self._stopped():
                for future in pending:
                    future.cancel()
                raise CancelledError("the evaluation was cancelled")
            done, _ = concurrent.futures.wait(pending, timeout=_POLL_S, return_when="FIRST_COMPLETED")
            for future in done:
                number, key = pending.pop(future)
                new.setdefault(number, {})[key] = scored = self._result(future)
                self._ledger.add(scored)
                self._announce(scored)
        return new

    @staticmethod
    def _scored(task: Task, known: dict[str, Score], new: dict[str, Score]) -> Scored:
        keys = [examples_bridge.key_of(example) for example in task.examples]
        # Summed in the examples' order: floats added as they came would differ from run to run.
        spent = sum((new[key].usage for key in dict.fromkeys(keys) if key in new), Usage())
        return Scored([new[key] if key in new else known[key] for key in keys], spent)

    @staticmethod
    def _result(future: concurrent.futures.Future[Score]) -> Score:
        try:
            return future.result()
        except Stopped as stopped:
            raise CancelledError("the evaluation was cancelled") from stopped

    def _once(self, job: _Job, example_key: str, example: dspy.Example) -> Score:
        """Evaluate, unless another study is at this very row: then take what it gets."""
        key = ScoreKey(job.text_key, job.configuration_key, example_key, self._ledger.metric_key)
        flights = self._ledger.flights
        while (flying := flights.join(key)) is not None:
            theirs = self._waited(flying)
            if theirs is not None:
                return replace(theirs, usage=Usage())
        mine: Score | None = None
        try:
            mine = self._in_time(job, example_key, example)
        finally:
            flights.land(key, mine)
        return mine

    def _waited(self, flying: concurrent.futures.Future[Score | None]) -> Score | None:
        while True:
            try:
                return flying.result(timeout=_POLL_S)
            except TimeoutError:
                if self._stopped():
                    raise Stopped from None

    def _in_time(self, job: _Job, example_key: str, example: dspy.Example) -> Score:
        """Evaluate on this thread, or if time is limited on one that can be left behind."""
        if self._timeout_s is None:
            return self._score(job, example_key, example, self._stopped)
        given_up = threading.Event()
        answer: concurrent.futures.Future[Score] = concurrent.futures.Future()

        def work() -> None:
            try:
                answer.set_result(
                    self._score(job, example_key, example, lambda: self._stopped() or given_up.is_set())
                )
            except BaseException as error:  # noqa: BLE001  # a future carries whatever ended its task
                answer.set_exception(error)

        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(work,), name="dspex-timed", daemon=True).start()
        try:
            return answer.result(timeout=self._timeout_s)
        except TimeoutError:
            given_up.set()
            error = f"TimeoutError: the example took longer than {self._timeout_s:g} s"
            return self._row(job, example_key, error=error, usage=Usage(latency_s=self._timeout_s))

    def _score(
        self, job: _Job, example_key: str, example: dspy.Example, stopped: Callable[[], bool]
    ) -> Score:
        inputs = examples_bridge.inputs_of(example)
        prediction, outcome = program_bridge.run(
            job.program, inputs, job.lm, failures=(Exception,), stop=stopped
        )
        if prediction is None:
            return self._row(job, example_key, error=outcome.traceback, usage=outcome.usage)
        verdict, judging = program_bridge.judged(self._metric, example, prediction, job.lm, stop=stopped)
        return replace(
            self._row(job, example_key, error=verdict.error, usage=outcome.usage + judging),
            score=verdict.score,
            feedback=verdict.feedback,
        )

    def _row(self, job: _Job, example_key: str, *, error: str | None, usage: Usage) -> Score:
        return Score(
            configuration_key=job.configuration_key,
            example_key=example_key,
            score=0.0,
            usage=usage,
            error=error,
            text_key=job.text_key,
            metric_key=self._ledger.metric_key,
            execution_id=uuid.uuid4().hex,
        )
