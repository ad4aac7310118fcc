"""Seeing what an optimizer of DSPy does: each program that it scores is reported as it happens.

What a program says is noted when it runs, and the metric knows the example; the two meet at the prediction.
"""

from __future__ import annotations

import threading
import traceback
import uuid
from collections import OrderedDict
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dspy
from dspy.teleprompt import BootstrapFewShot

from dspex.bridge import examples as examples_bridge
from dspex.bridge import identity
from dspex.bridge.observe import Stopped, Tally, tally_in_charge
from dspex.bridge.program import as_number, told_by
from dspex.redact import redact

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from dspex.bridge.identity import Said
    from dspex.records import Usage

_REMEMBERED = 4096
"""Predictions that may wait to be scored."""
_HOPELESS = 10
"""So many failures at the very beginning, and nothing else, are no accident."""


@dataclass(frozen=True)
class Seen:
    """A program that an optimizer ran on an example, and how it was scored."""

    program: dspy.Module
    said: Sequence[Said]
    fingerprint: str
    text_key: str
    example: dspy.Example
    score: float
    feedback: str | None
    error: str | None
    usage: Usage
    repetition: int
    execution_id: str
    is_bootstrap: bool
    """Whether a teacher tried to make a demonstration of it."""


class _Run(Tally):
    """A program's run: what it said, on what, with which model."""

    def __init__(self, program: dspy.Module, inputs: Mapping[str, Any]) -> None:
        super().__init__()
        self.id = uuid.uuid4().hex
        self.program = program
        self.inputs = inputs
        self.said = identity.said_by(program)
        self.lm = dspy.settings.lm
        self.prediction: Any = None

    @property
    def repetition(self) -> int:
        lm = next((each.lm for each in self.said if each.lm is not None), self.lm)
        return int(lm.kwargs.get("rollout_id") or 0)


_bootstrapping: ContextVar[bool] = ContextVar("dspex_bootstrapping", default=False)


class Watcher:
    """Sees what an optimizer of DSPy does, from its callbacks and as its metric.

    Parameters
    ----------
    metric
        Called as DSPy calls metrics; what it raises becomes data.
    examples
        Every example that may be scored.
    report
        Called with each scored run, on the thread that scored it.
    rest
        Called with a fingerprint when that program's evaluation is over.
    check
        Called all the time; raises `Stopped` when the work is to end.
    speaks
        Whether to ask the metric for feedback too.
    """

    def __init__(
        self,
        metric: Callable[..., Any],
        examples: Sequence[dspy.Example],
        *,
        report: Callable[[Seen], None],
        rest: Callable[[str], None],
        check: Callable[[], None],
        speaks: bool,
    ) -> None:
        self._metric = metric
        self._report = report
        self._rest = rest
        self._check = check
        self._speaks = speaks
        self._examples = {inputs_key_of(examples_bridge.inputs_of(each)): each for each in examples}
        self._runs: OrderedDict[int, _Run] = OrderedDict()
        self._begun: dict[str, _Run] = {}
        self._evaluated: dict[str, dspy.Module] = {}
        self._compiled: set[str] = set()
        self._outcomes = {False: [0, 0], True: [0, 0]}  # is_bootstrap → how many answered, how many failed
        self._lock = threading.Lock()
        self.hopeless: str | None = None
        """The error that every run ended with, if they all did."""

    # ── from callbacks ───────────────────────────────────────────────────────────────────────────

    def module_starts(self, call_id: str, instance: Any, inputs: Mapping[str, Any]) -> None:
        """Note what a program says when it begins to run."""
        if tally_in_charge.get() is not None or not isinstance(instance, dspy.Module):
            return
        if _bootstrapping.get():
            _hide_own_demo(instance, inputs.get("kwargs") or {})
        run = _Run(instance, inputs.get("kwargs") or {})
        self._begun[call_id] = run
        tally_in_charge.set(run)

    def module_ends(self, call_id: str, outputs: Any, exception: BaseException | None) -> None:
        """Keep its prediction until it is scored."""
        run = self._begun.pop(call_id, None)
        if run is None:
            return
        tally_in_charge.set(None)
        if exception is None:
            run.prediction = outputs[0] if isinstance(outputs, tuple) and outputs else outputs
            with self._lock:
                self._runs[id(run.prediction)] = run
                while len(self._runs) > _REMEMBERED:
                    self._runs.popitem(last=False)
        elif isinstance(exception, Exception):
            self._failed(run, exception)

    def compile_starts(self, call_id: str, optimizer: Any) -> None:
        """Note that a teacher is at work."""
        if isinstance(optimizer, BootstrapFewShot):
            self._compiled.add(call_id)
            _bootstrapping.set(True)

    def compile_ends(self, call_id: str) -> None:
        """Note that it no longer is."""
        if call_id in self._compiled:
            self._compiled.discard(call_id)
            _bootstrapping.set(False)

    def evaluation_starts(self, call_id: str, program: Any) -> None:
        """Note which program is evaluated."""
        _bootstrapping.set(False)
        self._evaluated[call_id] = program

    def evaluation_ends(self, call_id: str) -> None:
        """Say that its evaluation is over."""
        program = self._evaluated.pop(call_id, None)
        if isinstance(program, dspy.Module):
            self._rest(identity.fingerprint(identity.said_by(program)))

    # ── as a metric ─────────────────────────────────────────────────────────────────────────────

    def metric(
        self, example: Any, prediction: Any, trace: Any = None, pred_name: Any = None, pred_trace: Any = None
    ) -> Any:
        """Score a prediction for DSPy, and report it."""
        self._check()
        if pred_name is not None:  # GEPA asks once more, for words about one predictor
            return self._judged(example, prediction, trace, pred_name, pred_trace)
        with self._lock:
            run = self._runs.pop(id(prediction), None)
        token = None if run is None else tally_in_charge.set(run)
        try:
            score, feedback, error = self._scored(example, prediction, trace)
        finally:
            if token is not None:
                tally_in_charge.reset(token)
        if run is not None:
            is_bootstrap = trace is not None and _bootstrapping.get()
            self._count(is_bootstrap=is_bootstrap, error=None)
            self._tell(run, example, score, feedback, error, is_bootstrap=is_bootstrap)
        return score

    def _scored(self, example: Any, prediction: Any, trace: Any) -> tuple[float, str | None, str | None]:
        try:
            options = {"feedback": True} if self._speaks else {}
            value = self._metric(example, prediction, trace, **options)
            return as_number(value, self._metric), getattr(value, "feedback", None), None
        except Exception:  # noqa: BLE001  # the user's own code: any failure of it is a data point
            return 0.0, None, redact(traceback.format_exc())

    def _judged(self, *arguments: Any) -> Any:
        try:
            return self._metric(*arguments)
        except Exception as error:  # noqa: BLE001  # as above
            return dspy.Prediction(score=0.0, feedback=redact(f"The metric failed: {error}"))

    def _failed(self, run: _Run, error: Exception) -> None:
        """Report a program that raised: no metric is asked about it."""
        is_bootstrap = _bootstrapping.get()
        self._count(is_bootstrap=is_bootstrap, error=error)
        example = self._examples.get(inputs_key_of(run.inputs))
        if example is not None:
            self._tell(run, example, 0.0, None, told_by(error), is_bootstrap=is_bootstrap)

    def _count(self, *, is_bootstrap: bool, error: Exception | None) -> None:
        with self._lock:
            counts = self._outcomes[is_bootstrap]
            counts[error is not None] += 1
        if error is not None and not counts[0] and counts[1] >= _HOPELESS:
            who = "the teacher" if is_bootstrap else "the program"
            self.hopeless = f"{who} failed on each of the first {counts[1]} examples, the last time with {type(error).__name__}: {error}"
            raise Stopped

    def _tell(
        self,
        run: _Run,
        example: Any,
        score: float,
        feedback: str | None,
        error: str | None,
        *,
        is_bootstrap: bool,
    ) -> None:
        self._report(
            Seen(
                program=run.program,
                said=run.said,
                fingerprint=identity.fingerprint(run.said),
                text_key=identity.run_key(run.program, run.said, run.lm),
                example=example,
                score=score,
                feedback=feedback,
                error=error,
                usage=run.usage,
                repetition=run.repetition,
                execution_id=run.id,
                is_bootstrap=is_bootstrap,
            )
        )


def inputs_key_of(inputs: Mapping[str, Any]) -> str:
    """Name inputs by what they hold."""
    return repr(sorted(inputs.items(), key=lambda item: item[0]))


def _hide_own_demo(program: dspy.Module, inputs: Mapping[str, Any]) -> None:
    """Keep a teacher from seeing the example it is tried on, also as a demonstration made of it before.

    DSPy hides the example itself and puts a teacher's demonstrations back afterwards.
    """
    for predictor in program.predictors():
        predictor.demos = [demo for demo in predictor.demos if not _is_made_of(demo, inputs)]


def _is_made_of(demo: Any, inputs: Mapping[str, Any]) -> bool:
    shared = [name for name in inputs if name in demo]
    return bool(shared) and all(demo[name] == inputs[name] for name in shared)
