"""The quickstart as its reader sees it: in JupyterLab, live, through a reload, cancelled, saved."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab import Lab, NotebookPage

    OpenNotebook = Callable[[str], NotebookPage]

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

QUICKSTART = Path(__file__).parents[2] / "notebooks" / "00_quickstart.ipynb"

PREPARE = """
import threading
import dspex as dx
%load_ext dspex
dx.configure(store="memory")
task = dx.sandbox.task("triage")
Triage = dx.signature(task.signature, task.instructions, name="Triage")
space = dx.Space(temperature=dx.Float(0, 1.5, default=0.7), demos=dx.Int(0, 8),
                 model=dx.Model(["sandbox/small", "sandbox/large"]))

def unhurried(example, prediction):
    threading.Event().wait(0.004)  # so that a page can look on
    return dx.metrics.exact_match(example, prediction)
"""
SEARCH = """
study = dx.optimize(Triage, space=space, trainset=task.train, valset=task.dev, metric=unhurried,
                    budget=dx.Budget(trials=300), seed=1)
"""


class RunView:
    """A study's live view in a cell's output, as its reader sees it: see dspex/notebook/static/run_view.mjs."""

    def __init__(self, notebook: NotebookPage, cell: int) -> None:
        self._notebook = notebook
        view = f"cells[{cell}].outputArea.node.querySelector('.dspex-run')"
        self.points = f"{view}.querySelectorAll('[role=figure] circle, [role=figure] path.point').length"
        self.status = f"{view}.querySelector('[role=status]').textContent"
        self.progress = f"{view}.querySelector('progress').value"
        self.cancel = f"{view}.querySelector('button')"
        self.is_interactive = f"{view}.querySelector('.js-plotly-plot') !== null"

    def wait_for_points(self, count: int) -> int:
        """Wait until that many are drawn; return how many are by then."""
        self._notebook.wait_for(f"{self.points} >= {count}")
        return int(self._notebook.ask(self.points))


def code_cell(notebook: Path, text: str) -> int:
    """Return the index of the code cell with that text in a notebook's file."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return next(
        k for k, cell in enumerate(cells) if cell["cell_type"] == "code" and text in "".join(cell["source"])
    )


def html_of(notebook: Path, cell: int) -> str:
    """Return the HTML that a notebook's file keeps of a cell's output."""
    outputs = json.loads(notebook.read_text(encoding="utf-8"))["cells"][cell]["outputs"]
    return "".join(text for output in outputs for text in output.get("data", {}).get("text/html", ""))


def test_the_quickstart_runs_live_and_is_saved_with_its_pictures(
    lab: Lab, open_notebook: OpenNotebook
) -> None:
    """Every cell runs, trials are drawn while the search goes on, and the saved file shows the result."""
    notebook = open_notebook(lab.add(QUICKSTART))
    search, route = code_cell(QUICKSTART, "%dspex optimize"), code_cell(QUICKSTART, "%dspex route")
    view = RunView(notebook, search)
    notebook.start_all()
    notebook.show(search)
    # Drawn in mid-run: the search has begun trials that are not drawn yet.
    notebook.wait_for(f"{view.points} >= 3 && {view.status}.startsWith('Trial')")
    notebook.wait_until_all_ended()
    assert notebook.errors() == []
    notebook.wait_for(f"{view.status}.startsWith('Finished')")
    notebook.wait_for(f"{view.points} === {notebook.python('len(study.trials)')}")
    notebook.wait_for(view.is_interactive)

    saved = notebook.save()
    assert "<svg" in html_of(saved, search)
    assert "<svg" in html_of(saved, route)
    assert saved.stat().st_size < 1_000_000
    assert notebook.complaints == []
    assert notebook.outside == []


def test_a_search_goes_on_through_a_reload_and_is_cancelled_from_the_page(
    lab: Lab, open_notebook: OpenNotebook
) -> None:
    """After a reload in mid-run no point is missing, more come, and Cancel ends the search within 2 s."""
    notebook = open_notebook(lab.write("search.ipynb", PREPARE, SEARCH))
    notebook.run_all()
    assert notebook.errors() == []
    view = RunView(notebook, 1)
    before = view.wait_for_points(3)
    notebook.wait_for(view.is_interactive)

    notebook.save()
    notebook.reload()
    notebook.show(1)
    after = view.wait_for_points(before)
    view.wait_for_points(after + 2)
    notebook.wait_for(f"{view.is_interactive} && {view.progress} > 0")
    assert notebook.python("study.state") == "running"

    notebook.ask(f"{view.cancel}.click()")
    clicked = time.monotonic()
    notebook.wait_for(f"{view.status}.startsWith('Cancelled') && {view.cancel}.disabled")
    assert time.monotonic() - clicked < 2
    assert notebook.python("study.state") == "cancelled"
    n_trials = notebook.python("len(study.trials)")
    assert n_trials > after
    notebook.wait_for(f"{view.points} === {n_trials}")
    assert notebook.errors() == []
    assert notebook.complaints == []
    assert notebook.outside == []


def test_a_search_is_cancelled_without_a_reload_too(lab: Lab, open_notebook: OpenNotebook) -> None:
    """Cancel works in the page that began the search, keeps the best so far, and the saved file says so."""
    notebook = open_notebook(lab.write("cancel.ipynb", PREPARE, SEARCH))
    notebook.run_all()
    assert notebook.errors() == []
    view = RunView(notebook, 1)
    view.wait_for_points(2)
    notebook.ask(f"{view.cancel}.click()")
    clicked = time.monotonic()
    notebook.wait_for(f"{view.status}.startsWith('Cancelled')")
    assert time.monotonic() - clicked < 2
    assert notebook.python("study.best.score > 0")
    # The picture is put in place after the last news.
    notebook.wait_for("cells[1].model.outputs.get(0).data['text/html'].includes('cancelled')")
    assert "<svg" in html_of(notebook.save(), 1)
    assert notebook.errors() == []
    assert notebook.complaints == []
    assert notebook.outside == []
