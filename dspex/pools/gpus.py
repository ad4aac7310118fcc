"""Which GPUs there are, asked in a child process: this one must never touch CUDA, or its children could not."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from dspex.pools import nvml

_FIELDS = ("uuid", "name", "memory.total", "memory.free")
_SIGNS = ("/dev/nvidiactl", "/dev/dxg", "/proc/driver/nvidia/version")
"""What a Linux machine with NVIDIA's driver has one of, the second under Windows."""
_PATIENCE_S = 10.0


class Gpu(NamedTuple):
    """One device."""

    uuid: str
    name: str
    total_mib: int
    free_mib: int


def probe() -> list[Gpu]:
    """List the devices, by NVIDIA's library or else by its tool; empty without either, or without a driver."""
    if sys.platform.startswith("linux") and not any(Path(sign).exists() for sign in _SIGNS):
        return []
    found = _said([sys.executable, "-P", nvml.__file__])
    if found is not None:
        return [Gpu(*each) for each in json.loads(found)]
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    return read(_said([tool, f"--query-gpu={','.join(_FIELDS)}", "--format=csv,noheader,nounits"]) or "")


def _said(command: list[str]) -> str | None:
    """Run a program; None if it could not do what it is for."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=True)  # noqa: S603  # our own, or NVIDIA's
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def read(listing: str) -> list[Gpu]:
    r"""Read what the tool writes; lines that it could not fill are left out.

    Examples
    --------
    >>> read("GPU-1f, NVIDIA H200, 143771, 143000\nGPU-2f, NVIDIA H200, [N/A], [N/A]\n")
    [Gpu(uuid='GPU-1f', name='NVIDIA H200', total_mib=143771, free_mib=143000)]
    """
    rows = [[field.strip() for field in line.split(",")] for line in listing.splitlines()]
    return [
        Gpu(row[0], row[1], int(row[2]), int(row[3]))
        for row in rows
        if len(row) == len(_FIELDS) and row[2].isdigit() and row[3].isdigit()
    ]
