"""A study as a zip that others can check: data, ledger, programs, seeds, versions, and a hash of every file."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import platform
import re
import zipfile
import zlib
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from dspex.errors import DataError, VariableError
from dspex.variables import views

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import dspy

    from dspex.optimizers.experiment import Experiment
    from dspex.variables.space import Space

FORMAT = "dspex-study/1"
_MANIFEST = "manifest.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)
_PACKAGES = ("dspex", "dspy", "litellm", "numpy", "optuna", "pandas", "sqlalchemy", "torch")
_SECRET_NAME = re.compile(
    r"(api_?key|access_?key|token|secret|password|authorization|credentials?|headers)$", re.IGNORECASE
)
_SECRET_CHARS = 6
"""A shorter value would be found by accident."""
_REMOVED = "[removed]"


class Verified(NamedTuple):
    """What a check of a zip found to be as it was written."""

    study: str
    n_files: int
    n_bytes: int


def versions() -> dict[str, str]:
    """Return Python's version and those of the packages that decide what a study finds."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def export(study: Experiment, path: str | Path) -> Path:
    """Write a study's zip, and return where."""
    path = Path(path)
    secrets = _secrets(study)
    files = {name: _without(secrets, text).encode() for name, text in _files(study)}
    listed = {
        name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        for name, content in files.items()
    }
    manifest = _json({"format": FORMAT, "study": study.name, "files": listed}).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {_MANIFEST: manifest, **files}.items():
            # A fixed date: the same study is the same file.
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
        archive.comment = hashlib.sha256(manifest).hexdigest().encode()
    return path


def verify(path: str | Path) -> Verified:
    """Check that every file of a study's zip is as it was written.

    Raises
    ------
    DataError
        If it is no such zip, or files were changed, added or lost: each is named.
    """
    path = Path(path)
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path} is no zip of a study: {error}", hint="study.export(path) writes one"
        ) from error
    with archive:
        manifest = _read(archive, _MANIFEST)
        if manifest is None or hashlib.sha256(manifest).hexdigest().encode() != archive.comment:
            raise _changed(path, [f"{_MANIFEST} is not what was written, or is missing"])
        described = json.loads(manifest)
        if described["format"] != FORMAT:
            raise DataError(f"{path} has the format {described['format']}, this dspex reads {FORMAT}")
        listed: Mapping[str, Mapping[str, Any]] = described["files"]
        failures = [f"{name} {what}" for name in listed if (what := _failure(archive, name, listed[name]))]
        failures += [
            f"{name} was added" for name in archive.namelist() if name != _MANIFEST and name not in listed
        ]
    if failures:
        raise _changed(path, failures)
    return Verified(described["study"], len(listed), sum(each["bytes"] for each in listed.values()))


def _failure(archive: zipfile.ZipFile, name: str, listed: Mapping[str, Any]) -> str | None:
    if name not in archive.namelist():
        return "is missing"
    content = _read(archive, name)
    if content is None:
        return "cannot be read: it was changed"
    return None if hashlib.sha256(content).hexdigest() == listed["sha256"] else "was changed"


def _read(archive: zipfile.ZipFile, name: str) -> bytes | None:
    try:
        return archive.read(name)
    except (
        KeyError,
        OSError,
        ValueError,
        EOFError,
        NotImplementedError,
        RuntimeError,
        zipfile.BadZipFile,
        zlib.error,
    ):
        return None  # what a changed byte does depends on where it is


def _changed(path: Path, failures: list[str]) -> DataError:
    return DataError("\n".join([f"{path} is not as it was exported:", *(f"  - {each}" for each in failures)]))


# ── what is in it ───────────────────────────────────────────────────────────────────────────────


def _files(study: Experiment) -> Iterable[tuple[str, str]]:
    what = study.definition
    yield "study.json", _json(_described(study))
    yield "versions.json", _json({**versions(), "platform": platform.platform()})
    sets = {"train": what.train, "val": what.val or (), "scored": what.scored, "holdout": what.holdout}
    for name, examples in sets.items():
        yield f"data/{name}.jsonl", _lines(_example(each) for each in examples)
    yield "trials.jsonl", _lines(dataclasses.asdict(trial) for trial in study.finished_trials)
    yield "ledger.jsonl", _lines(dataclasses.asdict(row) for row in study.rows)
    yield "candidates.jsonl", _lines(dataclasses.asdict(each) for each in study.candidates)
    if study.finished_trials:
        yield "program.json", _json(_cleared(study.program_of(study.best).dump_state()))
    yield "report.md", study.report().markdown


def _described(study: Experiment) -> dict[str, Any]:
    what = study.definition
    best, baseline = (study.best if study.finished_trials else None), study.baseline
    return {
        "name": study.name,
        "tags": list(what.tags),
        "state": study.state,
        "reason": study.reason,
        "program": what.program,
        "optimizer": what.optimizer,
        "options": {} if what.recipe is None else _cleared(dict(what.recipe.options)),
        "models": list(what.models),
        "simulated": study.is_simulated,
        "space": None if what.space is None else _space(what.space),
        "budget": dataclasses.asdict(what.budget),
        "timeout_s": what.timeout_s,
        "seed": what.seed,
        "metric_key": what.metric_key,
        "definition": dict(what.identity),
        "best": None if best is None else dataclasses.asdict(best),
        "baseline": None if baseline is None else dataclasses.asdict(baseline),
        "usage": dataclasses.asdict(study.usage),
        "notices": list(study.notices),
    }


def _example(example: dspy.Example) -> dict[str, Any]:
    return {"inputs": dict(example.inputs().toDict()), "labels": dict(example.labels().toDict())}


def _json(value: Any) -> str:
    return json.dumps(_plain(value), indent=2, sort_keys=True, default=repr, ensure_ascii=False) + "\n"


def _lines(rows: Iterable[Any]) -> str:
    return "".join(
        json.dumps(_plain(row), sort_keys=True, default=repr, ensure_ascii=False) + "\n" for row in rows
    )


def _space(space: Space) -> Any:
    try:
        return json.loads(space.to_json())
    except VariableError:  # it has objects among its options, which have no JSON
        return [row._asdict() for row in views.table(space)]


def _cleared(value: Any) -> Any:
    """Leave out settings that are named like secrets."""
    if isinstance(value, dict):
        return {name: _cleared(each) for name, each in value.items() if not _SECRET_NAME.search(str(name))}
    return [_cleared(each) for each in value] if isinstance(value, (list, tuple)) else value


def _plain(value: Any) -> Any:
    """Return JSON; numbers that it lacks are text."""
    if isinstance(value, dict):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _secrets(study: Experiment) -> list[str]:
    """Return the values that must not leave: models' keys, and what the environment holds under such names."""
    what = study.definition
    models = {id(lm): lm for lm in (what.default_lm, what.reflection_lm, *map(what.find_lm, what.models))}
    for each in what.student.predictors():
        if each.lm is not None:
            models[id(each.lm)] = each.lm
    settings = [*(item for lm in models.values() for item in lm.kwargs.items()), *os.environ.items()]
    found = {
        str(value)
        for name, held in settings
        if _SECRET_NAME.search(name)
        for value in (held.values() if isinstance(held, dict) else [held])
    }
    return sorted((each for each in found if len(each) >= _SECRET_CHARS), key=len, reverse=True)


def _without(secrets: Iterable[str], text: str) -> str:
    for secret in secrets:
        text = text.replace(secret, _REMOVED)
    return text
