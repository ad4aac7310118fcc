"""What processes that were killed have left in shared memory, and its removal."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

from dspex.pools.board import folder

if TYPE_CHECKING:
    from pathlib import Path

_LEFT = re.compile(r"(?:sem\.loky|dspex)-(\d+)-")


def sweep(place: Path | None = None) -> list[str]:
    """Remove semaphores of loky and boards of ours whose process is dead; returns their names.

    A name says which process made it. One whose number is in use again is left alone.
    """
    import psutil

    removed = []
    for path in (place or folder()).iterdir():
        match = _LEFT.match(path.name)
        if match is None or psutil.pid_exists(int(match[1])):
            continue
        with contextlib.suppress(OSError):  # somebody else's, or gone already
            path.unlink()
            removed.append(path.name)
    return sorted(removed)
