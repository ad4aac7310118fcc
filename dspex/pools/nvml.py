"""A program for a child process: it asks NVIDIA's library which GPUs there are, and prints them as JSON.

It is run by its path and imports nothing of ours: a process that has asked is not one to work in.
"""

from __future__ import annotations

import json


def found() -> list[tuple[str, str, int, int]]:
    """List the devices: identifier, name, and MiB in all and free."""
    import pynvml

    pynvml.nvmlInit()
    handles = [pynvml.nvmlDeviceGetHandleByIndex(k) for k in range(pynvml.nvmlDeviceGetCount())]
    return [_described(pynvml, handle) for handle in handles]


def _described(pynvml: object, handle: object) -> tuple[str, str, int, int]:
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)  # type: ignore[attr-defined]  # a module
    names = (pynvml.nvmlDeviceGetUUID(handle), pynvml.nvmlDeviceGetName(handle))  # type: ignore[attr-defined]  # likewise
    uuid, name = (each.decode() if isinstance(each, bytes) else str(each) for each in names)
    return uuid, name, int(memory.total) >> 20, int(memory.free) >> 20


if __name__ == "__main__":
    print(json.dumps(found()))  # noqa: T201  # this is its answer
