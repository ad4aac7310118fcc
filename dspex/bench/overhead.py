"""What dspex adds to a call, beside DSPy's own: imports, definitions, execution, decision, store."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from dataclasses import replace

import dspy

from dspex import sandbox
from dspex.bench.timing import medians_us, print_rows
from dspex.events import EventBus, LabelGiven, correlated
from dspex.native.signature import signature
from dspex.records import Execution, Label, Strategy
from dspex.runtime import Runtime
from dspex.store.log import Cursor
from dspex.telemetry import LOGGER, log_events

_PIN = Strategy("sandbox/small", "Predict")


def run() -> None:
    """Print the figures."""
    print_rows({f"import {name}, best of 5": _import_ms(name) for name in ("dspex", "dspy")}, "ms")
    defined = medians_us(
        {
            "define 'question -> answer': dspex": lambda: signature("question -> answer"),
            "define 'question -> answer': dspy.Signature": lambda: dspy.Signature("question -> answer"),
        }
    )
    print_rows(defined, "us")

    task = sandbox.task("triage")
    ours = signature(task.signature, task.instructions, name="Triage")
    message = task.dev[0].message
    runtime = Runtime(sandbox.MODELS, store="memory")
    predict, lm = dspy.Predict(ours.to_dspy()), runtime.lm("sandbox/small")

    def stock() -> None:
        with dspy.context(lm=lm):
            predict(message=message)

    calls = medians_us(
        {
            "one simulated call: dspy.Predict": stock,
            "one simulated call: dspex.execute, pinned": lambda: runtime.execute(
                ours, {"message": message}, pin=_PIN
            ),
            "one simulated call: dspex.execute, choosing": lambda: runtime.execute(
                ours, {"message": message}
            ),
            "explain before running: 6 strategies": lambda: runtime.explain(ours, {"message": message}),
        }
    )
    print_rows(calls, "us")
    print_rows({"store append, as its caller sees it": _append_us(runtime)}, "us")
    print_rows(_event_us(), "us")
    runtime.close()


def _import_ms(module: str) -> float:
    """Time an import in fresh interpreters, and take the interpreter's own start away."""

    def best(code: str) -> float:
        times = []
        for _ in range(5):
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603  # our own interpreter
            times.append(time.perf_counter() - began)
        return min(times)

    return 1e3 * (best(f"import {module}") - best("pass"))


def _append_us(runtime: Runtime) -> float:
    executions = [record for record in runtime.store.since(Cursor())[0] if isinstance(record, Execution)]
    fresh = [replace(each, id=f"again-{k}") for k, each in enumerate(executions)]
    began = time.thread_time_ns()
    for each in fresh:
        runtime.store.append(each)
    return (time.thread_time_ns() - began) / 1e3 / len(fresh)


def _event_us() -> dict[str, float]:
    """Time an event: that nobody hears, and that a log leaves out, samples away or writes."""
    bus, event = EventBus(), LabelGiven(Label("it", 1.0, 0.0))
    logger = logging.getLogger(LOGGER)
    nowhere = logging.NullHandler()
    logger.addHandler(nowhere)

    def publish() -> None:
        bus.publish(event)

    found = medians_us({"an event, nobody listens": publish})
    with log_events("warning") as log, correlated():
        found |= medians_us({"an event below the log's level": publish})
        log.level, log.sample = "info", 1e-12
        found |= medians_us({"an event of a call that is not sampled": publish})
        log.sample = 1.0
        found |= medians_us({"an event that is written, to nowhere": publish})
    logger.removeHandler(nowhere)
    return found
