"""A study: one search, or one run of an optimizer of DSPy, in the background, with everything it did kept."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Literal

from dspex.errors import CancelledError, ExecutionError
from dspex.events import EventBus, StudyAwaited, StudyFinished, StudyStarted
from dspex.optimizers import holdout, tables
from dspex.optimizers.candidates import last_line
from dspex.optimizers.compiling import Compiling
from dspex.optimizers.coordinating import Coordinating
from dspex.optimizers.experiment import Experiment
from dspex.optimizers.ledger import Ledger
from dspex.optimizers.measure import here
from dspex.optimizers.searching import Searching
from dspex.optimizers.trials import Trials, Workshop
from dspex.redact import redact, redacted_traceback, scrub

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    import dspy
    import pandas as pd

    from dspex.optimizers.beacon import Recommendation
    from dspex.optimizers.definition import Definition
    from dspex.optimizers.measure import Measure
    from dspex.optimizers.waiting import Waiting
    from dspex.pools import Pool
    from dspex.records import Candidate, Score, Stint, Trial, Usage
    from dspex.store import Store
    from dspex.variables.leases import Lease, OnConflict
    from dspex.variables.registry import Registry

_WRITERS = (Compiling, Coordinating)
"""Work that makes programs of its own beside configurations."""

StudyState = Literal["queued", "running", "finished", "cancelled", "failed"]

_PAUSE_S = 0.1
"""How often a paused study looks whether it may go on."""


class Study(Experiment):
    """A running or finished search, under the name that the store and `dspex.runs()` know. Made by `dspex.optimize`."""

    def __init__(
        self,
        definition: Definition,
        *,
        pool: Pool,
        store: Store,
        events: EventBus,
        known: Iterable[Score] = (),
        measure: Measure = here,
        pauses: Callable[[], bool] = lambda: False,
        waiting: Waiting | None = None,
    ) -> None:
        self.name = definition.name
        self.definition = definition
        self.events = events
        self.state: StudyState = "running"
        self.reason = ""
        self._store = store
        self._stop = threading.Event()
        self._done = threading.Event()
        self._failure: Exception | None = None
        self._ledger = Ledger(self.name, store, definition.metric_key, known)
        self._trials = Trials(self.name, store, events)
        self._pauses = pauses
        self._waiting = waiting
        shop = Workshop(
            definition, self._ledger, self._trials, pool, store, self._is_stopped, measure, waiting
        )
        self._shop = shop
        self._work = _work(shop, events)
        self._lease: Lease | None = None
        # dspy's settings and the notebook cell that began this travel in context variables.
        context = contextvars.copy_context()
        self._thread = threading.Thread(
            target=context.run, args=(self._run,), name=f"dspex-study-{self.name}", daemon=True
        )

    def _is_stopped(self) -> bool:
        """Say whether to stop. The study's own thread waits here while searching pauses: nothing new begins then."""
        if threading.current_thread() is self._thread:
            while self._pauses() and not self._stop.wait(_PAUSE_S):
                pass
        return self._stop.is_set()

    def lease_of(self, registry: Registry, on_conflict: OnConflict) -> None:
        """Ask for the variables that are searched; until they are granted the study is queued.

        Raises
        ------
        LeaseError
            If `on_conflict` is ``abort`` and somebody has one.
        """
        self._lease = registry.lease(
            self.definition.space or (),
            self,
            on_conflict=on_conflict,
            on_preempted=lambda _: self._stop.set(),
        )
        if self._lease.status == "queued":
            self.state = "queued"

    def start(self) -> Study:
        """Begin; returns at once."""
        self.events.publish(StudyStarted(self.name, self.definition.budget.trials or 0))
        self._thread.start()
        return self

    @property
    def is_simulated(self) -> bool:
        """Whether every model it asks is one of the sandbox's."""
        return all(model.startswith("sandbox/") for model in self.definition.models)

    def __repr__(self) -> str:
        best, baseline = self._best(), self.baseline
        parts = [f"{self.state}", f"{len(self._trials)} trials"]
        if self.pause is not None:
            parts.insert(1, self.pause)
        if self.is_simulated:
            parts.insert(0, "simulated")
        if baseline is not None:
            parts.append(f"default {baseline.score:.3f}")
        if best is not None:
            parts.append(f"best {best.score:.3f}")
        parts.append(f"${self.usage.cost_usd:.4f}")
        parts += [*self.definition.notices, *self._only_failures()]
        return f"<Study {self.name}: {', '.join(parts)}>"

    # ── waiting and stopping ────────────────────────────────────────────────────────────────────

    @property
    def is_done(self) -> bool:
        """Whether it has ended, well or not."""
        return self._done.is_set()

    @property
    def pause(self) -> str | None:
        """What a running study waits for: a model that is not to be asked, or a machine that has too much to do."""
        if self.is_done:
            return None
        waits = None if self._waiting is None else self._waiting.now
        return waits or ("waits for a calmer machine" if self._pauses() else None)

    def wait(self, timeout_s: float | None = None) -> Study:
        """Wait until the study has ended; an interrupt cancels it.

        Raises
        ------
        ExecutionError
            If the study failed, or `timeout_s` passed (the study then goes on).
        """
        try:
            ended = self._done.wait(timeout_s)
        except KeyboardInterrupt:
            self.cancel()
            raise
        if not ended:
            raise ExecutionError(
                f"{self.name} is still running after {timeout_s:g} s", hint="wait() again, or cancel()"
            )
        return self._ended()

    def __await__(self) -> Generator[Any, None, Study]:
        return self._awaited().__await__()

    async def _awaited(self) -> Study:
        # A thread sets it: an asyncio.Event would have to know every loop that waits.
        while not self._done.is_set():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        return self._ended()

    def _ended(self) -> Study:
        self.events.publish(StudyAwaited(self.name))
        if self._failure is not None:
            raise ExecutionError(f"{self.name} failed: {self._failure}") from self._failure
        return self

    def cancel(self) -> None:
        """Stop searching and keep the best so far; calls already sent to a model are not waited for."""
        self._stop.set()
        if threading.current_thread() is not self._thread:
            self._done.wait(0.5)

    # ── results ─────────────────────────────────────────────────────────────────────────────────

    @property
    def finished_trials(self) -> tuple[Trial, ...]:
        """The trials so far, in order."""
        return self._trials.finished

    @property
    def trials(self) -> pd.DataFrame:
        """One row a trial: number, phase, score, examples, failures, cost, latency, and each variable."""
        return tables.of_trials(self.finished_trials)

    @property
    def scores(self) -> pd.DataFrame:
        """The ledger: one row per program and example, with what failed: a model and why, or a traceback."""
        return tables.of_scores(self._ledger.rows())

    @property
    def baseline(self) -> Trial | None:
        """The most thorough trial of the default configuration, or of the program as it was given."""
        work = self._work
        default = work.student_key if isinstance(work, _WRITERS) else self.definition.default_key
        mine = [trial for trial in self.finished_trials if trial.configuration_key == default]
        return max(mine, key=lambda trial: (trial.phase == "final", trial.n_examples), default=None)

    @property
    def best(self) -> Trial:
        """The best trial: of the finalists once they are scored, of the search before.

        Raises
        ------
        ExecutionError
            If no trial has finished yet.
        """
        best = self._best()
        if best is None:
            raise ExecutionError(f"no trial of {self.name} has finished yet", hint="study.wait()")
        return best

    def _best(self) -> Trial | None:
        trials = [trial for trial in self.finished_trials if trial.phase != "bootstrap"]
        finals = [trial for trial in trials if trial.phase == "final"]
        if isinstance(self._work, Searching):
            return next(iter(self._work.ranked(finals or trials)), None)
        if not finals:
            by_key = {trial.configuration_key: trial for trial in trials}
            return next((by_key[key] for key in self._work.best_keys() if key in by_key), None)
        return max(finals or trials, key=lambda trial: trial.score, default=None)

    @property
    def recommendation(self) -> Recommendation | None:
        """What BEACON would use, its expected score, and how probably nothing is better.

        None while it searches, where nothing meets the goal's bounds, and for the optimizers that cannot say.
        """
        return self._work.recommendation if isinstance(self._work, Searching) else None

    @property
    def pareto(self) -> tuple[Trial, ...]:
        """The trials that no other beats in every objective of BEACON's goal; none while it searches."""
        keys = self._work.pareto if isinstance(self._work, Searching) else ()
        thorough = {trial.configuration_key: trial for trial in self.finished_trials}
        return tuple(thorough[key] for key in keys if key in thorough)

    @property
    def planned_scores(self) -> int | None:
        """How many examples a search scores at most, finalists aside; None where that is not known."""
        return self._work.planned_scores if isinstance(self._work, Searching) else None

    @property
    def program(self) -> dspy.Module:
        """The best program found so far: a plain `dspy.Module`, which runs without dspex."""
        return self.program_of(self.best)

    def program_of(self, trial: Trial) -> dspy.Module:
        """Return the program of a trial, as `program` is."""
        if isinstance(self._work, Coordinating):
            return self._work.program(trial)
        if isinstance(self._work, Compiling):
            return self._work.program(trial.configuration_key)
        return self.definition.bind(trial.configuration)

    def definition_of(self, trial: Trial) -> Definition:
        """Return what a trial's program was run for: the study, or the turn of one of several optimizers."""
        if isinstance(self._work, Coordinating):
            return self._work.definition_of(trial.configuration_key)
        return self.definition

    def ledger_key(self, trial: Trial) -> str:
        """Return what the ledger calls the configuration of a trial's program."""
        if isinstance(self._work, Searching):
            return trial.configuration_key
        return self._work.ledger_key(trial.configuration_key)

    @property
    def compiled(self) -> dspy.Module | None:
        """What an optimizer of DSPy returned, with whatever it hangs on it; None for a search."""
        return self._work.compiled if isinstance(self._work, Compiling) else None

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """What each program said that an optimizer of DSPy tried; none for a search."""
        return tuple(self._work.candidates.values()) if isinstance(self._work, _WRITERS) else ()

    @property
    def notices(self) -> tuple[str, ...]:
        """What was mended or went unexpectedly, in sentences."""
        theirs = self._work.notices if isinstance(self._work, _WRITERS) else ()
        waited = () if self._waiting is None else self._waiting.notices
        return *self.definition.notices, *theirs, *waited, *self._only_failures()

    def _only_failures(self) -> tuple[str, ...]:
        """Say so if not one example has been answered and scored: the best of nothing is no find."""
        rows = self._ledger.rows()
        if not rows or any(row.error is None for row in rows):
            return ()
        often, _ = Counter(last_line(row.error) for row in rows).most_common(1)[0]
        who = ", ".join(self.definition.models)
        return (f"every example failed with {who}, most often by {often}; study.scores has each error",)

    @property
    def improvements(self) -> pd.DataFrame:
        """What each of several optimizers gained: by, round, from, to, calls, cost_usd; one row a gain.

        Empty where there is one optimizer.
        """
        return tables.of_gains(self.stints)

    @property
    def stints(self) -> tuple[Stint, ...]:
        """What each of several optimizers did, those that gained nothing included."""
        return tuple(self._work.stints) if isinstance(self._work, Coordinating) else ()

    @property
    def usage(self) -> Usage:
        """What the study has paid for, unfinished trials included."""
        if isinstance(self._work, _WRITERS):
            # It counts what is asked while it compiles and compares; the holdout comes after that.
            return self._work.usage + holdout.usage(self._shop)
        return self._work.usage

    # ── the search, on the study's own thread ───────────────────────────────────────────────────

    def _run(self) -> None:
        if self._waiting is not None:
            self._waiting.begin()
        try:
            self._await_lease()
            self._work.run()
            self._score_holdout()
            self.state, self.reason = "finished", "; ".join([self._work.reason, *self.notices])
        except CancelledError:
            self.state, self.reason = self._how_cancelled()
        except Exception as error:  # noqa: BLE001  # a thread has no caller: wait() raises it there
            scrub(error)
            self.state, self._failure = "failed", error
            self.reason = redact(f"{type(error).__name__}: {error}")
        if self._lease is not None:
            self._lease.release()
        try:
            self._keep_result()
        except Exception as error:  # noqa: BLE001  # a thread has no caller: wait() raises it there
            self.state, self._failure = "failed", error
        error_text = None if self._failure is None else redacted_traceback(self._failure)
        self.events.publish(StudyFinished(self.name, self.reason, error_text))
        self._done.set()

    def _score_holdout(self) -> None:
        best = self._best()
        if self.definition.holdout and best is not None:
            holdout.score(self._shop, [self.best_program(), self.default_program()])

    def _await_lease(self) -> None:
        if self._lease is not None:
            self._lease.wait(stop=self._stop.is_set)
            self.state = "running"

    def _how_cancelled(self) -> tuple[StudyState, str]:
        """Tell the end of the study's time, while it waited, from somebody who stopped it."""
        taker = None if self._lease is None else self._lease.lost_to
        if taker is not None:
            return "cancelled", f"preempted by {taker}"
        over = None if self._waiting is None else self._waiting.out_of_time
        if over is None or self._stop.is_set():
            return "cancelled", "cancelled"
        return "finished", "; ".join([over, *self.notices])

    def _keep_result(self) -> None:
        best, baseline, usage = self._best(), self.baseline, self.usage
        self._store.put_study(
            self.name,
            state=self.state,
            reason=self.reason,
            finished_at=time.time(),
            baseline_score=None if baseline is None else baseline.score,
            best_score=None if best is None else best.score,
            best_configuration=None if best is None else dict(best.configuration),
            calls=usage.calls,
            cost_usd=usage.cost_usd,
        )


def _work(shop: Workshop, events: EventBus) -> Searching | Compiling | Coordinating:
    if shop.definition.plan is not None:
        return Coordinating(shop, events)
    return Searching(shop) if shop.definition.recipe is None else Compiling(shop)
