"""Killing the process in mid-run loses no finished trial, and nothing is paid for twice afterwards."""

from __future__ import annotations

import contextlib
import json
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
    announced = [int(child.stdout.readline()) for _ in range(12)]
    child.send_signal(signal.SIGKILL)
    announced += [int(line) for line in child.stdout.read().splitlines()]
    child.wait(10)
    child.stdout.close()
    kept = [number for (number,) in rows(store, "select number from trial order by number")]
    assert len(set(announced)) < len(announced)  # a trial that grows is announced again
    assert kept == list(range(len(kept)))
    assert set(announced) <= set(kept)
    assert count(store, "score") >= rows(store, "select sum(n_examples) from trial")[0][0]

    said = subprocess.run(
        [sys.executable, "-c", SCRIPT, store, "resume"], capture_output=True, text=True, check=True
    ).stdout
    assert f"rows {count(store, 'score')}" in said
    twice = "select count(*) from score group by configuration_key, example_key having count(*) > 1"
    assert rows(store, twice) == []
    assert count(store, "trial") > len(kept)
    assert rows(store, "select state from study")[0][0] == "finished"


TELEPROMPTER = """
import json, sys, threading
import dspex as dx
from dspex import session

store, mode = sys.argv[1], sys.argv[2]
task = dx.sandbox.task("triage")
dx.configure(dx.sandbox.MODELS, store=store, workers=2)

def announce(event):
    if type(event).__name__ == "ExampleScored":
        print("scored", flush=True)

def metric(example, prediction, trace=None):
    if mode == "begin" and threading.current_thread() is not threading.main_thread():
        threading.Event().wait(0.005)  # slow enough to be killed in the middle
    return float(example.label == prediction.label)

if mode == "begin":
    session.current().events.subscribe(announce)
study = dx.optimize(
    dx.signature(task.signature, task.instructions, name="Triage"),
    trainset=task.train[:24], valset=task.dev[:20], metric=metric, name="mine", seed=4, resume=mode == "resume",
    optimizer=dx.optimizers.Simba(max_steps=3, bsize=8, num_candidates=3, prompt_model="sandbox/large"),
)
study.wait()
program = study.program
print(json.dumps({"calls": study.usage.calls, "score": study.best.score, "state": program.dump_state()}, sort_keys=True))
"""


def run_teleprompter(store, mode):
    """Run it to its end; returns what it said of its program."""
    command = [sys.executable, "-c", TELEPROMPTER, store, mode]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return json.loads(said.splitlines()[-1])


def test_a_killed_teleprompter_goes_on_to_the_same_program(tmp_path):
    """After kill -9 in SIMBA's mid-run, resuming pays only for the rest and ends with the same program."""
    whole = run_teleprompter(str(tmp_path / "whole.db"), "whole")
    store = str(tmp_path / "killed.db")
    child = subprocess.Popen(
        [sys.executable, "-c", TELEPROMPTER, store, "begin"], stdout=subprocess.PIPE, text=True
    )
    for _ in range(60):
        assert child.stdout.readline() == "scored\n"
    child.send_signal(signal.SIGKILL)
    child.stdout.read()
    child.wait(10)
    child.stdout.close()
    paid = count(store, "reply")
    assert 50 <= paid < whole["calls"] - 50
    assert run_teleprompter(store, "resume") == whole
    assert count(store, "reply") == whole["calls"] == count(str(tmp_path / "whole.db"), "reply")
    twice = "select count(*) from score group by text_key, example_key, repetition having count(*) > 1"
    assert rows(store, twice) == []
    assert rows(store, "select state from study")[0][0] == "finished"
