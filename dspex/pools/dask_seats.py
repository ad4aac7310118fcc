"""Which workers of a cluster a pool takes, and what it knows of each of them."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from dspex.pools.crashes import Death
from dspex.pools.desk import Seat

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from dspex.pools.cluster import Home
    from dspex.pools.spec import PoolSpec

_log = logging.getLogger("dspex.pools")
_MACHINE = (
    "PATH",
    "HOME",
    "PWD",
    "OLDPWD",
    "SHELL",
    "USER",
    "LOGNAME",
    "HOSTNAME",
    "TMPDIR",
    "TEMP",
    "TMP",
    "_",
)
_MACHINE_PREFIXES = (
    "LD_",
    "DYLD_",
    "PYTHON",
    "VIRTUAL_ENV",
    "CONDA",
    "DASK_",
    "CUDA_",
    "XDG_",
    "SLURM_",
    "KUBERNETES_",
    "LC_",
)


class DaskSeat(Seat):
    """One of the tasks that a worker of the cluster runs at once."""

    def __init__(self, name: str, room: Room) -> None:
        super().__init__(name)
        self.room = room
        self.future: Any = None
        """Dask's own, while there is a task."""


class Room:
    """What a pool knows of one worker of the cluster.

    What the worker says is taken by a thread of its own, as a future's callbacks, which are its owner's, may take
    their time.
    """

    def __init__(self, pool: str, home: Home, n_seats: int) -> None:
        self.home = home
        self.name = f"{pool}-{home.name}"
        self.seats = [
            DaskSeat(self.name if n_seats == 1 else f"{self.name}.{k}", self) for k in range(n_seats)
        ]
        self.guest: str | None = None
        """What it is called there, once it has been greeted."""
        self.pid: int | None = None
        self.environment = ""
        self.sessions: set[str] = set()
        self.held_mib = 0.0
        self.killed_for: str | None = None
        self.warming: Any = None
        self.door = asyncio.Lock()
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=f"dspex-{self.name}", daemon=True)
        self._thread.start()

    def do(self, job: Callable[[], None]) -> None:
        """Have its thread do something, after what came before."""
        self._inbox.put(job)

    def end(self) -> None:
        """Have its thread end."""
        self._inbox.put(None)

    def _work(self) -> None:
        while (job := self._inbox.get()) is not None:
            try:
                job()
            except Exception:  # noqa: BLE001  # nobody else hears this worker
                _log.exception("hearing %s failed, and goes on", self.name)

    def death(self) -> Death:
        """Say what is known of its end: dask keeps exit codes to itself."""
        where = f"{self.home.address}, pid {self.pid}" if self.pid is not None else self.home.address
        if self.killed_for == "memory":
            return Death("memory", None, f"ended by its nanny for the memory it held ({where})")
        return Death("lost", None, f"lost by the cluster ({where})")


class Arranged(NamedTuple):
    """Which workers a pool takes, with how many tasks at once, and what to say about it."""

    seats: list[tuple[Home, int]]
    notice: str | None


def arranged(homes: Sequence[Home], spec: PoolSpec) -> Arranged:
    """Choose workers: those with a GPU if the pool wants one, and a task for each thread, as far as memory goes.

    Examples
    --------
    >>> from dspex.pools.cluster import Home
    >>> from dspex.pools.spec import PoolSpec
    >>> homes = [Home("tcp://a:1", "a", 2, 4096, 0, True), Home("tcp://b:1", "b", 2, 1024, 0, True)]
    >>> [(home.name, n) for home, n in arranged(homes, PoolSpec(workers=3, memory_mib=1024)).seats]
    [('a', 2), ('b', 1)]
    >>> arranged(homes, PoolSpec(workers=3, device="gpu")).notice
    'no worker of the cluster has a GPU resource: tasks run on processors'
    """
    if not homes:
        return Arranged([], "the cluster has no workers at the moment: tasks wait for one")
    with_gpu = [home for home in homes if home.gpus]
    notices = []
    if spec.device == "gpu" and not with_gpu:
        notices.append("no worker of the cluster has a GPU resource: tasks run on processors")
    chosen = with_gpu if spec.device == "gpu" and with_gpu else list(homes)
    needed = spec.memory_mib or 0
    small = [home.name for home in chosen if home.memory_mib is not None and home.memory_mib < needed]
    if small:
        notices.append(f"workers {', '.join(small)} of the cluster have less than memory_mib={needed}")
    seats = [(home, _room_for(home, spec)) for home in chosen]
    return Arranged(seats, "; ".join(notices) or None)


def _room_for(home: Home, spec: PoolSpec) -> int:
    limits = [home.threads]
    if spec.memory_mib is not None and home.memory_mib is not None:
        limits.append(home.memory_mib // spec.memory_mib)
    if spec.device == "gpu" and home.gpus:
        limits.append(home.gpus)
    return max(1, min(limits))


def portable(environment: Mapping[str, str]) -> dict[str, str]:
    """Leave out the variables that say how one machine is set up.

    Examples
    --------
    >>> portable({"OPENAI_API_KEY": "k", "PATH": "/bin", "LD_LIBRARY_PATH": "/lib"})
    {'OPENAI_API_KEY': 'k'}
    """
    return {
        name: value
        for name, value in environment.items()
        if name not in _MACHINE and not name.startswith(_MACHINE_PREFIXES)
    }
