"""A guarded call: breaker, back-off window, slots, retries and deadline around one provider."""

from __future__ import annotations

import time
from concurrent.futures import CancelledError
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar

from dspex.errors import DspexError, ProviderError, RateLimitedError
from dspex.reliability import deadline
from dspex.reliability.breaker import Breaker, BreakerSettings, outcome_of
from dspex.reliability.limits import AdaptiveLimit, BackoffWindow, Bulkhead
from dspex.reliability.retry import GiveUp, Retry, RetryPolicy, billed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Value = TypeVar("Value")
_TAKEN: ContextVar[frozenset[int]] = ContextVar("dspex_turns", default=frozenset())
"""The guards whose turn the work under way has: what it asks within is a part of it, and would wait for itself."""
_UNSAID_WAIT_S = 1.0
"""How long a provider is left alone that says 429 and not for how long."""


class Attempt(NamedTuple):
    """One attempt that was made, for whoever keeps or shows what happened."""

    provider: str
    number: int
    latency_s: float
    error: str | None
    outcome: Literal["success", "failure", "ignored"]
    possibly_billed: bool
    """Whether it failed, and may be paid for all the same."""


@dataclass(slots=True)
class Guard:
    """Everything that stands before one provider.

    Parameters
    ----------
    listen
        Called with each attempt that was made.

    Examples
    --------
    >>> guard = Guard.of("openai/gpt-4o-mini", slots=8)
    >>> guard.call(lambda timeout_s: "Paris")
    'Paris'
    """

    breaker: Breaker
    window: BackoffWindow
    slots: Bulkhead
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    limit: AdaptiveLimit | None = None
    p95_s: float = 10.0
    """What 95 % of the calls are predicted to stay below; attempts get thrice as long at most."""
    shortest_s: float = deadline.SHORTEST_ATTEMPT_S
    """What an attempt gets at least, if there is time for it."""
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    listen: Callable[[Attempt], None] | None = None

    @classmethod
    def of(
        cls,
        name: str,
        *,
        slots: int = 32,
        retry: RetryPolicy | None = None,
        breaker: BreakerSettings | None = None,
        window: BackoffWindow | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> Guard:
        """Make one with the usual settings; a `window` may be shared with others who use the same key."""
        limit = AdaptiveLimit(slots, clock=clock)
        return cls(
            Breaker(name, breaker, clock=clock),
            BackoffWindow(name, clock=clock) if window is None else window,
            Bulkhead(name, slots=limit, clock=clock),
            RetryPolicy() if retry is None else retry,
            limit,
            clock=clock,
        )

    def refusal(self) -> str | None:
        """Say why a call would be refused now, or None if it would not."""
        if not self.breaker.is_admitting:
            return "its breaker is open"
        wait = self.window.wait_s
        return f"it asked for {wait:.1f} s of peace" if wait > 0 else None

    @property
    def is_at_ease(self) -> bool:
        """Whether it is well and has room: what a hedge is asked of must not be busy, or on trial."""
        return self.breaker.state == "closed" and self.window.wait_s == 0 and self.slots.is_free

    @property
    def retry_after_s(self) -> float:
        """In how many seconds it may be asked again."""
        return max(self.breaker.retry_after_s, self.window.wait_s)

    def call(
        self,
        ask: Callable[[float], Value],
        *,
        idempotent: bool = True,
        attempts_left: int = 1,
        p95_s: float | None = None,
        again: bool = True,
    ) -> Value:
        """Ask, and ask again where that is worth it.

        Parameters
        ----------
        ask
            Takes the seconds that the attempt may take, and raises our errors.
        idempotent
            Whether asking twice is the same as asking once.
        attempts_left
            How many providers may still be tried, this one included: time is kept for them.
        p95_s
            What is predicted for this call, if that is known better than for all of them.
        again
            Whether it may be asked again; not if another one is asked instead.

        Raises
        ------
        DspexError
            What the last attempt raised, or why there was none.
        """
        if id(self) in _TAKEN.get():
            return ask(deadline.remaining_s())
        number = 0
        while True:
            try:
                self._prepare()
                with self.slots.slot():
                    return self._attempt(ask, number, attempts_left, p95_s)
            except DspexError as error:
                if not again:
                    raise
                decision = self._decide(error, number, idempotent=idempotent)
                if isinstance(decision, GiveUp):
                    raise
            self.sleep(decision.delay_s)
            number += 1

    @contextmanager
    def turn(self, number: int = 0) -> Iterator[None]:
        """Hold a slot and a ticket for a piece of work that may ask others too; it is not asked again here.

        Only failures that name this provider are laid to it. Work that ends in any other error says
        nothing about it. What the work asks of it with `call` is a part of the turn.

        Parameters
        ----------
        number
            Of the attempt, the first being 0.

        Raises
        ------
        DspexError
            What the work raised, or why it was not begun.
        """
        self._prepare()
        with self.slots.slot():
            ticket, began = self.breaker.admit(), self.clock()
            token = _TAKEN.set(_TAKEN.get() | {id(self)})
            try:
                yield
            except BaseException as error:
                if isinstance(error, ProviderError) and error.provider == self.breaker.name:
                    self._settle(ticket, number, self.clock() - began, error)
                else:
                    self.breaker.record(ticket, "ignored")
                raise
            finally:
                _TAKEN.reset(token)
            self._settle(ticket, number, self.clock() - began, None)

    def _prepare(self) -> None:
        deadline.check()
        self.window.check()

    def _attempt(
        self, ask: Callable[[float], Value], number: int, attempts_left: int, p95_s: float | None
    ) -> Value:
        ticket, began = self.breaker.admit(), self.clock()
        error: BaseException | None = None
        try:
            with deadline.within(self._timeout_s(attempts_left, p95_s), clock=self.clock):
                return ask(deadline.remaining_s())
        except BaseException as raised:
            error = raised
            raise
        finally:
            self._settle(ticket, number, self.clock() - began, error)

    def _timeout_s(self, attempts_left: int, p95_s: float | None) -> float:
        return deadline.attempt_timeout_s(
            self.p95_s if p95_s is None else p95_s,
            remaining_s=deadline.remaining_s(),
            attempts_left=attempts_left,
            shortest_s=self.shortest_s,
        )

    def _settle(self, ticket: int, number: int, latency_s: float, error: BaseException | None) -> None:
        outcome = outcome_of(error)
        self.breaker.record(ticket, outcome, latency_s)
        if outcome == "success":
            self.retry.budget.on_success()
            if self.limit is not None:
                self.limit.on_success()
        elif outcome == "failure":
            self.retry.budget.on_failure()
        if isinstance(error, RateLimitedError):
            self.window.extend(_UNSAID_WAIT_S if error.retry_after_s is None else error.retry_after_s)
            if self.limit is not None:
                self.limit.on_rate_limited()
        if self.listen is not None and not isinstance(error, CancelledError):  # nobody was asked then
            is_billed = isinstance(error, DspexError) and billed(error)
            described = None if error is None else f"{type(error).__name__}: {error}"
            self.listen(Attempt(self.breaker.name, number, latency_s, described, outcome, is_billed))

    def _decide(self, error: DspexError, number: int, *, idempotent: bool) -> Retry | GiveUp:
        return self.retry.after(
            error, attempt=number, remaining_s=deadline.remaining_s(), idempotent=idempotent
        )
