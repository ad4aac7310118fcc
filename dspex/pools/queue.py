"""The queue: what waits, in which order, and what is said when it is full."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from dspex.pools.task import Task

_Heap = list[tuple[int, int, "Task"]]


class TaskQueue:
    """Waiting tasks: the highest priority first, then the oldest.

    Tasks that only one worker may run, because a session's state is there, wait apart, so that they hold up
    nobody. It knows no lock; whoever owns it has one.
    """

    def __init__(self) -> None:
        self._general: _Heap = []
        self._bound: dict[Hashable, _Heap] = {}
        self._waiting = 0

    def __len__(self) -> int:
        return self._waiting

    def __iter__(self) -> Iterator[Task]:
        for heap in (self._general, *self._bound.values()):
            yield from (task for _, _, task in heap if task.queued)

    def put(self, task: Task) -> None:
        """Let a task wait."""
        task.queued = True
        self._waiting += 1
        heapq.heappush(self._general, (-task.priority, task.number, task))

    def discard(self, task: Task) -> None:
        """Let a task wait no longer; it stays in its heap, and is skipped there."""
        if task.queued:
            task.queued = False
            self._waiting -= 1

    def take(self, slot: Hashable) -> Task | None:
        """Take the task that this worker should run next, or None."""
        self._sort_out(slot)
        bound = self._head(self._bound.get(slot, []))
        general = self._head(self._general)
        if bound is None and general is None:
            return None
        from_bound = general is None or (bound is not None and bound[:2] < general[:2])
        task = heapq.heappop(self._bound[slot] if from_bound else self._general)[2]
        self.discard(task)
        return task

    def oldest(self) -> Task | None:
        """Find the task that has waited longest."""
        return min(self, key=lambda task: task.number, default=None)

    def release(self, slot: Hashable) -> list[Task]:
        """Give back what waited for a worker that is gone."""
        waiting = [task for _, _, task in sorted(self._bound.pop(slot, [])) if task.queued]
        for task in waiting:
            self.discard(task)
        return waiting

    def has_bound(self, slot: Hashable) -> bool:
        """Whether something waits for this worker alone."""
        return self._head(self._bound.get(slot, [])) is not None

    def next_deadline(self) -> float | None:
        """When the first of the waiting tasks is too late."""
        return min((task.deadline for task in self if task.deadline is not None), default=None)

    def _head(self, heap: _Heap) -> tuple[int, int, Task] | None:
        while heap and not heap[0][2].queued:
            heapq.heappop(heap)
        return heap[0] if heap else None

    def _sort_out(self, slot: Hashable) -> None:
        """Move tasks at the head of the general queue that belong to another worker to where they wait for it."""
        while (head := self._head(self._general)) is not None:
            session = head[2].session
            home = session.home if session is not None else None
            if home is None or home is slot:
                return
            heapq.heappop(self._general)
            heapq.heappush(self._bound.setdefault(home, []), head)
