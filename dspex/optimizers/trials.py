"""A study's trials: numbered, announced, and safe in the store before anybody hears that they ended."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dspex.events import EventBus, ExampleScored, TrialFinished, TrialStarted
from dspex.optimizers.evaluate import Evaluator
from dspex.optimizers.measure import here
from dspex.records import Trial

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from dspex.optimizers.definition import Definition
    from dspex.optimizers.ledger import Ledger
    from dspex.optimizers.measure import Measure
    from dspex.optimizers.waiting import Waiting
    from dspex.pools import Pool
    from dspex.records import Configuration, Score, TrialPhase, Usage
    from dspex.store import Store


class Trials:
    """The trials of one study, in the order in which they were begun.

    A trial that is finished may be taken up again, when more examples of the same program are scored; it
    keeps its number. So does one that an earlier run of the study has stored.
    """

    def __init__(self, study: str, store: Store, events: EventBus) -> None:
        self._study = study
        self._store = store
        self._events = events
        self._lock = threading.Lock()
        self._finished: dict[int, Trial] = {}
        self._stored = {(trial.configuration_key, trial.phase): trial for trial in store.trials(study)}
        self._is_stored = {trial.number: trial for trial in self._stored.values()}
        self._next_number = 1 + max(self._is_stored, default=-1)
        self._numbers: dict[tuple[str, TrialPhase], int] = {}

    def __len__(self) -> int:
        return len(self._finished)

    @property
    def finished(self) -> tuple[Trial, ...]:
        """The trials so far, in order."""
        with self._lock:
            return tuple(self._finished.values())

    def begin(self, configuration: Configuration, key: str, phase: TrialPhase, n_examples: int) -> int:
        """Give a trial its number and announce it."""
        number = self.number(key, phase)
        self._events.publish(TrialStarted(self._study, number, configuration, n_examples, phase))
        return number

    def scored(self, number: int, score: Score) -> None:
        """Announce a row of a running trial."""
        self._events.publish(ExampleScored(self._study, number, score))

    def finish(self, trial: Trial) -> Trial:
        """Keep a trial, and announce it."""
        before = self._is_stored.get(trial.number)
        if before is None:
            self._store.append_trial(self._study, trial)
        elif before.n_examples == trial.n_examples and trial.number not in self._finished:
            trial = before  # a resumed study walks through its old trials again, and pays nothing for them
        elif before.n_examples <= trial.n_examples:
            self._store.replace_trial(self._study, trial)
        with self._lock:
            if before is None or before.n_examples <= trial.n_examples:
                self._is_stored[trial.number] = trial
            self._finished[trial.number] = trial
        self._events.publish(TrialFinished(self._study, trial))
        return trial

    def close(
        self,
        number: int,
        configuration: Configuration,
        key: str,
        rows: Collection[Score],
        usage: Usage,
        *,
        began: float,
        phase: TrialPhase,
    ) -> Trial:
        """Finish a trial with everything that it was scored on."""
        return self.finish(
            Trial(
                number=number,
                configuration=configuration,
                configuration_key=key,
                score=sum(row.score for row in rows) / len(rows),
                n_examples=len(rows),
                n_failed=sum(row.error is not None for row in rows),
                usage=usage,
                started_at=began,
                finished_at=time.time(),
                phase=phase,
            )
        )

    def known(self, number: int) -> Trial | None:
        """Return a trial of this run as it is known by now."""
        with self._lock:
            return self._finished.get(number)

    def number(self, key: str, phase: TrialPhase) -> int:
        """Return a trial's number; a new one gets the next."""
        with self._lock:
            number = self._numbers.get((key, phase))
            if number is None:
                stored = self._stored.get((key, phase))
                number = self._next_number if stored is None else stored.number
                self._next_number = max(self._next_number, number + 1)
                self._numbers[key, phase] = number
            return number


@dataclass(frozen=True)
class Workshop:
    """What a search or an optimizer of DSPy has to work with."""

    definition: Definition
    ledger: Ledger
    trials: Trials
    pool: Pool
    store: Store
    stopped: Callable[[], bool]
    """Whether the user has cancelled."""
    measure: Measure = here
    """Where a program runs on an example."""
    waiting: Waiting | None = None
    """What is done about models whose providers fail; None if nothing is."""

    def evaluator(self, number: int) -> Evaluator:
        """Return what evaluates the programs of one trial."""
        return self._evaluator(lambda score: self.trials.scored(number, score))

    def evaluator_of(self, numbers: Mapping[str, int]) -> Evaluator:
        """Return what evaluates several trials at the same time; `numbers` has theirs by configuration."""
        return self._evaluator(lambda score: self.trials.scored(numbers[score.configuration_key], score))

    def evaluator_beside(self) -> Evaluator:
        """Return what evaluates programs that belong to no trial."""
        return self._evaluator(lambda _: None)

    def _evaluator(self, announce: Callable[[Score], None]) -> Evaluator:
        return Evaluator(
            self.definition.metric,
            self.ledger,
            self.pool,
            stopped=self.stopped,
            announce=announce,
            timeout_s=self.definition.timeout_s,
            measure=self.measure,
            waiting=self.waiting,
        )
