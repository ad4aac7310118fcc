"""The layers of tests: what the first one is kept from, and which file belongs where."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture
def conftest(request):
    return next(
        plugin
        for plugin in request.config.pluginmanager.get_plugins()
        if getattr(plugin, "__file__", None) == str(HERE / "conftest.py")
    )


def test_the_first_layer_reaches_nobody(conftest, monkeypatch):
    """A connection, a server and a process are each refused there, whatever is running now."""
    with monkeypatch.context() as patch:
        conftest.shut(patch)
        with socket.socket() as one:
            for act in (one.connect, one.bind):
                with pytest.raises(AssertionError, match="no process and no socket"):
                    act(("127.0.0.1", 9))
        with pytest.raises(AssertionError, match="no process and no socket"):
            subprocess.run([sys.executable, "-c", ""], check=True)


@pytest.mark.parametrize(
    ("path", "layer"),
    [
        ("native/test_spec.py", "mock"),
        ("test_errors.py", "mock"),
        ("test_cli.py", "fallback"),
        ("browser/test_lab.py", "fallback"),
        ("../dspex/errors.py", "fallback"),
        ("live/test_providers.py", "live"),
    ],
)
def test_each_file_has_its_layer(conftest, path, layer):
    """Whatever is not named belongs to the second one, doctests too: nothing is left out."""
    assert conftest.layer_of((HERE / path).resolve()) == layer


def test_every_named_room_is_there(conftest):
    """A room that was renamed would silently leave the first layer."""
    assert all((HERE / name).exists() for name in conftest.MOCK)


@pytest.mark.process
@pytest.mark.parametrize("is_required", [True, False])
@pytest.mark.parametrize("where", ["in a test", "at the top"])
def test_a_package_that_is_required_must_not_be_missing(tmp_path, is_required, where):
    """Where all packages are said to be there, what would be skipped for want of one fails."""
    (tmp_path / "conftest.py").write_text((HERE / "conftest.py").read_text())
    skip = "pytest.importorskip('no_such_package')"
    test = f"def test_one():\n    {skip}" if where == "in a test" else f"{skip}\ndef test_one(): pass"
    (tmp_path / "test_one.py").write_text(f"import pytest\n{test}\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", tmp_path, "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path],
        env={**os.environ, "DSPEX_REQUIRE_PACKAGES": "1" if is_required else "", "DSPEX_TEST_MODE": ""},
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    has_failed = done.returncode in {pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED}
    assert (has_failed, "1 skipped" in done.stdout) == (is_required, not is_required)
