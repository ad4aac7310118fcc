"""What a worker died of, and which calls have cost too many of them."""

from __future__ import annotations

import signal
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from dspex.pools.task import Task

_KINDS = {
    "SIGSEGV": "segfault",
    "SIGBUS": "segfault",
    "SIGABRT": "abort",
    "SIGILL": "illegal instruction",
    "SIGFPE": "arithmetic fault",
    "SIGKILL": "killed",
    "SIGTERM": "terminated",
}
_REMEMBERED = 1000
FROM_OUTSIDE = ("killed", "terminated", "lost")
"""What somebody else does to a worker, or may have done."""


class Death(NamedTuple):
    """How a worker ended."""

    kind: str
    exit_code: int | None
    text: str


def classify(exit_code: int | None, *, free_mib: int | None = None) -> Death:
    """Say what an exit code means; a kill while the machine has no memory left is the system's own.

    Examples
    --------
    >>> classify(-11).text, classify(139).kind, classify(3).text
    ('segfault (SIGSEGV)', 'segfault', 'exit (code 3)')
    >>> classify(-9, free_mib=20).text
    'out of memory (SIGKILL; the machine had 20 MiB left)'
    """
    if exit_code is None:
        return Death("unknown", None, "unknown (no exit code)")
    number = -exit_code if exit_code < 0 else exit_code - 128
    try:
        name = signal.Signals(number).name
    except ValueError:
        return Death("exit", exit_code, f"exit (code {exit_code})")
    kind = _KINDS.get(name, "signal")
    if kind == "killed" and free_mib is not None and free_mib < _SCARCE_MIB:
        return Death(
            "out of memory", exit_code, f"out of memory ({name}; the machine had {free_mib} MiB left)"
        )
    return Death(kind, exit_code, f"{kind} ({name})")


_SCARCE_MIB = 200


class Quarantine:
    """Remembers calls, by function and arguments, that cost workers, and which of them are not tried again.

    A function alone says too little: killed from outside, any function looks guilty. For the same reason a call
    whose worker was killed is given one more chance than one that crashed by itself.
    """

    def __init__(self, after: int) -> None:
        self._after = after
        self._deaths: OrderedDict[bytes, tuple[int, Death]] = OrderedDict()
        self._condemned: set[bytes] = set()

    def __bool__(self) -> bool:
        return bool(self._condemned)

    def add(self, task: Task, death: Death) -> tuple[int, bool]:
        """Note that a task cost a worker; returns how many its call has cost, and whether that is too many."""
        key = self._key(task)
        cost = self._deaths.pop(key, (0, death))[0] + 1
        self._deaths[key] = cost, death
        if cost >= self._after + (death.kind in FROM_OUTSIDE):
            self._condemned.add(key)
        if len(self._deaths) > _REMEMBERED:
            self._condemned.discard(self._deaths.popitem(last=False)[0])
        return cost, key in self._condemned

    def clear(self, task: Task) -> None:
        """Note that a call went well after all."""
        self._deaths.pop(self._key(task), None)

    def why(self, task: Task) -> tuple[int, Death] | None:
        """Say what a call has cost if it is not tried again, else None."""
        key = self._key(task)
        return self._deaths[key] if key in self._condemned else None

    def _key(self, task: Task) -> bytes:
        return task.function.digest + task.arguments.digest  # type: ignore[no-any-return]  # a parcel's
