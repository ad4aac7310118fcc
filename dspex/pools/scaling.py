"""Scaling: how many workers a pool should have, from what there is to do."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dspex.pools.spec import PoolSpec


class Scaling:
    """Grows at once and shrinks slowly, so that a load that comes and goes finds its workers there.

    A task that would have to wait makes the pool larger, up to `workers`. A worker goes only when it had nothing
    to do for `idle_stop_s`, and none within `cooldown_s` of the last change, whichever way that was. Times are on
    any one clock.

    Examples
    --------
    >>> from dspex.pools import PoolSpec
    >>> scaling = Scaling(PoolSpec(workers=8, min_workers=2, idle_stop_s=60, cooldown_s=10))
    >>> scaling.grow(needed=20, now=0.0)
    8
    >>> [scaling.shrink(idle_since=5.0, now=now) for now in (30.0, 66.0, 70.0, 77.0)]
    [False, True, False, True]
    >>> scaling.wanted
    6
    """

    def __init__(self, spec: PoolSpec) -> None:
        self.wanted = spec.min_workers
        self._least, self._most = spec.min_workers, spec.workers
        self._idle_stop_s = math.inf if spec.idle_stop_s is None else spec.idle_stop_s
        self._cooldown_s = spec.cooldown_s
        self._changed_at = -math.inf

    def grow(self, *, needed: int, now: float) -> int:
        """Want as many workers as there is work for; returns how many are wanted."""
        if min(needed, self._most) > self.wanted:
            self.wanted = min(needed, self._most)
            self._changed_at = now
        return self.wanted

    def is_spare(self, *, idle_since: float, now: float) -> bool:
        """Whether a worker may go that has had nothing to do since then."""
        has_cooled = now - self._changed_at >= self._cooldown_s
        return has_cooled and self.wanted > self._least and now - idle_since > self._idle_stop_s

    def shrink(self, *, idle_since: float, now: float) -> bool:
        """Want one worker less, if this one may go; returns whether it may."""
        may_go = self.is_spare(idle_since=idle_since, now=now)
        if may_go:
            self.wanted -= 1
            self._changed_at = now
        return may_go
