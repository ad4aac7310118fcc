"""Under nbmake a magic that fails may pass: IPython prints a `UsageError` and goes on. Here that is a failure."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import nbmake.pytest_items
from nbmake.nb_result import NotebookError, NotebookResult
from nbmake.nb_run import NotebookRun

if TYPE_CHECKING:
    from nbformat import NotebookNode

# What an earlier run has taught would be known again: a notebook is tried as its first reader finds it.
os.environ["DSPEX_STORE"] = "memory"

SIGNS = ("UsageError", "magic function `%")


class GuardedRun(NotebookRun):
    """Executes a notebook, then reads what its cells printed."""

    def execute(self) -> NotebookResult:
        """Fail a run in which a cell printed what IPython prints for a magic that went wrong."""
        result = super().execute()
        if result.error is not None:
            return result
        for index, cell in enumerate(result.nb.cells):
            said = printed(cell)
            if any(sign in said for sign in SIGNS):
                error = NotebookError(
                    summary=f"cell {index} printed: {said.strip()}", trace=said, failing_cell_index=index
                )
                return NotebookResult(nb=result.nb, error=error)
        return result


def printed(cell: NotebookNode) -> str:
    """Return what a cell wrote to its streams."""
    outputs = cell.get("outputs", ())
    return "".join(output["text"] for output in outputs if output["output_type"] == "stream")


nbmake.pytest_items.NotebookRun = GuardedRun
