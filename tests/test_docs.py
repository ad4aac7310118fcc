"""Every line of code in the README and the docs is run, in order, as a reader would."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from dspex import pools, session
from dspex.cli import main

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(python|sh)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    return [code for kind, code in FENCE.findall(page.read_text(encoding="utf-8")) if kind == language]


@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.name
)
def test_python_blocks_run(page):
    """The blocks of a page run one after the other, in one namespace."""
    names: dict = {"__name__": "docs"}
    try:
        for block in blocks(page, "python"):
            exec(compile(block, page.name, "exec"), names)  # noqa: S102  # our own documentation
    finally:
        session.current().close()
        pools.close()


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "sh")], ids=lambda page: page.name)
def test_shell_blocks_run(page, tmp_path, monkeypatch):
    """Commands end well, and make targets exist."""
    monkeypatch.setenv("DSPEX_STORE", str(tmp_path / "docs.db"))
    for line in "".join(blocks(page, "sh")).splitlines():
        words = shlex.split(line, comments=True)
        if words[0] == "dspex":
            assert main(words[1:]) == 0, line
        else:
            assert words[0] == "make", line
            make = shutil.which("make")
            assert make is not None
            subprocess.run([make, "--dry-run", words[1]], check=True, capture_output=True, cwd=ROOT)
    session.current().close()


def test_every_file_that_is_named_exists():
    """What the README and the docs point to is there."""
    for page in PAGES:
        for name in re.findall(
            r"`((?:docs|notebooks|dspex|tests)/[\w./-]+)`", page.read_text(encoding="utf-8")
        ):
            assert (ROOT / name).exists(), f"{page.name} names {name}"
