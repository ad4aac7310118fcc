"""The command line: the main job from a shell."""

from __future__ import annotations

import json

import dspy
import pytest

import dspex as dx
from dspex import session
from dspex.cli import main

SPACE = "temperature: float = 0 .. 1.5 (default 0.7); module: module = Predict | ChainOfThought"


@pytest.fixture
def store(tmp_path, monkeypatch):
    path = tmp_path / "cli.db"
    monkeypatch.setenv("DSPEX_STORE", str(path))
    yield path
    session.current().close()


def test_the_main_job_from_a_shell(store, tmp_path, capsys):
    """Optimize, execute, and see what was learned: each command knows what the last one did."""
    saved = tmp_path / "program.json"
    space = "temperature: float = 0 .. 1.5 (default 0.7); demos: int = 0 .. 4"
    assert main(["optimize", "sandbox:triage", "--space", space, "--trials", "3", "--save", str(saved)]) == 0
    out = capsys.readouterr()
    assert "before " in out.out
    assert "after " in out.out
    assert out.err.count("trial ") >= 3
    program = dspy.Predict(dx.sandbox.task("triage").signature)
    program.load(saved, allow_unsafe_lm_state=True)
    assert program.lm.model == "sandbox/small"

    assert (
        main(["execute", "question -> answer: float", "question=Tom has 3 apples and gets 4. How many?"]) == 0
    )
    assert "answer=" in capsys.readouterr().out
    for command, expected in (("runs", "finished"), ("history", "sandbox/"), ("route", "<Route of")):
        assert main([command]) == 0
        assert expected in capsys.readouterr().out


def test_examples_come_from_files(store, tmp_path, capsys):
    """A JSON object a line is an example."""
    task = dx.sandbox.task("extraction")
    path = tmp_path / "train.jsonl"
    path.write_text("\n".join(json.dumps(example.toDict()) for example in task.train[:20]), encoding="utf-8")
    arguments = ["optimize", task.signature, "--space", SPACE, "--train", str(path), "--trials", "2"]
    assert main([*arguments, "--optimizer", "random", "--metric", "token_f1"]) == 0
    assert "after " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["optimize", "a -> b", "--space", SPACE], "optimize needs examples"),
        (["optimize", "sandbox:triag", "--space", SPACE], "did you mean 'triage'"),
        (["optimize", "sandbox:triage", "--space", "x: flot = 1 .. 2"], "did you mean 'float'"),
        (["optimize", "sandbox:triage", "--space", SPACE, "--metric", "exact"], "did you mean 'exact_match'"),
        (["optimize", "sandbox:triage", "--space", SPACE, "--trials", "0"], "must be a number > 0"),
        (["optimize", "a -> b", "--space", SPACE, "--train", "nowhere.jsonl"], "cannot read nowhere.jsonl"),
        (["execute", "a -> b", "a"], "an input is written FIELD=VALUE"),
        (["execute", "a -> b: strng", "a=1"], "did you mean 'str'"),
        (["execute", "a -> b", "a=1", "--models", "gpt"], "a model is written provider/name"),
        (["exekute"], "invalid choice"),
    ],
)
def test_bad_input_ends_with_its_reason(store, capsys, arguments, message):
    """Exit code 2, the error on standard error, and no traceback."""
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err


def test_metrics_are_known_by_name(capsys):
    """The help lists every ready-made metric: there is one list of them."""
    with pytest.raises(SystemExit):
        main(["optimize", "-h"])
    assert ", ".join(dx.metrics.NAMED) in " ".join(capsys.readouterr().out.split())


def test_nothing_yet_says_what_to_do(store, capsys):
    """Empty tables are sentences."""
    for command, expected in (
        ("runs", "no study yet"),
        ("history", "nothing executed yet"),
        ("route", "nothing"),
    ):
        assert main([command]) == 0
        assert expected in capsys.readouterr().out


def test_the_doctor_says_what_it_tried(capsys):
    """The machine, the pools as they fit it, each way to start workers, limits and devices, in words."""
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    for part in (
        "machine ",
        "pool       general",
        "start      spawn      works",
        "limits     ",
        "gpu  ",
        "swept  ",
    ):
        assert part in out
