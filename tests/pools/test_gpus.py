"""Which GPUs there are: asked of NVIDIA's library, or else of its tool, never in this process."""

from __future__ import annotations

import sys

import pytest

from dspex.pools import gpus
from dspex.pools.gpus import Gpu

LIBRARY = """
class Memory:
    total, free = 48 << 30, 40 << 30
def nvmlInit(): {init}
def nvmlDeviceGetCount(): return 2
def nvmlDeviceGetHandleByIndex(k): return k
def nvmlDeviceGetMemoryInfo(k): return Memory
def nvmlDeviceGetUUID(k): return ("GPU-0", b"GPU-1")[k]
def nvmlDeviceGetName(k): return "fake"
"""
TOOL = "#!/bin/sh\necho 'GPU-t, tool, 1000, 900'\n"


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Have a machine with a driver, and NVIDIA's library as it is written."""

    def make(init, tool=None):
        (tmp_path / "pynvml.py").write_text(LIBRARY.format(init=init))
        if tool is not None:
            (tmp_path / "nvidia-smi").write_text(tool)
            (tmp_path / "nvidia-smi").chmod(0o755)
        monkeypatch.setattr(gpus, "_SIGNS", (str(tmp_path),))
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    return make


def test_the_library_is_asked_in_a_child(machine):
    """Its answer arrives, and this process has not imported it."""
    sys.modules.pop("pynvml", None)
    machine("pass")
    assert gpus.probe() == [Gpu("GPU-0", "fake", 49152, 40960), Gpu("GPU-1", "fake", 49152, 40960)]
    assert "pynvml" not in sys.modules


def test_the_tool_is_asked_where_the_library_cannot_tell(machine):
    """Without a library that works, NVIDIA's tool answers."""
    machine("raise RuntimeError", TOOL)
    assert gpus.probe() == [Gpu("GPU-t", "tool", 1000, 900)]


def test_a_driver_that_does_not_work_means_no_device(machine):
    """If neither of them can tell, there is nothing to work on."""
    machine("raise RuntimeError", "#!/bin/sh\nexit 9\n")
    assert gpus.probe() == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the driver's files are Linux's")
def test_nobody_is_asked_without_a_driver(monkeypatch):
    """A machine without a driver costs no process."""
    monkeypatch.setattr(gpus, "_SIGNS", ())
    monkeypatch.setattr(gpus, "_said", lambda command: pytest.fail("somebody was asked"))
    assert gpus.probe() == []
