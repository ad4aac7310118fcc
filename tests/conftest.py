"""What every test stands on: a store and caches of its own, and a runtime on the sandbox."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

# Before dspy is imported: its disk cache must not reach from one test run into the next.
os.environ["DSPY_CACHEDIR"] = tempfile.mkdtemp(prefix="dspex-test-cache-")
os.environ["DSPEX_STORE"] = "memory"

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    import dspex as dx

HERE = Path(__file__).parent
MODES = ("", "mock", "fallback", "live")
MODE = os.environ.get("DSPEX_TEST_MODE", "")
MOCK = (
    *("native", "orchestrator", "reliability", "variables"),
    *(
        "test_errors.py",
        "test_events.py",
        "test_execution.py",
        "test_layers.py",
        "test_overflow.py",
        "test_records.py",
        "test_redact.py",
    ),
)
"""What needs no process and no socket, and is quick: the first layer. The live layer is `live`, the rest the second."""

MISSING = "could not import"
"""In what `pytest.importorskip` gives as its reason."""


def layer_of(path: Path, *, starts_process: bool = False) -> str:
    """Say to which layer a test of a file belongs."""
    if starts_process:
        return "fallback"
    room = path.relative_to(HERE).parts[0] if path.is_relative_to(HERE) else ""
    return "mock" if room in MOCK else "live" if room == "live" else "fallback"


def pytest_configure(config: pytest.Config) -> None:
    """Refuse a mode that does not exist, rather than run something else."""
    del config
    if MODE not in MODES:
        raise pytest.UsageError(f"DSPEX_TEST_MODE is mock, fallback, live or not set, got {MODE!r}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the layer that was asked for; without a mode, all of them."""
    layers = {item: layer_of(item.path, starts_process="process" in item.keywords) for item in items}
    others = [item for item in items if MODE and layers[item] != MODE]
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if layers[item] == MODE]


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Let no file be skipped for a package that is required."""
    report = yield
    require_packages(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let no test be skipped for a package that is required."""
    report = yield
    require_packages(report)
    return report


def require_packages(report: pytest.CollectReport | pytest.TestReport) -> None:
    """Turn a skip for want of a package into a failure where ``DSPEX_REQUIRE_PACKAGES=1`` says that all are there."""
    if os.environ.get("DSPEX_REQUIRE_PACKAGES") == "1" and report.skipped and MISSING in str(report.longrepr):
        report.outcome = "failed"
        report.longrepr = f"DSPEX_REQUIRE_PACKAGES=1, and {report.longrepr}"


@pytest.fixture(autouse=True)
def nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the first layer, let no test reach another process or the network, the loopback included."""
    if MODE == "mock":
        shut(monkeypatch)


def shut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse connections, servers and processes."""

    def refuse(*given: object, **_: object) -> None:
        raise AssertionError(
            f"this layer needs no process and no socket, and this test asked for {given[1:]}"
        )

    for name in ("connect", "connect_ex", "bind"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(subprocess.Popen, "__init__", refuse)


@pytest.fixture
def runtime() -> Iterator[dx.Runtime]:
    """Make the session's runtime, on all three sandbox models, with a store in memory."""
    from dspex import sandbox, session

    yield session.configure(sandbox.MODELS, store="memory")
    session.current().close()
