"""A study: one search over one space, in the background, with everything it did kept."""

from __future__ import annotations

import asyncio
import contextvars
import random
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any, Literal

from dspex.errors import CancelledError, ExecutionError
from dspex.events import (
    EventBus,
    ExampleScored,
    StudyAwaited,
    StudyFinished,
    StudyStarted,
    TrialFinished,
    TrialStarted,
)
from dspex.optimizers import search_named
from dspex.optimizers.evaluate import Evaluator, Ledger
from dspex.records import Configuration, Score, Trial, TrialPhase, Usage

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence

    import dspy
    import pandas as pd

    from dspex.optimizers.definition import Definition
    from dspex.pools import Pool
    from dspex.store import Store
    from dspex.variables.leases import Lease, OnConflict
    from dspex.variables.registry import Registry

StudyState = Literal["queued", "running", "finished", "cancelled", "failed"]

_SAMPLE = 48
"""Examples that every search trial shares; the finalists are then scored on all."""
_FINALISTS = 3


class Study:
    """A running or finished search, under the name that the store and `dspex.runs()` know. Made by `dspex.optimize`."""

    def __init__(
        self,
        definition: Definition,
        *,
        pool: Pool,
        store: Store,
        events: EventBus,
        known: Iterable[Score] = (),
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
        self._lock = threading.Lock()
        self._trials: list[Trial] = []
        self._stored = {(trial.configuration_key, trial.phase): trial for trial in store.trials(self.name)}
        self._next_number = 1 + max((trial.number for trial in self._stored.values()), default=-1)
        self._ledger = Ledger(self.name, store, known)
        self._pool = pool
        self._lease: Lease | None = None
        # dspy's settings and the notebook cell that began this travel in context variables.
        context = contextvars.copy_context()
        self._thread = threading.Thread(
            target=context.run, args=(self._run,), name=f"dspex-study-{self.name}", daemon=True
        )

    def lease_of(self, registry: Registry, on_conflict: OnConflict) -> None:
        """Ask for the variables that are searched; until they are granted the study is queued.

        Raises
        ------
        LeaseError
            If `on_conflict` is ``abort`` and somebody has one.
        """
        self._lease = registry.lease(
            self.definition.space, self, on_conflict=on_conflict, on_preempted=lambda _: self._stop.set()
        )
        if self._lease.status == "queued":
            self.state = "queued"

    def start(self) -> Study:
        """Begin; returns at once."""
        self.events.publish(StudyStarted(self.name, self.definition.budget.trials))
        self._thread.start()
        return self

    @property
    def is_simulated(self) -> bool:
        """Whether every model it asks is one of the sandbox's."""
        return all(model.startswith("sandbox/") for model in self.definition.models)

    def __repr__(self) -> str:
        best, baseline = self._best(), self.baseline
        parts = [f"{self.state}", f"{len(self._trials)} trials"]
        if self.is_simulated:
            parts.insert(0, "simulated")
        if baseline is not None:
            parts.append(f"default {baseline.score:.3f}")
        if best is not None:
            parts.append(f"best {best.score:.3f}")
        parts.append(f"${self.usage.cost_usd:.4f}")
        return f"<Study {self.name}: {', '.join(parts)}>"

    # ── waiting and stopping ────────────────────────────────────────────────────────────────────

    @property
    def is_done(self) -> bool:
        """Whether it has ended, well or not."""
        return self._done.is_set()

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
        with self._lock:
            return tuple(self._trials)

    @property
    def trials(self) -> pd.DataFrame:
        """One row a trial: number, phase, score, examples, failures, cost, latency, and each variable."""
        import pandas as pd

        rows = [
            {
                "number": trial.number,
                "phase": trial.phase,
                "score": trial.score,
                "n_examples": trial.n_examples,
                "n_failed": trial.n_failed,
                "calls": trial.usage.calls,
                "cost_usd": trial.usage.cost_usd,
                "latency_s": trial.usage.latency_s,
                **trial.configuration,
            }
            for trial in self.finished_trials
        ]
        return pd.DataFrame(rows).set_index("number") if rows else pd.DataFrame()

    @property
    def scores(self) -> pd.DataFrame:
        """The ledger: one row per configuration and example, with the traceback of what failed."""
        import pandas as pd

        return pd.DataFrame(
            [
                {
                    "configuration": score.configuration_key,
                    "example": score.example_key,
                    "score": score.score,
                    "cost_usd": score.usage.cost_usd,
                    "latency_s": score.usage.latency_s,
                    "error": score.error,
                }
                for score in self._ledger.rows()
            ]
        )

    @property
    def baseline(self) -> Trial | None:
        """The default configuration's most thorough trial."""
        default = self.definition.space.key_of(self.definition.space.default())
        mine = [trial for trial in self.finished_trials if trial.configuration_key == default]
        return max(mine, key=lambda trial: trial.n_examples, default=None)

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
        trials = self.finished_trials
        finals = [trial for trial in trials if trial.phase == "final"]
        return max(finals or trials, key=lambda trial: trial.score, default=None)

    @property
    def program(self) -> dspy.Module:
        """The best program found so far: a plain `dspy.Module`, which runs without dspex."""
        return self.definition.bind(self.best.configuration)

    @property
    def usage(self) -> Usage:
        """What the study has paid for, unfinished trials included."""
        return sum((score.usage for score in self._ledger.rows()), Usage())

    # ── the search, on the study's own thread ───────────────────────────────────────────────────

    def _run(self) -> None:
        try:
            self._await_lease()
            self._search()
            self.state = "finished"
        except CancelledError:
            self.state, self.reason = "cancelled", self._why_cancelled()
        except Exception as error:  # noqa: BLE001  # a thread has no caller: wait() raises it there
            self.state, self.reason, self._failure = "failed", f"{type(error).__name__}: {error}", error
        if self._lease is not None:
            self._lease.release()
        try:
            self._keep_result()
        except Exception as error:  # noqa: BLE001  # a thread has no caller: wait() raises it there
            self.state, self._failure = "failed", error
        error_text = None if self._failure is None else "".join(traceback.format_exception(self._failure))
        self.events.publish(StudyFinished(self.name, self.reason, error_text))
        self._done.set()

    def _await_lease(self) -> None:
        if self._lease is not None:
            self._lease.wait(stop=self._stop.is_set)
            self.state = "running"

    def _why_cancelled(self) -> str:
        taker = None if self._lease is None else self._lease.lost_to
        return "cancelled" if taker is None else f"preempted by {taker}"

    def _search(self) -> None:
        what = self.definition
        search = search_named(what.optimizer, what.space, what.seed)
        sample = self._sample()
        began = time.monotonic()
        while True:
            if self._trials:
                ahead = self._finals_usage(sample) + self._dearest_trial()
                spent = what.budget.spent_by(len(self._trials), time.monotonic() - began, self.usage, ahead)
                if spent is not None:
                    self.reason = spent
                    break
            configuration = search.ask()
            if configuration is None:
                self.reason = "every configuration was tried"
                break
            trial = self._trial(configuration, sample, "search")
            search.tell(configuration, trial.score)
        if len(sample) == len(what.scored):
            return
        if what.budget.exceeded_by(self.usage, self._finals_usage(sample)):
            self.reason += "; the finalists were not scored on every example"
        else:
            for finalist in self._finalists():
                self._trial(finalist.configuration, what.scored, "final")

    def _sample(self) -> Sequence[dspy.Example]:
        scored = self.definition.scored
        if len(scored) <= _SAMPLE:
            return scored
        return random.Random(self.definition.seed).sample(list(scored), _SAMPLE)

    def _dearest_trial(self) -> Usage:
        """Return what one more trial may take: as much as the dearest so far."""
        return Usage(
            calls=max(trial.usage.calls for trial in self._trials),
            cost_usd=max(trial.usage.cost_usd for trial in self._trials),
        )

    def _finals_usage(self, sample: Sequence[dspy.Example]) -> Usage:
        """Estimate what scoring today's finalists in full will take, from what their examples have taken."""
        missing = (len(self.definition.scored) - len(sample)) / len(sample)
        taken = [trial.usage for trial in self._finalists()]
        return Usage(
            calls=round(missing * sum(usage.calls for usage in taken)),
            cost_usd=missing * sum(usage.cost_usd for usage in taken),
        )

    def _finalists(self) -> list[Trial]:
        """Return the leaders and the default, so that the result is never worse than where it began."""
        ranked = sorted(self._trials, key=lambda trial: -trial.score)
        # The default was the first trial of the search.
        chosen = {trial.configuration_key: trial for trial in [*ranked[:_FINALISTS], *self._trials[:1]]}
        return list(chosen.values())

    def _trial(
        self, configuration: Configuration, examples: Sequence[dspy.Example], phase: TrialPhase
    ) -> Trial:
        key = self.definition.space.key_of(configuration)
        stored = self._stored.get((key, phase))
        number = self._next_number if stored is None else stored.number
        self._next_number = max(self._next_number, number + 1)
        started_at = time.time()
        self.events.publish(TrialStarted(self.name, number, configuration, len(examples)))
        evaluator = Evaluator(
            self.definition.metric,
            self._ledger,
            self._pool,
            stopped=self._stop.is_set,
            announce=lambda score: self.events.publish(ExampleScored(self.name, number, score)),
        )
        program = self.definition.bind(configuration)
        scores, spent = evaluator.evaluate(program, self.definition.default_lm, key, examples)
        trial = Trial(
            number=number,
            configuration=configuration,
            configuration_key=key,
            score=sum(score.score for score in scores) / len(scores),
            n_examples=len(scores),
            n_failed=sum(score.error is not None for score in scores),
            usage=spent,
            started_at=started_at,
            finished_at=time.time(),
            phase=phase,
        )
        if stored is None:
            self._store.append_trial(self.name, trial)
        elif stored.n_examples == trial.n_examples:
            trial = stored  # a resumed study walks through its old trials again, and pays nothing for them
        with self._lock:
            self._trials.append(trial)
        self.events.publish(TrialFinished(self.name, trial))
        return trial

    def _keep_result(self) -> None:
        best, baseline = self._best(), self.baseline
        self._store.put_study(
            self.name,
            state=self.state,
            reason=self.reason,
            finished_at=time.time(),
            baseline_score=None if baseline is None else baseline.score,
            best_score=None if best is None else best.score,
            best_configuration=None if best is None else dict(best.configuration),
        )
