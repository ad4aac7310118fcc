"""What a study adds to the evaluations it asks for, beside plain DSPy, how soon a long one is back, and how often it errs."""

from __future__ import annotations

import logging
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import dspy

from dspex import sandbox
from dspex.bench.timing import print_rows
from dspex.bridge import compile as compile_bridge
from dspex.bridge.watching import Watcher
from dspex.optimizers.evaluate import Evaluator
from dspex.optimizers.guarded import Guarded
from dspex.optimizers.ledger import Ledger
from dspex.optimizers.measure import Measured
from dspex.optimizers.stats import false_alarms
from dspex.optimizers.waiting import Waiting
from dspex.pools import make_pool
from dspex.records import Score, Trial, Usage
from dspex.reliability import Guards, Reliability
from dspex.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspex.bridge.watching import Seen

_EXAMPLES = 300
_ROUNDS = 5
_TRIALS = 10_000
_ROWS_A_TRIAL = 8
_SIMULATIONS = 1000


class _Evaluated(NamedTuple):
    scores: list[Score]
    took_s: float


def run() -> None:
    """Print the figures."""
    log = logging.getLogger("dspy")
    level = log.level
    log.setLevel(logging.CRITICAL)  # it writes a line about each simulated answer that cannot be read
    try:
        _print(sandbox.task("triage"))
    finally:
        log.setLevel(level)


def _print(task: sandbox.Task) -> None:
    plain = _best_ms(lambda: _stock(task))
    print_rows(
        {
            "one evaluation: dspy.Evaluate, one thread": plain,
            "added by a study: its own evaluator, ledger and store": _best_ms(lambda: _ours(task)) - plain,
            "added by watching DSPy: callback, metric, kept replies": _best_ms(lambda: _watched(task))
            - plain,
        },
        "ms",
    )
    print_rows({"added by the guard of a provider's model": 1e3 * _best_ms(lambda: _guarded(task))}, "us")
    _print_false_alarms(task)
    print_rows({f"a study of {_TRIALS:,} trials is back after": _load_s()}, "s")


def _print_false_alarms(task: sandbox.Task) -> None:
    """Print how often a program that is compared with itself is declared to be better."""
    scores = [row.score for row in _evaluated(task).scores]
    looks = {"once": False, "after every example": True}
    found = {
        f"A/A, looking {when}: declared a winner, of {_SIMULATIONS:,}": 100
        * false_alarms(scores, simulations=_SIMULATIONS, sequential=is_sequential)
        for when, is_sequential in looks.items()
    }
    print_rows(found, "%")


def _best_ms(work: Callable[[], float]) -> float:
    """Take the shortest of some runs, in CPU time of all threads per evaluation."""
    return 1e3 * min(work() for _ in range(_ROUNDS)) / _EXAMPLES


def _program(task: sandbox.Task) -> dspy.Module:
    return dspy.Predict(task.signature)


def _stock(task: sandbox.Task) -> float:
    evaluate = dspy.Evaluate(devset=task.dev[:_EXAMPLES], metric=task.metric, num_threads=1)
    with dspy.context(lm=sandbox.lm("small")):
        began = time.process_time()
        evaluate(_program(task))
        return time.process_time() - began


def _ours(task: sandbox.Task) -> float:
    return _evaluated(task).took_s


def _evaluated(task: sandbox.Task) -> _Evaluated:
    with tempfile.TemporaryDirectory() as folder:
        store, pool = Store(str(Path(folder) / "study.db")), make_pool("inline", 1)
        evaluator = Evaluator(
            task.metric,
            Ledger("s", store, "m"),
            pool,
            stopped=lambda: False,
            announce=_ignore,
            waiting=_waiting("sandbox/small"),
        )
        began = time.process_time()
        found = evaluator.evaluate(_program(task), sandbox.lm("small"), "c", task.dev[:_EXAMPLES])
        store.flush()
        took = time.process_time() - began
        pool.close()
        store.close()
    return _Evaluated(found.scores, took)


def _guarded(task: sandbox.Task) -> float:
    """Time what stands around a program's run on a model of a provider's, which nobody asks here."""
    measured, lm, program = Measured(1.0, None, None, Usage()), dspy.LM("openai/nobody"), _program(task)
    guarded = Guarded(lambda *_: measured, _waiting(lm.model))
    guarded(program, lm, task.metric, task.dev[0], None)  # the program is copied once
    began = time.process_time()
    for example in task.dev[:_EXAMPLES]:
        guarded(program, lm, task.metric, example, None)
    return time.process_time() - began


def _waiting(model: str) -> Waiting:
    return Waiting(Guards(Reliability()), "s", [model], publish=_ignore)


def _watched(task: sandbox.Task) -> float:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(str(Path(folder) / "study.db"))
        ledger = Ledger("s", store, "m")

        def enter(seen: Seen) -> None:
            ledger.add(Score("c", seen.execution_id[:16], seen.score, seen.usage, text_key=seen.text_key))

        watcher = Watcher(task.metric, task.dev, report=enter, rest=_ignore, check=lambda: None, speaks=False)
        program, lm, _ = compile_bridge.lifted(_program(task), sandbox.lm("small"))
        evaluate = dspy.Evaluate(devset=task.dev[:_EXAMPLES], metric=watcher.metric, num_threads=1)
        with (
            compile_bridge.at_work("s", lm, store, stopped=lambda: False, threads=1),
            compile_bridge.watched(watcher),
        ):
            began = time.process_time()
            evaluate(program)
            took = time.process_time() - began
        store.close()
    return took


def _ignore(_: Any) -> None:
    """Do nothing."""


def _load_s() -> float:
    """Time how long a resumed study takes to know its trials and rows."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(str(Path(folder) / "study.db"))
        for number in range(_TRIALS):
            _keep(store, number)
        store.flush()
        began = time.process_time()
        store.trials("s")
        Ledger("s", store, "m", store.scores("s"))
        took = time.process_time() - began
        store.close()
    return took


def _keep(store: Store, number: int) -> None:
    """Keep one trial and its rows, without waiting for each."""
    from dspex.store import schema

    trial = Trial(number, {"temperature": number / _TRIALS}, f"{number:x}", 0.5, 8, 0, Usage(8), 0.0, 1.0)
    store._writer.put(schema.trial, schema.trial_row("s", trial))  # noqa: SLF001  # `append_trial` waits until each is safe
    for k in range(_ROWS_A_TRIAL):
        store.append_score("s", Score(f"{number:x}", f"{k:x}", 1.0, Usage(1), text_key="t", metric_key="m"))
