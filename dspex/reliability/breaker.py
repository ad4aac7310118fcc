"""The circuit breaker: stop asking who keeps failing, and find out with one call when that is over."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from dspex.errors import BadResponseError, CircuitOpenError, DefinitionError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

State = Literal["closed", "open", "half-open"]
Outcome = Literal["success", "failure", "ignored"]


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """When a breaker opens, and for how long.

    Raises
    ------
    DefinitionError
        With every setting that is out of bounds.
    """

    window: int = 20
    """How many of the last calls count."""
    failure_rate: float | None = 0.5
    """The share of failures among them that opens it; None if only those in a row shall."""
    min_calls: int = 5
    """How many calls there must be before a share means anything."""
    consecutive: int | None = 3
    """So many failures in a row open it whatever the share; None if only the share shall."""
    slow_call_s: float | None = None
    """A success that took longer is slow; None if none is."""
    slow_rate: float = 0.8
    """The share of slow calls that opens it."""
    cool_down_s: float = 5.0
    """How long it stays open the first time; doubled each time that a probe fails."""
    longest_cool_down_s: float = 120.0
    jitter: float = 0.2
    """How far a cool-down is off at random, so that many processes do not probe at once."""
    probes: int = 1
    """How many calls may find out, at the same time, whether it is over."""
    probe_lease_s: float = 60.0
    """After which a probe that was never heard of again is given up."""

    def __post_init__(self) -> None:
        rules = {
            f"window must be at least 1, got {self.window}": self.window >= 1,
            f"min_calls must lie between 1 and window={self.window}, got {self.min_calls}": (
                1 <= self.min_calls <= self.window
            ),
            f"failure_rate must lie above 0 and not above 1, got {self.failure_rate}": (
                self.failure_rate is None or 0 < self.failure_rate <= 1
            ),
            f"slow_rate must lie above 0 and not above 1, got {self.slow_rate}": 0 < self.slow_rate <= 1,
            f"consecutive must be at least 1, got {self.consecutive}": (
                self.consecutive is None or self.consecutive >= 1
            ),
            f"cool_down_s must lie above 0 and not above longest_cool_down_s={self.longest_cool_down_s}, "
            f"got {self.cool_down_s}": 0 < self.cool_down_s <= self.longest_cool_down_s,
            f"jitter must lie between 0 and 1, got {self.jitter}": 0 <= self.jitter < 1,
            f"probes must be at least 1, got {self.probes}": self.probes >= 1,
            f"probe_lease_s must be above 0, got {self.probe_lease_s}": self.probe_lease_s > 0,
        }
        broken = [rule for rule, holds in rules.items() if not holds]
        if broken:
            raise DefinitionError(
                "\n".join(["this breaker cannot work:", *(f"  - {each}" for each in broken)])
            )


class Transition(NamedTuple):
    """A breaker's change of state, for whoever listens."""

    name: str
    before: State
    after: State
    reason: str
    open_s: float
    """How long nobody will be admitted; 0 unless it opened."""
    number: int
    """Counts up; listeners on several threads may hear of two transitions in the wrong order."""


class Breaker:
    """A circuit breaker, for threads and event loops alike.

    `admit` says whether a call may be made and gives it a ticket; `record` takes the ticket back with
    what came of it. Nothing is locked while a call runs. A ticket is the number of the breaker's present
    generation, which every transition ends: what comes in late from before a transition counts for
    nothing. `record` must be called for every ticket, so put it into a ``finally``.

    Parameters
    ----------
    name
        Whom it stands for, such as "openai/gpt-4o-mini".
    clock
        Seconds that never go backwards.
    rng
        Where the jitter of cool-downs comes from.
    listen
        Called with each transition, outside of any lock.

    References
    ----------
    Nygard, "Release It!" (2007), chapter 5. Windows, slow calls and their names are resilience4j's.

    Examples
    --------
    >>> breaker = Breaker("openai/gpt-4o-mini", clock=lambda: 0.0)
    >>> for _ in range(3):
    ...     breaker.record(breaker.admit(), "failure")
    >>> breaker.state
    'open'
    >>> breaker.admit()
    Traceback (most recent call last):
    dspex.errors.CircuitOpenError: openai/gpt-4o-mini is not asked for ... s: 3 failures in a row
      → another model answers meanwhile; this one is tried again by itself
    """

    def __init__(
        self,
        name: str,
        settings: BreakerSettings | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
        listen: Callable[[Transition], None] | None = None,
    ) -> None:
        self.name = name
        self.settings = BreakerSettings() if settings is None else settings
        self._clock = clock
        self._rng = random.Random() if rng is None else rng
        self.listen = listen
        self._lock = threading.Lock()
        self._state: State = "closed"
        self._generation = 0
        self._closed_ticket: int | None = 0
        self._reason = ""
        self._open_until = 0.0
        self._openings = 0
        self._calls: deque[tuple[bool, bool]] = deque()
        self._failures = self._slow = self._in_a_row = 0
        self._leases: list[float] = []
        self._probes_passed = 0

    def __repr__(self) -> str:
        share = f"{self._failures} of the last {len(self._calls)} calls failed"
        return f"<Breaker {self.name}: {self._state}, {self._reason if self._state == 'open' else share}>"

    @property
    def state(self) -> State:
        """What it is now; an open one stays so until somebody asks after its cool-down."""
        return self._state

    @property
    def reason(self) -> str:
        """Why it is that; empty as long as it never opened."""
        return self._reason

    @property
    def retry_after_s(self) -> float:
        """How long nobody will be admitted, in seconds."""
        return max(0.0, self._open_until - self._clock()) if self._state == "open" else 0.0

    @property
    def is_admitting(self) -> bool:
        """Whether a call that asked now would get a ticket; asking takes none."""
        if self._closed_ticket is not None:
            return True
        with self._lock:
            if self._state == "open":
                return self._clock() >= self._open_until
            free = len(self._leases) + self._probes_passed < self.settings.probes
            return free or self._clock() >= min(self._leases, default=0.0)

    def admit(self) -> int:
        """Give a ticket for one call.

        Raises
        ------
        CircuitOpenError
            If it is open, or if others are finding out already.
        """
        # One read, no lock: a closed breaker costs its callers next to nothing.
        ticket = self._closed_ticket
        if ticket is not None:
            return ticket
        with self._lock:
            transition, ticket = self._probe()
        self._tell(transition)
        if ticket is None:
            raise self._refusal()
        return ticket

    def record(self, ticket: int, outcome: Outcome, latency_s: float = 0.0) -> None:
        """Take a ticket back. What is ignored, such as a user's mistake, only frees a probe's place."""
        with self._lock:
            if ticket != self._generation:
                return
            if self._state == "half-open":
                transition = self._judge_probe(outcome)
            elif outcome == "ignored":
                return
            else:
                transition = self._count(failed=outcome == "failure", slow=self._is_slow(latency_s))
        self._tell(transition)

    # ── within the lock ─────────────────────────────────────────────────────────────────────────

    def _probe(self) -> tuple[Transition | None, int | None]:
        now, transition = self._clock(), None
        if self._state == "closed":
            return None, self._generation
        if self._state == "open":
            if now < self._open_until:
                return None, None
            transition = self._turn("half-open", "the cool-down is over")
        if len(self._leases) + self._probes_passed >= self.settings.probes:
            if now < min(self._leases, default=now):
                return transition, None
            # Probes are lost with the threads that made them. Those that come back after all are late.
            transition = self._turn("half-open", "a probe was never heard of again")
        self._leases.append(now + self.settings.probe_lease_s)
        return transition, self._generation

    def _judge_probe(self, outcome: Outcome) -> Transition | None:
        if outcome == "failure":
            return self._open("a probe failed")
        if self._leases:
            self._leases.pop(0)
        if outcome == "ignored":
            return None
        self._probes_passed += 1
        if self._probes_passed < self.settings.probes:
            return None
        self._openings = 0
        return self._turn("closed", "every probe was answered")

    def _count(self, *, failed: bool, slow: bool) -> Transition | None:
        settings, calls = self.settings, self._calls
        if len(calls) == settings.window:
            forgotten_failed, forgotten_slow = calls.popleft()
            self._failures -= forgotten_failed
            self._slow -= forgotten_slow
        slow = slow and not failed
        calls.append((failed, slow))
        self._slow += slow
        if not failed:
            self._in_a_row = 0
            return self._open_if_slow() if slow else None
        self._failures += 1
        self._in_a_row += 1
        if settings.consecutive is not None and self._in_a_row >= settings.consecutive:
            row = self._in_a_row
            return self._open(f"{row} failures in a row" if row > 1 else "a failure")
        n, rate = len(calls), settings.failure_rate
        if rate is not None and n >= settings.min_calls and self._failures >= rate * n:
            return self._open(f"{self._failures} of the last {n} calls failed")
        return None

    def _open_if_slow(self) -> Transition | None:
        n = len(self._calls)
        if n >= self.settings.min_calls and self._slow >= self.settings.slow_rate * n:
            return self._open(f"{self._slow} of the last {n} calls took over {self.settings.slow_call_s:g} s")
        return None

    def _open(self, reason: str) -> Transition:
        settings = self.settings
        cool_down = min(settings.cool_down_s * 2.0**self._openings, settings.longest_cool_down_s)
        cool_down *= 1 + settings.jitter * self._rng.uniform(-1, 1)
        self._openings = min(self._openings + 1, 64)
        self._open_until = self._clock() + cool_down
        return self._turn("open", reason, cool_down)

    def _turn(self, after: State, reason: str, open_s: float = 0.0) -> Transition:
        transition = Transition(self.name, self._state, after, reason, open_s, self._generation + 1)
        self._state = after
        self._generation += 1
        self._closed_ticket = self._generation if after == "closed" else None
        self._reason = reason
        self._calls.clear()
        self._failures = self._slow = self._in_a_row = self._probes_passed = 0
        self._leases.clear()
        return transition

    # ── outside of it ───────────────────────────────────────────────────────────────────────────

    def _is_slow(self, latency_s: float) -> bool:
        limit = self.settings.slow_call_s
        return limit is not None and latency_s > limit

    def _tell(self, transition: Transition | None) -> None:
        if transition is not None and self.listen is not None:
            self.listen(transition)

    def _refusal(self) -> CircuitOpenError:
        wait = self.retry_after_s
        when = f"is not asked for {wait:.1f} s: {self._reason}" if wait else "is being probed by another call"
        return CircuitOpenError(
            f"{self.name} {when}",
            provider=self.name,
            retry_after_s=wait,
            hint="another model answers meanwhile; this one is tried again by itself",
        )


def outcome_of(error: BaseException | None) -> Outcome:
    """Say what a call's end means for its breaker.

    A provider that asks us to come back later is well, and a refused request is the user's own; both
    are ignored, as is a call that was cancelled, or that a broken pool of workers kept from being made.

    Examples
    --------
    >>> from dspex.errors import RateLimitedError, RequestRefusedError, TimedOutError
    >>> [outcome_of(each) for each in (None, TimedOutError("late"), RateLimitedError("later"))]
    ['success', 'failure', 'ignored']
    >>> outcome_of(RequestRefusedError("no such model"))
    'ignored'
    """
    if error is None:
        return "success"
    is_failure = isinstance(error, UnavailableError | BadResponseError)
    return "failure" if is_failure and not isinstance(error, CircuitOpenError) else "ignored"
