"""Limits: how many calls run at once, how many may wait for that, and when nobody may call at all."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dspex.errors import DefinitionError, OverloadedError, RateLimitedError, TimedOutError
from dspex.reliability import deadline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MEMORY = 0.1
"""The weight of the newest call in the mean service time."""
_QUEUE_SHARE = 0.5
"""What waits may take up this share of the deadline; the rest is for being served."""
_NO_DEADLINE_S = 60.0
"""What a caller without a deadline is taken to be willing to wait."""


def queue_size(*, deadline_s: float, slots: int, service_s: float) -> int:
    """Say how many may wait: as many as are served in half of the deadline.

    Who would wait longer is better told at once: a queue without a bound serves nobody in time.

    Examples
    --------
    >>> queue_size(deadline_s=1.0, slots=20, service_s=0.05)
    200
    """
    if service_s <= 0 or math.isinf(deadline_s):
        deadline_s, service_s = min(deadline_s, _NO_DEADLINE_S), max(service_s, 1e-3)
    return max(1, math.floor(_QUEUE_SHARE * deadline_s * slots / service_s + 1e-9))


class AdaptiveLimit:
    """How many calls at once a provider takes: one more for each round that goes well, half after a 429.

    References
    ----------
    Chiu and Jain (1989), "Analysis of the increase and decrease algorithms for congestion avoidance".

    Examples
    --------
    >>> limit = AdaptiveLimit(8, clock=lambda: 0.0)
    >>> limit.on_rate_limited()
    >>> limit.slots
    4
    """

    def __init__(
        self,
        slots: int,
        *,
        least: int = 1,
        hold_s: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not 1 <= least <= slots:
            raise DefinitionError(f"least must lie between 1 and slots={slots}, got {least}")
        self._most, self._least, self._hold_s = slots, least, hold_s
        self._clock = clock
        self._limit = float(slots)
        self._halved_at = -math.inf
        self._lock = threading.Lock()

    @property
    def slots(self) -> int:
        """How many calls may run at once now."""
        return int(self._limit)

    def on_success(self) -> None:
        """Allow a part of one more."""
        if self._limit < self._most:
            with self._lock:
                self._limit = min(float(self._most), self._limit + 1 / self._limit)

    def on_rate_limited(self) -> None:
        """Allow half as many; calls that were under way together count once."""
        with self._lock:
            now = self._clock()
            if now - self._halved_at >= self._hold_s:
                self._halved_at = now
                self._limit = max(float(self._least), self._limit / 2)


class BackoffWindow:
    """The time during which a provider asked not to be called, shared by all who use the same key.

    Examples
    --------
    >>> window = BackoffWindow("openai", clock=lambda: 100.0)
    >>> window.extend(2.0)
    >>> window.wait_s
    2.0
    >>> window.check()
    Traceback (most recent call last):
    dspex.errors.RateLimitedError: openai asked not to be called for another 2.0 s
      → wait, or let another provider answer
    """

    def __init__(self, name: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self._clock = clock
        self._until = -math.inf
        self._lock = threading.Lock()

    @property
    def wait_s(self) -> float:
        """How long nobody shall call, in seconds; 0 if everybody may."""
        return max(0.0, self._until - self._clock())

    def extend(self, seconds: float) -> None:
        """Close it for so long; it is never closed for less than it was."""
        with self._lock:
            self._until = max(self._until, self._clock() + seconds)

    def check(self) -> None:
        """Raise while it is closed.

        Raises
        ------
        RateLimitedError
            With how long to wait.
        """
        wait = self.wait_s
        if wait > 0:
            raise RateLimitedError(
                f"{self.name} asked not to be called for another {wait:.1f} s",
                provider=self.name,
                retry_after_s=wait,
                hint="wait, or let another provider answer",
            )


class Bulkhead:
    """Lets so many calls run at once, and a bounded number wait, first come, first served.

    One for each provider keeps a sick one from taking the others' places. A caller waits at most until its
    deadline; one that would wait longer than half of it is turned away at once, and told how long the wait is.

    Parameters
    ----------
    slots
        How many, or an `AdaptiveLimit` that says so.
    waiting
        How many may wait; if left out, as many as `queue_size` says for the caller's deadline.

    Examples
    --------
    >>> general = Bulkhead("general", slots=2)
    >>> with general.slot():
    ...     general
    <Bulkhead general: 1 of 2 slots taken, 0 waiting>
    """

    def __init__(
        self,
        name: str,
        *,
        slots: int | AdaptiveLimit,
        waiting: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if isinstance(slots, int) and slots < 1:
            raise DefinitionError(f"slots must be at least 1, got {slots}")
        if waiting is not None and waiting < 0:
            raise DefinitionError(f"waiting must be 0 or more, got {waiting}")
        self.name = name
        self._slots, self._most_waiting = slots, waiting
        self._clock = clock
        self._lock = threading.Lock()
        self._taken = 0
        self._queue: deque[Future[None]] = deque()
        self._service_s = 0.0
        self.deepest = 0
        """How many waited when most did."""

    def __repr__(self) -> str:
        return (
            f"<Bulkhead {self.name}: {self._taken} of {self.slots} slots taken, {len(self._queue)} waiting>"
        )

    @property
    def slots(self) -> int:
        """How many may run at once now."""
        return self._slots if isinstance(self._slots, int) else self._slots.slots

    @property
    def waiting(self) -> int:
        """How many wait now."""
        return len(self._queue)

    @property
    def is_free(self) -> bool:
        """Whether a call that came now would not wait."""
        return self._taken < self.slots and not self._queue

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Hold a slot for a piece of work.

        Raises
        ------
        OverloadedError
            If too many wait already.
        TimedOutError
            If the deadline passes while waiting.
        """
        place = self._enter()
        if place is not None:
            remaining = deadline.remaining_s()
            try:
                place.result(None if math.isinf(remaining) else remaining)
            except TimeoutError as error:
                self._give_up(place)
                raise self._queue_timeout() from error
            except BaseException:
                self._give_up(place)
                raise
        began = self._clock()
        try:
            yield
        finally:
            self._free(self._clock() - began)

    def _enter(self) -> Future[None] | None:
        """Take a slot and return None, or a place in the queue."""
        with self._lock:
            if self.is_free:
                self._taken += 1
                return None
            n = len(self._queue)
            wait = (n + 1) * self._service_s / self.slots
            if n >= self._bound():
                raise OverloadedError(
                    f"{self.name} is overloaded: {n} are waiting for {self.slots} slots, about {wait:.1f} s",
                    retry_after_s=wait,
                    hint=f"ask again in {max(wait, 0.1):.1f} s, or raise the number of slots",
                )
            place: Future[None] = Future()
            self._queue.append(place)
            self.deepest = max(self.deepest, n + 1)
            return place

    def _bound(self) -> int:
        if self._most_waiting is not None:
            return self._most_waiting
        return queue_size(deadline_s=deadline.remaining_s(), slots=self.slots, service_s=self._service_s)

    def _free(self, took_s: float) -> None:
        with self._lock:
            weight = _MEMORY if self._service_s else 1.0
            self._service_s += weight * (took_s - self._service_s)
            self._taken -= 1
            granted = self._next()
        for place in granted:
            place.set_result(None)

    def _next(self) -> list[Future[None]]:
        granted = []
        while self._queue and self._taken < self.slots:
            place = self._queue.popleft()
            # From here on it cannot be cancelled any more: who gives up must hand the slot on.
            if place.set_running_or_notify_cancel():
                self._taken += 1
                granted.append(place)
        return granted

    def _give_up(self, place: Future[None]) -> None:
        """Leave the queue, or hand the slot on that was granted just then."""
        if not place.cancel():
            self._hand_on()
            return
        with self._lock:
            if place in self._queue:
                self._queue.remove(place)

    def _hand_on(self) -> None:
        with self._lock:
            self._taken -= 1
            granted = self._next()
        for place in granted:
            place.set_result(None)

    def _queue_timeout(self) -> TimedOutError:
        return TimedOutError(
            f"no slot of {self.name} became free before the deadline: {len(self._queue)} are still waiting",
            possibly_billed=False,
            hint="give it more time, or more slots",
        )
