"""Degradation: which work pauses while the machine has too much of it, and when it goes on."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, fields
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dspex.errors import DefinitionError, OverloadedError

if TYPE_CHECKING:
    from collections.abc import Callable


class Work(Enum):
    """Kinds of work, in the order in which they pause."""

    OPTIMIZATION = "optimization"
    REASONING = "complex reasoning"
    SIMPLE = "simple work"


class Level(Enum):
    """How much the machine still takes on."""

    NORMAL = "normal"
    STRAINED = "strained"
    """Optimization pauses."""
    DEGRADED = "degraded"
    """Complex reasoning pauses as well."""


_PAUSED: dict[Level, frozenset[Work]] = {
    Level.NORMAL: frozenset(),
    Level.STRAINED: frozenset({Work.OPTIMIZATION}),
    Level.DEGRADED: frozenset({Work.OPTIMIZATION, Work.REASONING}),
}
_ORDER = list(Level)


@dataclass(frozen=True, slots=True)
class Load:
    """What the machine has to do; shares are percent, and what is not known is 0."""

    cpu_percent: float = 0.0
    memory_percent: float = 0.0
    queued: int = 0


STRAINED_AT = Load(cpu_percent=70, memory_percent=80, queued=250)
DEGRADED_AT = Load(cpu_percent=80, memory_percent=90, queued=500)


class LevelChange(NamedTuple):
    """A change of level, for whoever keeps or shows what happened."""

    before: Level
    after: Level
    reason: str


class Degradation:
    """Follows the load. It rises at once, and falls one level at a time after a calm while.

    Calm means that the load has stayed a tenth below the level's thresholds for `calm_s`: a load at a
    threshold does not switch work off and on.

    Examples
    --------
    >>> degradation = Degradation(clock=lambda: 0.0)
    >>> degradation.observe(Load(cpu_percent=85))
    LevelChange(before=<Level.NORMAL: 'normal'>, after=<Level.DEGRADED: 'degraded'>, reason='cpu_percent 85 >= 80')
    >>> degradation.allows(Work.OPTIMIZATION), degradation.allows(Work.SIMPLE)
    (False, True)
    """

    def __init__(
        self,
        *,
        strained_at: Load = STRAINED_AT,
        degraded_at: Load = DEGRADED_AT,
        calm_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        for each in fields(Load):
            low, high = getattr(strained_at, each.name), getattr(degraded_at, each.name)
            if not 0 < low <= high:
                raise DefinitionError(
                    f"{each.name} must strain before it degrades, got strained_at={low}, degraded_at={high}"
                )
        self._thresholds = {Level.STRAINED: strained_at, Level.DEGRADED: degraded_at}
        self._calm_s = calm_s
        self._clock = clock
        self.level = Level.NORMAL
        self._calm_since: float | None = None

    def allows(self, work: Work) -> bool:
        """Whether this kind of work goes on."""
        return work not in _PAUSED[self.level]

    def check(self, work: Work) -> None:
        """Raise if this kind of work pauses.

        Raises
        ------
        OverloadedError
            If it does.
        """
        if not self.allows(work):
            raise OverloadedError(
                f"{work.value} pauses while the machine is {self.level.value}",
                retry_after_s=self._calm_s,
                hint="it goes on by itself; simple work is still done",
            )

    def observe(self, load: Load) -> LevelChange | None:
        """Take note of the load, and say if the level changed with it."""
        wanted, reason = self._wanted(load, 1.0)
        if _ORDER.index(wanted) > _ORDER.index(self.level):
            return self._turn(wanted, reason)
        if self.level is Level.NORMAL or _ORDER.index(self._wanted(load, 0.9)[0]) >= _ORDER.index(self.level):
            self._calm_since = None
            return None
        now = self._clock()
        if self._calm_since is None:
            self._calm_since = now
        if now - self._calm_since < self._calm_s:
            return None
        return self._turn(_ORDER[_ORDER.index(self.level) - 1], f"calm for {now - self._calm_since:g} s")

    def _wanted(self, load: Load, factor: float) -> tuple[Level, str]:
        for level in (Level.DEGRADED, Level.STRAINED):
            for each in fields(Load):
                value, threshold = getattr(load, each.name), getattr(self._thresholds[level], each.name)
                if value >= factor * threshold:
                    return level, f"{each.name} {value:g} >= {threshold:g}"
        return Level.NORMAL, ""

    def _turn(self, after: Level, reason: str) -> LevelChange:
        change = LevelChange(self.level, after, reason)
        self.level, self._calm_since = after, None
        return change


def own_load(queued: int) -> Load:
    """Measure what dspex itself suffers from: memory that runs out, and calls that wait."""
    return Load(0.0, _memory_percent(), queued)


def machine_load(queued: int) -> Load:
    """Measure this machine: the load average as a share of its processors, and the memory in use.

    What the operating system does not tell is 0, and never degrades anything.
    """
    cpu = 0.0
    if hasattr(os, "getloadavg"):
        cpu = 100 * os.getloadavg()[0] / (os.cpu_count() or 1)
    return Load(cpu, _memory_percent(), queued)


def _memory_percent() -> float:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    kib = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
    if "MemAvailable" not in kib:
        return 0.0
    return 100 * (1 - kib["MemAvailable"] / kib["MemTotal"])
