"""Which GPUs there are, asked in a child process: this one must never touch CUDA, or its children could not."""

from __future__ import annotations

import shutil
import subprocess
from typing import NamedTuple

_FIELDS = ("uuid", "name", "memory.total", "memory.free")
_PATIENCE_S = 10.0


class Gpu(NamedTuple):
    """One device."""

    uuid: str
    name: str
    total_mib: int
    free_mib: int


def probe() -> list[Gpu]:
    """List the devices, by NVIDIA's own tool; empty without one, or without a driver."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    command = [tool, f"--query-gpu={','.join(_FIELDS)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=True)  # noqa: S603  # NVIDIA's own
    except (OSError, subprocess.SubprocessError):
        return []
    return read(done.stdout)


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
