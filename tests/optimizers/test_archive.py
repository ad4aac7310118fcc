"""The zip of a study: complete, checkable, and without keys."""

from __future__ import annotations

import json
import zipfile

import pytest
from spaces import SIGNATURE, SPACE, TRIAGE

import dspex as dx
from dspex.cli import main
from dspex.errors import DataError, ExecutionError
from dspex.optimizers import archive


@pytest.fixture
def exported(experiment, tmp_path):
    return experiment.export(tmp_path / "deep" / "study.zip")


def contents(path):
    with zipfile.ZipFile(path) as zipped:
        return {name: zipped.read(name) for name in zipped.namelist()}


def write(path, files, comment):
    with zipfile.ZipFile(path, "w") as zipped:
        for name, content in files.items():
            zipped.writestr(name, content)
        zipped.comment = comment


def test_it_passes_its_own_check(exported, capsys):
    """`dspex study verify` says what it found and ends well."""
    assert main(["study", "verify", str(exported)]) == 0
    assert "is as it was exported: experiment, 11 files" in capsys.readouterr().out


def test_everything_is_in_it(experiment, exported):
    """Examples, trials, ledger, program, seed and versions are there, number for number."""
    files = contents(exported)
    described = json.loads(files["study.json"])
    assert (described["seed"], described["tags"], described["optimizer"]) == (0, ["paper", "first"], "beacon")
    assert described["best"]["score"] == experiment.best.score
    assert set(described["space"]) or described["space"]
    assert json.loads(files["versions.json"])["dspy"].startswith("3.")
    rows = {name: files[name].decode().splitlines() for name in files if name.endswith(".jsonl")}
    assert len(rows["trials.jsonl"]) == len(experiment.finished_trials)
    assert len(rows["ledger.jsonl"]) == len(experiment.rows)
    assert len(rows["data/holdout.jsonl"]) == 60
    assert json.loads(rows["data/scored.jsonl"][0])["inputs"]["message"] == TRIAGE.dev[0].message
    program = experiment.program
    program.load_state(json.loads(files["program.json"]), allow_unsafe_lm_state=True)


def test_one_study_is_one_file(experiment, exported, tmp_path):
    """Exporting again gives the same bytes."""
    assert experiment.export(tmp_path / "again.zip").read_bytes() == exported.read_bytes()


@pytest.mark.parametrize("stored", [True, False])
def test_a_flipped_byte_is_named(exported, tmp_path, stored, capsys):
    """Wherever a byte of a file is flipped, compressed or not, the check fails and names the file."""
    with zipfile.ZipFile(exported) as zipped:
        names, comment = zipped.namelist(), zipped.comment
        files = {name: zipped.read(name) for name in names}
        offsets = {each.filename: (each.header_offset, each.compress_size) for each in zipped.infolist()}
    for name in names:
        changed = tmp_path / "changed.zip"
        if not files[name]:
            continue
        if stored:
            flipped = bytearray(files[name])
            flipped[len(flipped) // 2] ^= 1
            write(changed, {**files, name: bytes(flipped)}, comment)
        else:
            whole = bytearray(exported.read_bytes())
            start, size = offsets[name]
            whole[start + 30 + len(name) + size // 2] ^= 1
            changed.write_bytes(bytes(whole))
        assert main(["study", "verify", str(changed)]) == 2
        assert name in capsys.readouterr().err


def test_lost_and_added_files_are_named(exported, tmp_path):
    """Every difference is reported at once."""
    files = contents(exported)
    with zipfile.ZipFile(exported) as zipped:
        comment = zipped.comment
    del files["trials.jsonl"]
    write(tmp_path / "other.zip", {**files, "more.txt": b"more"}, comment)
    with pytest.raises(DataError, match=r"trials.jsonl is missing\n.*more.txt was added"):
        archive.verify(tmp_path / "other.zip")


def test_what_is_no_zip_is_refused(tmp_path):
    """A missing file and a text are errors that say what would be right."""
    (tmp_path / "text.zip").write_text("no zip")
    for name in ("text.zip", "nothing.zip"):
        with pytest.raises(DataError, match="is no zip of a study"):
            archive.verify(tmp_path / name)


def test_no_key_leaves(runtime, tmp_path, monkeypatch):
    """Keys of models and of the environment are in no file, not even where a text quotes them."""
    monkeypatch.setenv("SOME_API_KEY", "sk-from-the-environment")
    lm = dx.sandbox.lm("small")
    lm.kwargs["api_key"] = "sk-of-the-model"
    lm.kwargs["extra_headers"] = {"Authorization": "Bearer-of-headers"}
    loud = [
        {"message": f"{each.message} sk-from-the-environment", "label": each.label} for each in TRIAGE.dev[:6]
    ]

    def metric(example, prediction, trace=None):
        return float(prediction.label == example.label)

    study = runtime.optimize(
        SIGNATURE,
        space=dx.Space(model=dx.Model({"mine": lm}), demos=dx.Int(0, 1)),
        trainset=TRIAGE.train[:10],
        valset=loud,
        metric=metric,
        budget=dx.Budget(trials=2),
    ).wait()
    text = b"".join(contents(study.export(tmp_path / "study.zip")).values()).decode()
    for secret in ("sk-of-the-model", "sk-from-the-environment", "Bearer-of-headers", "api_key"):
        assert secret not in text
    assert "[removed]" in text


def test_dspys_optimizers_are_exported_too(compiled, tmp_path):
    """Candidates and the best program's demonstrations are in it."""
    files = contents(compiled.export(tmp_path / "study.zip"))
    assert archive.verify(tmp_path / "study.zip").study == "compiled"
    assert len(files["candidates.jsonl"].decode().splitlines()) == len(compiled.candidates)


def test_a_running_study_is_not_exported(runtime, tmp_path):
    """There is nothing to check before it has ended."""
    study = runtime.optimize(
        SIGNATURE,
        space=SPACE,
        trainset=TRIAGE.train,
        metric=dx.metrics.exact_match,
        budget=dx.Budget(trials=500),
    )
    with pytest.raises(ExecutionError, match="is still running"):
        study.export(tmp_path / "study.zip")
    study.cancel()
