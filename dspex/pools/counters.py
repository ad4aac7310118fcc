"""What a pool has done, in numbers that add up."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from dspex.errors import CancelledError, TaskTimeoutError

_REMEMBERED = 256


class WorkerStats(NamedTuple):
    """One worker."""

    name: str
    pid: int | None
    state: str
    tasks: int
    sessions: int
    age_s: float
    held_mib: float


@dataclass(frozen=True, slots=True)
class PoolStats:
    """A pool at one moment.

    Every task that was taken on is in exactly one place:
    ``submitted == done + failed + cancelled + queued + running``.
    """

    name: str
    submitted: int = 0
    done: int = 0
    failed: int = 0
    cancelled: int = 0
    queued: int = 0
    running: int = 0
    rejected: int = 0
    """Never taken on, as too many were waiting …"""
    refused: int = 0
    """… or as the breaker was not closed."""
    dropped: int = 0
    """Failed, as a newer task took their place in the queue."""
    retried: int = 0
    timed_out: int = 0
    started: int = 0
    """Workers that were started."""
    crashed: int = 0
    """Workers that died by themselves."""
    stopped: int = 0
    """Workers that the pool killed: too slow, too large, or silent."""
    recycled: int = 0
    """Workers that were replaced in time."""
    sessions: int = 0
    how: str = ""
    """How workers begin, and whether all is well."""
    breaker: str = "closed"
    """Whether tasks are taken on: ``closed`` if so, else how long they are not, and why."""
    wait_s: float = 0.0
    """How long the last tasks waited, at the median …"""
    run_s: float = 0.0
    """… and ran."""
    workers: tuple[WorkerStats, ...] = ()

    @property
    def reconciles(self) -> bool:
        """Whether the numbers add up; they always do."""
        return self.submitted == self.done + self.failed + self.cancelled + self.queued + self.running

    def __str__(self) -> str:
        lines = [
            (
                f"{self.name}: {len(self.workers)} workers ({self.how}), {self.running} tasks run, {self.queued} wait; "
                f"{self.done} done, {self.failed} failed, {self.cancelled} cancelled of {self.submitted}"
            )
        ]
        if self.breaker != "closed":
            lines.append(f"  breaker {self.breaker}")
        lines += [
            f"  {each.name:<16} pid {each.pid or '-':<8} {each.state:<9} {each.tasks:>6} tasks "
            f"{each.sessions:>3} sessions {each.held_mib:>6.0f} MiB {each.age_s:>7.0f} s"
            for each in self.workers
        ]
        return "\n".join(lines)


@dataclass(slots=True)
class Counters:
    """The counts behind `PoolStats`, kept by an engine under its lock."""

    submitted: int = 0
    done: int = 0
    failed: int = 0
    cancelled: int = 0
    rejected: int = 0
    dropped: int = 0
    retried: int = 0
    timed_out: int = 0
    started: int = 0
    crashed: int = 0
    stopped: int = 0
    recycled: int = 0
    waits_s: deque[float] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    runs_s: deque[float] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))

    def snapshot(
        self,
        name: str,
        *,
        queued: int,
        sessions: int = 0,
        how: str = "",
        workers: tuple[WorkerStats, ...] = (),
    ) -> PoolStats:
        """Return the numbers as they are now; what is neither queued nor over is running."""
        over = self.done + self.failed + self.cancelled
        return PoolStats(
            name,
            self.submitted,
            self.done,
            self.failed,
            self.cancelled,
            queued,
            self.submitted - over - queued,
            self.rejected,
            dropped=self.dropped,
            retried=self.retried,
            timed_out=self.timed_out,
            started=self.started,
            crashed=self.crashed,
            stopped=self.stopped,
            recycled=self.recycled,
            sessions=sessions,
            how=how,
            wait_s=_median(self.waits_s),
            run_s=_median(self.runs_s),
            workers=workers,
        )

    @staticmethod
    def how(error: BaseException, stop_reason: str | None) -> str:
        """Say as what a task is counted that ended in an error."""
        if isinstance(error, TaskTimeoutError):
            return "late"
        is_cancelled = isinstance(error, CancelledError) and stop_reason == "cancelled"
        return "cancelled" if is_cancelled else "failed"

    def settle(self, how: str) -> None:
        """Count a task as ``done``, ``failed``, ``late`` (failed, too) or ``cancelled``."""
        self.done += how == "done"
        self.failed += how in {"failed", "late"}
        self.timed_out += how == "late"
        self.cancelled += how == "cancelled"

    def is_settled(self) -> bool:
        """Whether every task that was taken on is over."""
        return self.submitted == self.done + self.failed + self.cancelled

    def mean_run_s(self) -> float:
        """How long a task took lately."""
        return sum(self.runs_s) / len(self.runs_s) if self.runs_s else 0.0


def _median(values: deque[float]) -> float:
    return sorted(values)[len(values) // 2] if values else 0.0
