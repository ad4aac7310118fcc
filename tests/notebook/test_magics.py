"""Every magic delegates to the public call, returns its value, and raises our own errors."""

from __future__ import annotations

import pandas as pd
import pytest

import dspex as dx
from dspex.errors import DefinitionError, SignatureError, UnknownNameError, VariableError

TRIAGE = dx.sandbox.task("triage")
SPEC = 'message -> label: Literal["billing", "refund", "shipping", "technical", "account", "escalation"]'
SPACE = "temperature: float = 0 .. 1.5 (default 0.7)\ndemos: int = 0 .. 4  # a comment\n"


def typed(shell, text: str):
    """Type a cell and return its value; what it raises is raised."""
    result = shell.run_cell(text, store_history=False)
    result.raise_error()
    return result.result


def test_a_whole_session_in_magics(shell):
    """Signature, space, optimize, runs, history and route work from magics alone."""
    shell.user_ns["task"] = TRIAGE
    signature = typed(shell, f'%%dspex signature Triage\n{SPEC}\n"""Sort the message\nby what it asks."""')
    assert signature is shell.user_ns["Triage"]
    assert signature == dx.signature(SPEC, "Sort the message by what it asks.", name="Triage")
    space = typed(shell, f"%%dspex space S\n{SPACE}")
    assert space is shell.user_ns["S"]
    assert space.key == dx.Space.parse(SPACE).key
    typed(
        shell, "study = %dspex optimize Triage --space S --train task.train --trials 2 --seed 3 --name mine"
    )
    study = shell.user_ns["study"].wait()
    assert (study.name, study.definition.seed, study.definition.budget.trials) == ("mine", 3, 2)
    dx.execute(signature, message=TRIAGE.dev[0].message)
    assert list(typed(shell, "%dspex runs").index) == ["mine"]
    assert len(typed(shell, "%dspex history -n 5")) == 1
    assert typed(shell, "%dspex route Triage").signature == "Triage"


def test_the_line_forms_return_their_values(shell):
    """A line magic is an expression: its value can be taken."""
    assert typed(shell, "x = %dspex signature 'question -> answer: float' --name QA\nx").name == "QA"
    made = typed(shell, "%dspex lm sandbox/small --objective cost --store memory")
    assert made.models == ("sandbox/small",)
    assert made.objective.cheapness == 0.5
    assert isinstance(typed(shell, "%dspex runs"), pd.DataFrame)
    typed(shell, f"%%dspex space S\n{SPACE}")
    assert typed(shell, "%dspex space S") is shell.user_ns["S"]


def test_the_metric_and_valset_are_notebook_names(shell):
    """A function defined in a cell is a metric, and a list a valset."""
    shell.user_ns.update(
        task=TRIAGE,
        T=dx.signature(SPEC, name="T"),
        S=dx.Space.parse(SPACE),
        mine=lambda example, prediction: 0.25,
    )
    typed(shell, "s = %dspex optimize T --space S --train task.train --val task.dev --metric mine --trials 1")
    assert shell.user_ns["s"].wait().best.score == pytest.approx(
        0.25, abs=0.01
    )  # an answer may be unreadable
    assert shell.user_ns["s"].best.n_examples == 300


def test_signatures_use_types_of_the_notebook(shell):
    """A class defined in a cell is a type of the spec."""
    typed(shell, "class Kind(str): pass")
    found = typed(shell, "%dspex signature 'text -> kind: Kind'")
    assert found.fields[1].annotation is shell.user_ns["Kind"]


@pytest.mark.parametrize(
    ("cell", "error", "message"),
    [
        ("%dspex optimise", UnknownNameError, "did you mean 'optimize'"),
        ("%dspex optimize", DefinitionError, "%dspex optimize: the following arguments are required"),
        ("%dspex optimize T --space S --train nothing", UnknownNameError, "unknown data set 'nothing'"),
        ("%dspex optimize T --space Space --train task.train", UnknownNameError, "unknown space 'Space'"),
        ("%dspex optimize T --space S --train task.tran", UnknownNameError, "did you mean 'train'"),
        ("%dspex optimize T --space S --train task.train --metric exact", UnknownNameError, "exact_match"),
        (
            "%dspex optimize T --space S --train task.train --trials many",
            DefinitionError,
            "invalid int value",
        ),
        ("%dspex optimize T --space 'S", DefinitionError, "No closing quotation"),
        ("%dspex signature 'a -> b: strng'", SignatureError, "did you mean 'str'"),
        ("%%dspex signature 2x\na -> b", DefinitionError, "needs a name"),
        ('%%dspex signature X\na -> b\n"""never ends', SignatureError, "must end in the quotes"),
        ("%%dspex space S\nx: flot = 0 .. 1", VariableError, "did you mean 'float'"),
        ("%%dspex runs\nx", DefinitionError, "takes no cell"),
        ("%dspex lm gpt", DefinitionError, "a model is written provider/name"),
        ("%dspex route Nothing", UnknownNameError, "unknown signature 'Nothing'"),
    ],
)
def test_bad_input_is_one_of_our_errors(shell, capsys, cell, error, message):
    """Never IPython's UsageError, which a notebook test would count as a pass; and no stack is shown."""
    shell.user_ns.update(task=TRIAGE, T=dx.signature(SPEC), S=dx.Space.parse(SPACE))
    result = shell.run_cell(cell, store_history=False)
    assert isinstance(result.error_in_exec, error)
    assert message in str(result.error_in_exec)
    shown = capsys.readouterr()
    assert message in shown.out + shown.err
    assert "Traceback" not in shown.out + shown.err
    assert len((shown.out + shown.err).splitlines()) < 12


@pytest.mark.parametrize("command", ["", "history", "lm", "optimize", "route", "runs", "signature", "space"])
def test_help_shows_how_it_is_written(shell, capsys, command):
    """`-h` prints help and returns nothing."""
    assert typed(shell, f"%dspex {command} -h") is None
    assert f"%dspex {command}".strip() in capsys.readouterr().out


def test_unloading_takes_the_magics_away(shell, capsys):
    """After %unload_ext there is no %dspex."""
    typed(shell, "%unload_ext dspex")
    shell.run_cell("%dspex runs", store_history=False)
    assert "magic function" in "".join(capsys.readouterr())
    typed(shell, "%load_ext dspex")
