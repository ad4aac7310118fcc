"""Running one of DSPy's optimizers: whole, in a thread that can be left behind, every program of its a trial."""

from __future__ import annotations

import contextvars
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dspex.bridge import compile as compile_bridge
from dspex.bridge import examples as examples_bridge
from dspex.bridge import identity, teleprompters
from dspex.bridge import program as program_bridge
from dspex.bridge.observe import Stopped
from dspex.bridge.watching import Watcher
from dspex.errors import CancelledError, DataError, ExecutionError, ProviderError
from dspex.native.metrics import as_gepa
from dspex.optimizers.calling import Calling
from dspex.optimizers.candidates import Tried, believed, configuration_of, nearest, why_no_demos
from dspex.optimizers.varying import Fixed, Varying
from dspex.records import Candidate, Configuration, Score, Trial, TrialPhase, Usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    import dspy

    from dspex.bridge.identity import Said
    from dspex.bridge.observe import Meter
    from dspex.bridge.watching import Seen
    from dspex.optimizers.trials import Workshop

_POLL_S = 0.05
_FINALISTS = 2
"""Programs, beside the result and the student, that are scored on every example."""


@dataclass(frozen=True)
class _Finalist:
    key: str
    said: Sequence[Said]
    program: dspy.Module
    """As it is evaluated: its model comes from outside."""
    labels: Configuration = field(default_factory=dict)


class Compiling:
    """One run of one of DSPy's optimizers, from its first program to the comparison with the student.

    Attributes
    ----------
    reason
        Why it ended.
    notices
        What was mended or went unexpectedly.
    compiled
        What DSPy returned, with whatever it hangs on it; None if it was stopped.
    candidates
        What each program said, by its key.
    """

    def __init__(self, shop: Workshop) -> None:
        assert shop.definition.recipe is not None  # a search runs elsewhere
        self.reason = ""
        self.notices: list[str] = []
        self.compiled: dspy.Module | None = None
        self.candidates: dict[str, Candidate] = {}
        self._shop = shop
        self._what = shop.definition
        self._recipe = shop.definition.recipe
        self._lock = threading.RLock()
        self._tried: dict[str, Tried] = {}
        self._programs: dict[str, dspy.Module] = {}
        self._n_seen = self._n_paid = 0
        self._paid_for_rows = Usage()
        self._is_closed = False
        self._refused: DataError | ProviderError | None = None
        self._gained_at = 0
        self._halted = threading.Event()
        self._paid_before = shop.store.replies_usage(self._what.name)
        self._meter: Meter | None = None
        self._began = time.monotonic()
        self._made = Varying(self._what) if self._what.varies else Fixed(self._what)
        self._labels_of: dict[str, Configuration] = {}
        self.student_key = identity.fingerprint(identity.said_by(self._what.student))

    # ── what came of it ─────────────────────────────────────────────────────────────────────────

    @property
    def usage(self) -> Usage:
        """What was paid for, also in earlier runs, and what the optimizer asked beside running programs."""
        now = Usage() if self._meter is None else self._meter.usage
        return self._paid_before + now

    def program(self, key: str) -> dspy.Module:
        """Return a program of a trial, on the student's own models."""
        made = self._programs.get(key)
        if made is None:
            made = self._made.program(self._tried[key].labels, self._tried[key].said)
        return compile_bridge.tied(made, self._what.default_lm)

    def ledger_key(self, key: str) -> str:
        """Return what the ledger calls the configuration that a program runs."""
        labels = self._labels_of.get(key)
        return self._what.default_key if labels is None else self._made.key(labels)

    def best_keys(self) -> list[str]:
        """Return the programs, best first as believed: the ones seen on few examples with reserve."""
        with self._lock:
            tried = {key: each for key, each in self._tried.items() if each.phase == "search" and each.rows}
            student = tried.get(self.student_key)
            scores = [] if student is None else student.scores
            usual = sum(scores) / len(scores) if scores else 0.0
            return sorted(tried, key=lambda key: -believed(tried[key].scores, usual))

    # ── running ─────────────────────────────────────────────────────────────────────────────────

    def run(self) -> None:
        """Let the optimizer compile, then compare what it made with the student."""
        student, lm, _ = compile_bridge.lifted(self._what.student, self._what.default_lm)
        student = self._made.student(student)
        with compile_bridge.at_work(
            self._what.name,
            lm,
            self._shop.store,
            stopped=self._is_over,
            threads=self._shop.pool.workers,
            calling=self._calling(),
        ) as meter:
            self._meter = meter
            try:
                self._compile(student, lm)
            finally:
                self._close_all()
        self._halted.clear()
        with compile_bridge.at_work(
            self._what.name, lm, self._shop.store, stopped=self._shop.stopped, threads=self._shop.pool.workers
        ) as finals:
            self._paid_before, self._meter = self.usage, finals
            self._compare(student, lm)

    def _compile(self, student: dspy.Module, lm: dspy.BaseLM) -> None:
        watcher = Watcher(
            as_gepa(self._what.metric),
            [*self._what.train, *(self._what.val or ())],
            report=self._saw,
            rest=self._rested,
            check=self._check,
            speaks=self._recipe.kind == "GEPA",
        )
        setting = teleprompters.Setting(
            metric=watcher.metric,
            plain_metric=self._what.metric,
            trainset=self._what.train,
            valset=self._what.val,
            seed=self._what.seed,
            lm=lm,
            find_lm=self._what.find_lm,
            reflection_lm=self._what.reflection_lm,
            notice=self.notices.append,
            strategies=self._made.strategies,
        )
        done = _Done()

        def work() -> None:
            try:
                with compile_bridge.watched(watcher):
                    done.program = teleprompters.compile_with(
                        self._recipe.kind, self._recipe.options, student, setting
                    )
            except BaseException as error:  # noqa: BLE001  # handed to the study's thread, which knows what to do
                done.error = error
            done.event.set()

        context = contextvars.copy_context()
        name = f"dspex-compile-{self._what.name}"
        threading.Thread(target=context.run, args=(work,), name=name, daemon=True).start()
        while not done.event.wait(_POLL_S) and not self._is_over():
            pass
        if self._shop.stopped():
            raise CancelledError("the optimizer was cancelled")
        if watcher.hopeless is not None:
            raise ExecutionError(
                watcher.hopeless,
                hint="try the program on one example; is the model reachable, the key right?",
            )
        failure = self._refused or done.error
        if failure is not None and not isinstance(failure, Stopped):
            raise failure
        self.compiled = done.program
        if self.compiled is not None and not self.reason:
            self.reason = f"{self._what.optimizer} is done"
        self._explain_no_demos()

    def _is_over(self) -> bool:
        """Whether the optimizer is to end: cancelled, or its budget is spent."""
        if self._shop.stopped() or self._halted.is_set():
            return True
        spent = self._what.budget.spent_by(
            sum(each.phase == "search" for each in list(self._tried.values())) - 1,
            time.monotonic() - self._began,
            self.usage,
            self._finals_usage(),
            without_gain=len(self._tried) - self._gained_at,
        )
        if spent is not None:
            self.reason = spent
            self._halted.set()
        return spent is not None

    def _calling(self) -> Calling | None:
        waiting = self._shop.waiting
        return None if waiting is None else Calling(waiting, check=self._check, refused=self._refuse)

    def _refuse(self, error: DataError | ProviderError) -> None:
        self._refused = self._refused or error
        self._halted.set()

    def _check(self) -> None:
        if self._is_over():
            raise Stopped

    def _finals_usage(self) -> Usage:
        """Estimate what comparing the finalists on every example will take."""
        n_paid, rows = self._n_paid, self._paid_for_rows
        if not n_paid:
            return Usage()
        missing = (_FINALISTS + 2) * len(self._what.scored) / n_paid
        return Usage(
            calls=round(missing * rows.calls),
            tokens_in=round(missing * rows.tokens_in),
            tokens_out=round(missing * rows.tokens_out),
            cost_usd=missing * rows.cost_usd,
        )

    # ── watching, on DSPy's threads ─────────────────────────────────────────────────────────────

    def _saw(self, seen: Seen) -> None:
        """Enter a scored run into the ledger and into its program's trial."""
        row = Score(
            configuration_key=self._made.key(self._made.labels(seen.program)),
            example_key=examples_bridge.key_of(seen.example),
            score=seen.score,
            usage=seen.usage,
            error=seen.error,
            text_key=seen.text_key,
            metric_key=self._what.metric_key,
            repetition=seen.repetition,
            feedback=seen.feedback,
            execution_id=seen.execution_id,
        )
        is_new = self._shop.ledger.add(row)
        self._check_score(seen.score)
        with self._lock:
            if self._is_closed:
                return  # a thread that was left behind is answered late: the row is paid for, the trial is over
            tried = self._trial_of(seen)
            self._n_seen += 1
            tried.seen_at = self._n_seen
            if not tried.is_open:
                self._reopen(tried)
            tried.rows[row.key] = row if is_new else self._shop.ledger.find(row.key) or row
            if is_new and row.usage.calls:
                tried.paid += row.usage
                self._n_paid, self._paid_for_rows = self._n_paid + 1, self._paid_for_rows + row.usage
            self._shop.trials.scored(tried.number, tried.rows[row.key])
            patience = 3 * self._shop.pool.workers
            for other in list(self._tried.values()):
                if other.is_open and self._n_seen - other.seen_at > patience:
                    self._close(other)

    def _check_score(self, score: float) -> None:
        largest = teleprompters.largest_score(self._recipe)
        if abs(score) > largest:
            self._refuse(
                DataError(
                    f"{self._recipe.kind} handles scores up to {largest:g} at this temperature, the metric "
                    f"returned {score:g}",
                    hint="scale the metric to [0, 1], or raise the temperatures with it",
                )
            )
            raise Stopped

    def _trial_of(self, seen: Seen) -> Tried:
        said: Sequence[Said] = seen.said
        key, phase = seen.fingerprint, "search"
        if seen.is_bootstrap:
            # A teacher hides each example's own demonstration: its attempts are one trial all the same.
            said = [each._replace(demos=()) for each in said]
            key, phase = identity.digest("teacher", identity.fingerprint(said)), "bootstrap"
        labels = self._made.labels(seen.program)
        key = self._made.program_key(key, labels)
        tried = self._tried.get(key)
        if tried is None:
            tried = self._new(key, said, "search" if phase == "search" else "bootstrap", labels)
        return tried

    def _new(self, key: str, said: Sequence[Said], phase: TrialPhase, labels: Configuration) -> Tried:
        self._labels_of[key] = labels
        described = compile_bridge.candidate(said, key, 0, None)
        parent = nearest(described, self.candidates.values())
        configuration = {**labels, **configuration_of(described)}
        number = self._shop.trials.begin(configuration, key, phase, len(self._what.scored))
        described = compile_bridge.candidate(said, key, number, parent)
        self._shop.store.append_candidate(self._what.name, described)
        self.candidates[key] = described
        self._tried[key] = Tried(number, described, compile_bridge.frozen(said), phase, labels=labels)
        return self._tried[key]

    def _reopen(self, tried: Tried) -> None:
        tried.is_open = True
        n_examples = len(self._what.scored)
        self._shop.trials.begin(tried.configuration, tried.candidate.key, tried.phase, n_examples)

    def _rested(self, key: str) -> None:
        with self._lock:
            tried = self._tried.get(key)
            if tried is not None and tried.is_open:
                self._close(tried)

    def _close_all(self) -> None:
        with self._lock:
            self._is_closed = True
            for tried in self._tried.values():
                if tried.is_open:
                    self._close(tried)

    def _close(self, tried: Tried) -> None:
        """Finish a trial, for now."""
        scores, before = tried.scores, self._best_score()
        tried.is_open = False
        trial = self._shop.trials.finish(
            Trial(
                number=tried.number,
                configuration=tried.configuration,
                configuration_key=tried.candidate.key,
                score=sum(scores) / len(scores),
                n_examples=len(scores),
                n_failed=sum(row.error is not None for row in tried.rows.values()),
                usage=tried.paid,
                started_at=tried.began,
                finished_at=time.time(),
                phase=tried.phase,
            )
        )
        if tried.phase == "search" and trial.score > before:
            self._gained_at = len(self._tried)

    def _best_score(self) -> float:
        found = [trial.score for trial in self._shop.trials.finished if trial.phase == "search"]
        return max(found, default=float("-inf"))

    # ── comparing ───────────────────────────────────────────────────────────────────────────────

    def _compare(self, student: dspy.Module, lm: dspy.BaseLM) -> None:
        """Score the result, the best seen and the student on the same examples; the best of them wins."""
        finalists = self._finalists(student)
        examples = self._unshown(finalists)
        if self._what.budget.exceeded_by(self.usage, Usage()) or (
            self.compiled is None and len(finalists) < 2  # noqa: PLR2004  # nothing to compare the student with
        ):
            self.reason += "; nothing was compared on every example"
            return
        for finalist in finalists:
            self._score_finalist(finalist, lm, examples)

    def _finalists(self, student: dspy.Module) -> list[_Finalist]:
        found: dict[str, _Finalist] = {}
        if self.compiled is not None:
            made = self._compiled_finalist(student, self.compiled)
            found[made.key] = made
        best = {key: self._tried[key] for key in self.best_keys()[:_FINALISTS]}
        said_by = {key: (tried.said, tried.labels) for key, tried in best.items()}
        default = self._made.labels(student)
        said_by[self.student_key] = identity.said_by(self._what.student), default
        for key, (said, labels) in said_by.items():
            found.setdefault(key, _Finalist(key, said, self._made.evaluated(student, labels, said), labels))
        return list(found.values())

    def _compiled_finalist(self, student: dspy.Module, compiled: dspy.Module) -> _Finalist:
        said = identity.said_by(compiled)
        if self._recipe.kind != "KNNFewShot":
            labels = self._made.labels(compiled)
            key = self._made.program_key(identity.fingerprint(said), labels)
            self._programs[key] = self._made.program(labels, said)
            return _Finalist(key, said, self._made.evaluated(student, labels, said), labels)
        # What it adds is not in its predictors: it looks for demonstrations when it runs.
        options = [f"{name}={value!r}" for name, value in sorted(self._recipe.options.items())]
        key = identity.digest("knn", identity.fingerprint(said), *options, str(self._what.identity["demos"]))
        compiled.dspex_key = key
        self._programs[key] = compiled
        return _Finalist(key, said, compiled)

    def _unshown(self, finalists: Sequence[_Finalist]) -> Sequence[dspy.Example]:
        """Leave out examples that a finalist shows: it has seen their answers."""
        names = program_bridge.input_names(self._what.student)
        shown = {key for each in finalists for key in compile_bridge.shown_inputs(each.program, names)}
        unshown = [each for each in self._what.scored if compile_bridge.inputs_key(each) not in shown]
        return unshown or self._what.scored

    def _score_finalist(self, finalist: _Finalist, lm: dspy.BaseLM, examples: Sequence[dspy.Example]) -> None:
        described = compile_bridge.candidate(finalist.said, finalist.key, 0, None)
        configuration = {**finalist.labels, **configuration_of(described)}
        began = time.time()
        number = self._shop.trials.begin(configuration, finalist.key, "final", len(examples))
        scores, spent = self._shop.evaluator(number).evaluate(
            finalist.program, lm, self._made.key(finalist.labels), examples
        )
        self._shop.trials.close(
            number, configuration, finalist.key, scores, spent, began=began, phase="final"
        )
        self._labels_of[finalist.key] = finalist.labels
        made = self._made.program(finalist.labels, finalist.said)
        self._programs.setdefault(finalist.key, made)

    def _explain_no_demos(self) -> None:
        """Say why a bootstrap came back with nothing."""
        if self._recipe.kind != "BootstrapFewShot" or self.compiled is None:
            return
        if any(demo.get("augmented") for each in self.compiled.predictors() for demo in each.demos):
            return
        self.notices.append(why_no_demos(self._tried.values(), self._recipe.options.get("metric_threshold")))


@dataclass
class _Done:
    """What the optimizer's thread leaves behind."""

    event: threading.Event = field(default_factory=threading.Event)
    program: dspy.Module | None = None
    error: BaseException | None = None
