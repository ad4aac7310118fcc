"""The layers of tests: what the first one is kept from, and which file belongs where."""

from __future__ import annotations

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
