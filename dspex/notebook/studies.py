"""Studies show themselves: once per cell, when they begin or when they are a cell's value."""

from __future__ import annotations

from typing import Any

from IPython import get_ipython

from dspex import session
from dspex.notebook import live

_shown: set[tuple[str, int]] = set()


def watch() -> None:
    """Show every study that begins from now on."""
    session.watch_studies(show_once)


def show_once(study: Any) -> None:
    """Show a study live, unless this cell shows it already."""
    shell = get_ipython()
    cell = -1 if shell is None else shell.execution_count
    if (study.name, cell) in _shown:
        return
    _shown.add((study.name, cell))
    live.show(study)
