"""One Chromium and one JupyterLab for the browser tests of a file, or a reason why not."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parent))

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from lab import Browser, Lab, NotebookPage

_failed = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    item.stash[_failed] = item.stash.get(_failed, False) or report.failed
    return report


@pytest.fixture(scope="session")
def chromium() -> str:
    """Find a Chromium; without one the tests are skipped, or fail where one is required."""
    missing = [name for name in ("playwright", "jupyterlab") if importlib.util.find_spec(name) is None]
    if not missing:
        from lab import driver_runs, find_chromium

        path = find_chromium()
        if path is not None and driver_runs():
            return path
        missing = ["chromium"] if path is None else ["the libraries of Playwright's driver (libatomic1)"]
    reason = f"the browser tests need {' and '.join(missing)}"
    if os.environ.get("DSPEX_REQUIRE_BROWSER") == "1":
        pytest.fail(f"{reason}, and DSPEX_REQUIRE_BROWSER=1 says that they must run")
    pytest.skip(reason)


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    # A module's, not the session's: Playwright keeps an event loop running, which asyncio tests cannot share.
    from lab import Browser

    with Browser(chromium) as browser:
        yield browser


@pytest.fixture(scope="module")
def lab(chromium: str) -> Iterator[Lab]:
    from lab import Lab

    with Lab() as lab:
        yield lab
    assert lab.stragglers == [], "JupyterLab left processes behind"


@pytest.fixture
def open_notebook(
    lab: Lab, browser: Browser, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Callable[[str], NotebookPage]]:
    """Open a notebook; a test that fails leaves a picture and the console's complaints."""
    pages: list[NotebookPage] = []

    def open_notebook(name: str) -> NotebookPage:
        pages.append(browser.open(lab, name))
        return pages[-1]

    yield open_notebook
    for number, page in enumerate(pages):
        if request.node.stash.get(_failed, False):
            picture = tmp_path / f"page-{number}.png"
            page.page.screenshot(path=picture)
            seen = f"outside: {page.outside}\ncomplaints: {page.complaints}\nerrors: {page.errors()}"
            request.node.add_report_section("teardown", "page", f"{picture}\n{seen}")
        page.close()
