"""Evaluation: a program on examples, through the ledger, so that nothing is paid for twice."""

from __future__ import annotations

import concurrent.futures
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dspex.bridge import examples as examples_bridge
from dspex.bridge import program as program_bridge
from dspex.bridge.observe import Stopped
from dspex.errors import CancelledError
from dspex.records import Score, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import dspy

    from dspex.pools import Pool
    from dspex.store import Store

_POLL_S = 0.05
"""How soon a cancellation is noticed while models are being waited for."""


class Ledger:
    """Every (configuration, example) score of one study, in memory and in the store."""

    def __init__(self, study: str, store: Store, known: Iterable[Score] = ()) -> None:
        self._study = study
        self._store = store
        self._scores = {(score.configuration_key, score.example_key): score for score in known}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._scores)

    def find(self, configuration_key: str, example_key: str) -> Score | None:
        """Return the row, if it has been paid for."""
        return self._scores.get((configuration_key, example_key))

    def add(self, score: Score) -> None:
        """Keep a row."""
        with self._lock:
            self._scores[score.configuration_key, score.example_key] = score
        self._store.append_score(self._study, score)

    def rows(self) -> list[Score]:
        """Return every row."""
        with self._lock:
            return list(self._scores.values())


class Evaluator:
    """Runs programs on examples and scores what they answer.

    A program or a metric that raises is a score of 0 with its traceback; the others go on.

    Parameters
    ----------
    metric
        DSPy's ``metric(example, prediction)``, larger is better.
    stopped
        Asked all the time; when it says yes, `evaluate` ends with `CancelledError`.
    """

    def __init__(
        self,
        metric: Callable[..., Any],
        ledger: Ledger,
        pool: Pool,
        *,
        stopped: Callable[[], bool],
        announce: Callable[[Score], None],
    ) -> None:
        self._metric = metric
        self._ledger = ledger
        self._pool = pool
        self._stopped = stopped
        self._announce = announce

    def evaluate(
        self, program: dspy.Module, lm: dspy.BaseLM, configuration_key: str, examples: Sequence[dspy.Example]
    ) -> tuple[list[Score], Usage]:
        """Score a program on every example, in their order, and say what was newly paid for."""
        keys = [examples_bridge.key_of(example) for example in examples]
        scores = {key: self._ledger.find(configuration_key, key) for key in keys}
        pending: dict[concurrent.futures.Future[Score], str] = {}
        for key, example in zip(keys, examples, strict=True):
            if scores[key] is None and key not in pending.values():
                future = self._pool.submit(self._score, program, lm, configuration_key, key, example)
                pending[future] = key
        new: dict[str, Score] = {}
        while pending:
            if self._stopped():
                for future in pending:
                    future.cancel()
                raise CancelledError("the evaluation was cancelled")
            done, _ = concurrent.futures.wait(pending, timeout=_POLL_S, return_when="FIRST_COMPLETED")
            for future in done:
                try:
                    scored = future.result()
                except Stopped as stopped:
                    raise CancelledError("the evaluation was cancelled") from stopped
                new[pending.pop(future)] = scored
                self._ledger.add(scored)
                self._announce(scored)
        # Summed in the examples' order: floats added as they came would differ from run to run.
        spent = sum((new[key].usage for key in dict.fromkeys(keys) if key in new), Usage())
        known = {**scores, **new}
        return [score for key in keys if (score := known[key]) is not None], spent

    def _score(
        self,
        program: dspy.Module,
        lm: dspy.BaseLM,
        configuration_key: str,
        example_key: str,
        example: dspy.Example,
    ) -> Score:
        prediction, outcome = program_bridge.run(
            program, examples_bridge.inputs_of(example), lm, failures=(Exception,), stop=self._stopped
        )
        row = Score(configuration_key, example_key, 0.0, outcome.usage, outcome.traceback)
        if prediction is None:
            return row
        value, error, judging = program_bridge.judged(
            self._metric, example, prediction, lm, stop=self._stopped
        )
        return replace(row, score=value, error=error, usage=outcome.usage + judging)
