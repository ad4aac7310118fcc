"""JupyterLab and the driver themselves: nothing leaves the machine, and what would is seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab import Lab, NotebookPage

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


def test_jupyterlab_with_a_widget_asks_for_nothing_outside(
    lab: Lab, open_notebook: Callable[[str], NotebookPage]
) -> None:
    """JupyterLab, its kernel, a widget and a change of theme make no request beyond this machine."""
    notebook = open_notebook(
        lab.write("widget.ipynb", "answer = 6 * 7", "import ipywidgets\nipywidgets.IntSlider(answer)")
    )
    notebook.run_all()
    notebook.output(1).wait_for_selector(".widget-slider")
    assert notebook.python("answer") == 42
    notebook.set_theme("JupyterLab Dark")
    notebook.set_theme("JupyterLab Light")
    assert notebook.errors() == []
    assert notebook.complaints == []
    assert notebook.outside == []


def test_what_asks_outside_is_refused_and_recorded(
    lab: Lab, open_notebook: Callable[[str], NotebookPage]
) -> None:
    """A page, a picture and a socket from elsewhere are refused, and the record names each."""
    notebook = open_notebook(lab.write("outside.ipynb", "1"))
    addresses = ["https://example.com/page", "http://example.org/picture.png", "wss://example.net/socket"]
    outcomes = notebook.page.evaluate(
        """([page, picture, socket]) => Promise.all([
            fetch(page).then(() => 'came', () => 'refused'),
            new Promise(done => Object.assign(
                new Image(), {onload: () => done('came'), onerror: () => done('refused'), src: picture})),
            new Promise(done => { new WebSocket(socket).onclose = () => done('refused'); }),
        ])""",
        addresses,
    )
    assert outcomes == ["refused"] * 3
    assert sorted(notebook.outside) == sorted(addresses)


def test_errors_of_a_cell_and_of_the_page_are_seen(
    lab: Lab, open_notebook: Callable[[str], NotebookPage]
) -> None:
    """A cell that fails is reported, and so is an exception nobody caught in the page."""
    notebook = open_notebook(lab.write("errors.ipynb", "1 / 0"))
    notebook.run_all()
    assert notebook.errors() == ["ZeroDivisionError: division by zero"]
    with pytest.raises(RuntimeError, match="NameError: name 'never' is not defined"):
        notebook.python("never")
    with notebook.page.expect_event("pageerror"):
        notebook.page.evaluate("() => void setTimeout(() => { throw new Error('nobody caught me'); })")
    assert [complaint.splitlines()[0] for complaint in notebook.complaints] == [
        "uncaught: Error: nobody caught me"
    ]
