"""Imported by a zygote before anything else: it warms the process that workers are forked from.

What it is to do stands as JSON in the environment, as the fork server passes on nothing else.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import sys

PLAN = "DSPEX_ZYGOTE"
failed: dict[str, str] = {}
"""The modules that could not be imported, and why."""


def warm(plan: str) -> None:
    """Set the environment, import the modules, and freeze what was made, so that no collection unshares it."""
    # An interrupt is for the kernel: this process shares its terminal, and must outlive it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    wanted = json.loads(plan)
    os.environ.update(wanted["env"])
    sys.path[:] = wanted["path"]
    for name in ("dspex.pools.worker", *wanted["preload"]):
        try:
            importlib.import_module(name)
        except BaseException as error:  # noqa: BLE001  # a broken module must not take the pool with it
            failed[name] = f"{type(error).__name__}: {error}"
    gc.collect()
    gc.freeze()


if PLAN in os.environ:
    warm(os.environ.pop(PLAN))
