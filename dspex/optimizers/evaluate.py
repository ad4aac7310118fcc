"""Evaluation: a program on examples, through the ledger, so that nothing is paid for twice."""

from __future__ import annotations

import concurrent.futures
import contextvars
import threading
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

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


@dataclass(frozen=True)
class _Job:
    """One program, to be run on examples."""

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
    ) -> tuple[list[Score], Usage]:
        """Score a program on every example, in their order, and say what was newly paid for."""
        by_key = {examples_bridge.key_of(example): example for example in examples}
        text_key = identity.run_key(program, identity.said_by(program), lm)
        job = _Job(program, lm, text_key, configuration_key)
        scores = self._ledger.find_all(text_key, configuration_key, list(by_key))
        new: dict[str, Score] = {}
        pending = {
            self._pool.submit(self._once, job, key, example): key
            for key, example in by_key.items()
            if key not in scores
        }
        while pending:
            if self._stopped():
                for future in pending:
                    future.cancel()
                raise CancelledError("the evaluation was cancelled")
            done, _ = concurrent.futures.wait(pending, timeout=_POLL_S, return_when="FIRST_COMPLETED")
            for future in done:
                new[pending.pop(future)] = scored = self._result(future)
                self._ledger.add(scored)
                self._announce(scored)
        # Summed in the examples' order: floats added as they came would differ from run to run.
        spent = sum((new[key].usage for key in by_key if key in new), Usage())
        known = {**scores, **new}
        return [known[examples_bridge.key_of(example)] for example in examples], spent

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
