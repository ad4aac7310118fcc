"""What a pool is asked to be: its size, its limits, and what happens at each of them."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, NamedTuple

from dspex.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dspex.reliability.breaker import BreakerSettings

_log = logging.getLogger("dspex.pools")

Overflow = Literal["reject", "drop_oldest", "block"]
Profile = Literal["process", "thread"]
Start = Literal["auto", "zygote", "spawn"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSpec:
    """What a pool is asked to be.

    Examples
    --------
    >>> PoolSpec(workers=0, memory_mib=8, overflow="drop")
    Traceback (most recent call last):
    dspex.errors.DefinitionError: this is no pool:
      - workers must be a whole number > 0, got 0
      - memory_mib must be at least 128, got 8
      - overflow must be one of reject, drop_oldest, block, got 'drop'
    """

    workers: int
    """At most so many tasks run at once. Workers are started as there is work for them."""
    memory_mib: int | None = None
    """What one worker may hold; past it the task fails, and past that the worker is replaced."""
    profile: Profile = "process"
    """``process`` isolates; ``thread`` is right for work that waits."""
    preload: tuple[str, ...] = ()
    """Modules that are imported once and shared by all workers."""
    threads: int = 1
    """How many threads numerical libraries use in each worker."""
    device: Literal["cpu", "gpu"] = "cpu"
    """``cpu`` hides every GPU from the workers; ``gpu`` gives each one, where there is one, and says if not."""
    gpu_memory_mib: int | None = None
    """What one worker may hold on its GPU; by default as much as ``memory_mib``."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Environment variables of the workers, above everything else."""
    environment: Callable[[], Mapping[str, str]] | None = None
    """Gives the environment that workers see, at each of their starts and before a task when it changed;
    by default this process's own, so that a key that is set later arrives as well."""
    timeout_s: float | None = None
    """How long a task may run, unless its call says otherwise."""
    grace_s: float = 2.0
    """How long a task that was told to stop may take before its worker is killed."""
    queue_limit: int = 1000
    """How many tasks may wait."""
    overflow: Overflow = "reject"
    """What happens to one more: it is refused, it displaces the oldest, or its caller waits."""
    queue_timeout_s: float = 5.0
    """How long ``overflow="block"`` lets a caller wait for room."""
    poison_after: int = 2
    """A call that has cost so many workers is not tried again; one more if they were killed from outside."""
    breaker: BreakerSettings | bool = True
    """When worker processes are taken to be broken, so that tasks are refused at once until one of them goes well;
    False never."""
    max_result_mib: int = 256
    """A larger result is refused."""
    max_tasks: int | None = None
    """A worker is replaced after so many tasks …"""
    max_age_s: float | None = None
    """… or after so long …"""
    recycle_mib: int | None = None
    """… or once it holds so much between two tasks."""
    min_workers: int = 0
    """So many workers are kept however idle they are."""
    idle_stop_s: float | None = 600.0
    """A worker that was idle so long, and keeps no session, is let go …"""
    cooldown_s: float = 10.0
    """… but only so long after the pool last grew or shrank."""
    session_ttl_s: float = 3600.0
    """A session that was not used for so long is forgotten."""
    max_sessions: int = 10_000
    """How many sessions there may be."""
    beat_s: float = 1.0
    """How often a worker shows that it is alive."""
    beats_missed: int = 9
    """A worker that missed so many beats and used no processor meanwhile is replaced."""
    start: Start = "auto"
    """How workers begin: forked from a warm ``zygote``, or by ``spawn``; ``auto`` takes the zygote where it works."""

    def __post_init__(self) -> None:
        failures = [*self._wrong_counts(), *self._wrong_choices()]
        if failures:
            raise DefinitionError("\n".join(["this is no pool:", *(f"  - {each}" for each in failures)]))

    def _wrong_counts(self) -> list[str]:
        failures = [
            f"{name} must be a whole number > 0, got {value!r}"
            for name in (
                "workers",
                "threads",
                "queue_limit",
                "poison_after",
                "max_result_mib",
                "max_sessions",
                "beats_missed",
            )
            if isinstance(value := getattr(self, name), bool) or not isinstance(value, int) or value < 1
        ]
        if self.memory_mib is not None and self.memory_mib < _LEAST_MIB:
            failures.append(f"memory_mib must be at least {_LEAST_MIB}, got {self.memory_mib}")
        for name in ("timeout_s", "max_age_s", "idle_stop_s", "recycle_mib", "max_tasks", "gpu_memory_mib"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                failures.append(f"{name} must be > 0 or None, got {value!r}")
        failures += [
            f"{name} must be > 0, got {getattr(self, name)!r}"
            for name in ("grace_s", "queue_timeout_s", "session_ttl_s", "cooldown_s", "beat_s")
            if getattr(self, name) <= 0
        ]
        if not 0 <= self.min_workers <= self.workers:
            failures.append(f"min_workers must lie in [0, workers = {self.workers}], got {self.min_workers}")
        return failures

    def _wrong_choices(self) -> list[str]:
        failures = [
            f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}"
            for name, choices in _CHOICES.items()
            if getattr(self, name) not in choices
        ]
        if not isinstance(self.breaker, bool) and not hasattr(self.breaker, "cool_down_s"):
            failures.append(
                f"breaker must be True, False or dx.reliability.BreakerSettings(...), got {self.breaker!r}"
            )
        return failures


_LEAST_MIB = 128
_CHOICES = {
    "overflow": ("reject", "drop_oldest", "block"),
    "profile": ("process", "thread"),
    "device": ("cpu", "gpu"),
    "start": ("auto", "zygote", "spawn"),
}

DEFAULTS: dict[str, PoolSpec] = {
    "general": PoolSpec(workers=8, memory_mib=512, preload=("dspy",), timeout_s=30.0),
    "optimizer": PoolSpec(workers=2, memory_mib=4096, preload=("dspy", "numpy")),
    "neural": PoolSpec(
        workers=4, memory_mib=8192, preload=("dspy", "torch"), device="gpu", timeout_s=60.0, idle_stop_s=None
    ),
}
"""The pools that there always are, as they would like to be; `scaled` fits them to the machine."""


class Machine(NamedTuple):
    """What the pools share."""

    cpus: int
    memory_mib: int

    @classmethod
    def here(cls) -> Machine:
        """Look at this machine, and at the share of it that a container grants."""
        import psutil

        affinity = getattr(os, "sched_getaffinity", None)
        cpus = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
        memory = psutil.virtual_memory().total
        for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
            memory = min(memory, _number_in(path) or memory)
        return cls(cpus, memory >> 20)


def _number_in(path: str) -> int | None:
    try:
        with open(path, encoding="ascii") as file:  # noqa: PTH123  # one small read
            return int(file.read())
    except (OSError, ValueError):
        return None


class Scaled(NamedTuple):
    """A pool that fits the machine, and what to say about it."""

    spec: PoolSpec
    notice: str | None


def scaled(name: str, spec: PoolSpec, machine: Machine) -> Scaled:
    """Fit a pool to the machine: two workers a processor at most, and caps that the memory can hold.

    Examples
    --------
    >>> scaled("neural", DEFAULTS["neural"], Machine(cpus=4, memory_mib=16_000)).notice
    "pool 'neural': 1 worker instead of 4, as this machine has 4 processors and 16000 MiB of memory"
    """
    memory = spec.memory_mib and min(spec.memory_mib, machine.memory_mib)
    fitting = [spec.workers, 2 * machine.cpus, *([machine.memory_mib // memory] if memory else [])]
    workers = max(1, min(fitting))
    if (workers, memory) == (spec.workers, spec.memory_mib):
        return Scaled(spec, None)
    changes = []
    if workers != spec.workers:
        changes.append(f"{workers} worker{'s' * (workers > 1)} instead of {spec.workers}")
    if memory != spec.memory_mib:
        changes.append(f"{memory} MiB each instead of {spec.memory_mib}")
    notice = (
        f"pool {name!r}: {' and '.join(changes)}, as this machine has {machine.cpus} "
        f"processor{'s' * (machine.cpus > 1)} and {machine.memory_mib} MiB of memory"
    )
    made = replace(spec, workers=workers, memory_mib=memory, min_workers=min(spec.min_workers, workers))
    return Scaled(made, notice)


def excess(specs: Mapping[str, PoolSpec], machine: Machine) -> str | None:
    """Say by how much the pools' limits together exceed the machine, or None if they do not.

    Limits are no reservations: as long as not every worker is full at once, nothing is wrong.

    Examples
    --------
    >>> excess({"big": PoolSpec(workers=4, memory_mib=8192)}, Machine(cpus=4, memory_mib=16_000))
    'the limits of the pools add up to 32768 MiB (big 4 x 8192), this machine has 16000 MiB'
    """
    limited = {name: spec for name, spec in specs.items() if spec.memory_mib is not None}
    total = sum(spec.workers * (spec.memory_mib or 0) for spec in limited.values())
    if total <= machine.memory_mib:
        return None
    parts = ", ".join(f"{name} {spec.workers} x {spec.memory_mib}" for name, spec in limited.items())
    return (
        f"the limits of the pools add up to {total} MiB ({parts}), this machine has {machine.memory_mib} MiB"
    )
