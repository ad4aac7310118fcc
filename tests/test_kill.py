"""Killing the process in mid-run loses no finished trial, and nothing is paid for twice afterwards."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import subprocess
import sys

SCRIPT = """
import sys, threading
import dspex as dx
from dspex import session

resume = sys.argv[2] == "resume"
task = dx.sandbox.task("triage")
dx.configure(dx.sandbox.MODELS, store=sys.argv[1])

def announce(event):
    if type(event).__name__ == "TrialFinished":
        print(event.trial.number, flush=True)

def metric(example, prediction, trace=None):
    if not resume and threading.current_thread().daemon:
        threading.Event().wait(0.002)  # slow enough to be killed in the middle
    return float(example.label == prediction.label)

session.current().events.subscribe(announce)
study = dx.optimize(
    dx.signature(task.signature, task.instructions, name="Triage"),
    space=dx.Space(temperature=dx.Float(0, 1.5, default=0.7), demos=dx.Int(0, 8)),
    trainset=task.train, valset=task.dev[:40], metric=metric,
    budget=dx.Budget(trials=12 if resume else 1000), name="mine", seed=4, resume=resume,
)
study.wait()
print("calls", study.usage.calls, "rows", len(study.scores))
"""


def rows(store, query):
    with contextlib.closing(sqlite3.connect(store)) as connection:
        return connection.execute(query).fetchall()


def count(store, table):
    return rows(store, f"select count(*) from {table}")[0][0]  # noqa: S608  # our own table's name


def test_a_killed_study_keeps_its_finished_trials_and_goes_on(tmp_path):
    """Every trial that was announced is in the store after kill -9; resuming repeats no evaluation."""
    store = str(tmp_path / "study.db")
    child = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, store, "begin"], stdout=subprocess.PIPE, text=True
    )
    announced = [int(child.stdout.readline()) for _ in range(6)]
    child.send_signal(signal.SIGKILL)
    announced += [int(line) for line in child.stdout.read().splitlines()]
    child.wait(10)
    child.stdout.close()
    kept = [number for (number,) in rows(store, "select number from trial order by number")]
    assert announced == list(range(len(announced)))
    assert kept[: len(announced)] == announced
    paid = count(store, "score")
    assert paid >= 40 * len(kept)

    said = subprocess.run(
        [sys.executable, "-c", SCRIPT, store, "resume"], capture_output=True, text=True, check=True
    ).stdout
    assert f"rows {count(store, 'score')}" in said
    twice = "select count(*) from score group by configuration_key, example_key having count(*) > 1"
    assert rows(store, twice) == []
    assert count(store, "trial") > len(kept)
    assert rows(store, "select state from study")[0][0] == "finished"
