"""Take the README's pictures: the quickstart in JupyterLab, in mid-search, light and dark.

Run ``python docs/picture.py [--out docs/images]``; it needs a Chromium, and nothing from outside this machine.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

HOUSE = Path(__file__).parents[1]
sys.path.insert(0, str(HOUSE / "tests" / "browser"))

from lab import Browser, Lab, NotebookPage, find_chromium  # noqa: E402  # found through the line above

QUICKSTART = HOUSE / "notebooks" / "00_quickstart.ipynb"
WIDTH, HEIGHT, SCALE = 1400, 880, 1.5
MAX_BYTES = 400_000
N_POINTS = 20
"""How many trials are drawn, at least, when the shutter opens; the search is then still running."""
SEEDS = {"light": 8, "dark": 9}
"""Of the searches: the notebook's own was paid for already, and would cost nothing a second time."""


def main() -> None:
    """Read the command line and take both pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HOUSE / "docs" / "images")
    out = parser.parse_args().out
    chromium = find_chromium()
    if chromium is None:
        sys.exit(
            "the pictures need a Chromium: none of chromium, chromium-browser, google-chrome is on the PATH"
        )
    out.mkdir(parents=True, exist_ok=True)
    with Lab() as lab, Browser(chromium) as browser:
        notebook = browser.open(lab, lab.add(QUICKSTART), width=WIDTH, height=HEIGHT, scale=SCALE)
        notebook.run_all()
        if notebook.errors():
            sys.exit(f"the quickstart failed: {notebook.errors()}")
        search, route = _cell("%dspex optimize"), _cell("%dspex route")
        _arrange(notebook, right=route - 1)
        for name in ("light", "dark"):
            notebook.set_theme(f"JupyterLab {name.capitalize()}")
            notebook.ask(
                f"void cells[{search}].model.sharedModel.setSource("
                f"cells[{search}].model.sharedModel.getSource().replace(/--seed \\d+/, '--seed {SEEDS[name]}'))"
            )
            _take(notebook, search, route - 1, out / f"quickstart-{name}.png")
        if notebook.outside:
            sys.exit(f"the page asked for something outside: {notebook.outside}")


def _cell(text: str) -> int:
    """Return the index of the code cell that begins or goes on with that text."""
    cells = json.loads(QUICKSTART.read_text(encoding="utf-8"))["cells"]
    return next(
        k for k, cell in enumerate(cells) if cell["cell_type"] == "code" and text in "".join(cell["source"])
    )


def _arrange(notebook: NotebookPage, *, right: int) -> None:
    """Let the notebook fill the page: the search on the left, a second view of it with the route beside."""
    notebook.command("application:toggle-left-area")
    for side in ("left", "right"):
        notebook.command("application:toggle-side-tabbar", {"side": side})
    notebook.command("statusbar:toggle")
    notebook.command("docmanager:clone")
    notebook.wait_for(f"{_SECOND}.content.widgets.length === cells.length")
    # A view that loses the focus returns to its active cell.
    notebook.ask(f"void ({_SECOND}.content.activeCellIndex = {right})")


def _take(notebook: NotebookPage, search: int, route: int, picture: Path) -> None:
    """Search anew, and photograph the page while points still come."""
    view = f"cells[{search}].outputArea.node.querySelector('.dspex-run')"
    notebook.start(search)
    notebook.show(search - 1)
    notebook.wait_for(
        f"""(view => {{
            const drawn = view.querySelectorAll('.js-plotly-plot path.point').length;
            const said = view.querySelector('[role=status]').textContent;  // once a second
            return drawn >= {N_POINTS} && (Math.abs(parseInt(said.slice(6)) - drawn) <= 2 || said.startsWith('Scoring'));
        }})({view})"""
    )
    notebook.show(search - 1)
    notebook.wait_for(
        f"(node => (node.scrollIntoView(), node.getBoundingClientRect().top < innerHeight / 4))"
        f"({_SECOND}.content.widgets[{route}].node)"
    )
    notebook.page.screenshot(path=picture)
    notebook.wait_for(f"{view}.querySelector('button').disabled")
    size = picture.stat().st_size
    if size > MAX_BYTES:
        sys.exit(f"{picture} has {size} bytes, more than {MAX_BYTES}")
    print(f"{picture}: {size} bytes")


_SECOND = "[...app.shell.widgets('main')].filter(w => w.context?.path === panel.context.path)[1]"

if __name__ == "__main__":
    main()
