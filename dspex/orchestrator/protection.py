"""What stands between a decision and a model: guards, load, and what may be spent."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from dspex.errors import OverloadedError, ProviderError
from dspex.events import AttemptFailed, BreakerTurned, Event, LoadLevelChanged
from dspex.records import Outcome, Usage
from dspex.reliability import Degradation, Guards, HedgeBudget, Level, Work, deadline, hedging

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from dspex.errors import DspexError
    from dspex.records import Decision, Strategy
    from dspex.reliability import Attempt, Reliability, Transition

_SIMPLE = ("Predict",)
"""Modules that ask once and for nothing but the answer; any other one is complex reasoning."""
_LOOK_EVERY_S = 1.0
_SHORTEST_WAIT_S = 0.2
_LONGEST_WAIT_S = 1.0
"""Then it is looked again whether one may be asked: another call may have found out."""


class Protection:
    """Keeps calls from models that are known to fail, and from a machine that has too much to do.

    Parameters
    ----------
    settings
        How.
    publish
        Where failed attempts, breakers that turn and changes of the load are announced.
    """

    def __init__(
        self,
        settings: Reliability,
        *,
        publish: Callable[[Event], None],
    ) -> None:
        self.settings = settings
        self._publish = publish
        self.guards = Guards(settings, on_turn=self._turned, on_attempt=self._attempted)
        self.degradation = Degradation(
            strained_at=settings.strained_at,
            degraded_at=settings.degraded_at,
            calm_s=settings.calm_s,
            clock=self.guards.clock,
        )
        self.hedges = HedgeBudget()
        self._looking = threading.Lock()
        self._looked_at = float("-inf")

    # ── before a decision ───────────────────────────────────────────────────────────────────────

    def why_closed(self, strategy: Strategy) -> str | None:
        """Say why a strategy is not to be chosen now, or None."""
        guard = self.guards.find(strategy.model)
        refusal = None if guard is None else guard.refusal()
        if refusal is None and strategy.module not in _SIMPLE and not self.degradation.allows(Work.REASONING):
            refusal = f"{Work.REASONING.value} pauses while the machine is {self.degradation.level.value}"
        return refusal

    def check_load(self, strategies: Iterable[Strategy]) -> None:
        """Look at the machine now and then, and raise if nothing but complex reasoning is left and pauses.

        Raises
        ------
        OverloadedError
            If it does.
        """
        self.look()
        if not self.degradation.allows(Work.REASONING) and all(
            each.module not in _SIMPLE for each in strategies
        ):
            self.degradation.check(Work.REASONING)

    def look(self) -> None:
        """Measure the load, at most once a second, and announce a change of level."""
        now = self.guards.clock()
        if now - self._looked_at < _LOOK_EVERY_S or not self._looking.acquire(blocking=False):
            return
        try:
            self._looked_at = now
            change = self.degradation.observe(self.settings.load(self.guards.waiting))
        finally:
            self._looking.release()
        if change is not None:
            self._publish(LoadLevelChanged(change.before.value, change.after.value, change.reason))

    # ── an attempt ──────────────────────────────────────────────────────────────────────────────

    def attempt(
        self,
        attempt: Callable[[Strategy], Outcome],
        strategy: Strategy,
        *,
        attempts_left: int,
        p95_s: float | None,
    ) -> Outcome:
        """Ask a model through its guard; what its provider does wrong becomes a part of the outcome."""
        usage, retries = Usage(), list[str]()
        last: Outcome | None = None

        def ask(_: float) -> Outcome:
            nonlocal usage, last
            last = outcome = attempt(strategy)
            usage += outcome.usage
            if outcome.failure is not None:
                is_billed = getattr(outcome.failure, "possibly_billed", False)
                retries.append(f"{outcome.error}{' (may be billed)' if is_billed else ''}")
                raise outcome.failure
            return outcome

        guard = self.guards.of(strategy.model)
        try:
            done = guard.call(ask, attempts_left=attempts_left, p95_s=p95_s, again=attempts_left == 1)
        except (ProviderError, OverloadedError) as error:
            if last is None:
                return Outcome(None, usage, described(error), failure=error, was_asked=False)
            told = last.error if last.is_final else described(error)
            before = tuple(retries[:-1])
            return Outcome(None, usage, told, failure=error, retries=before, is_final=last.is_final)
        return replace(done, usage=usage, retries=tuple(retries)) if retries else done

    def wait_s(self, strategies: Iterable[Strategy]) -> float:
        """Say how long to wait before one of these may be asked again."""
        waits = [self.guards.of(each.model).retry_after_s for each in strategies]
        return min(max(_SHORTEST_WAIT_S, min(waits, default=0.0)), _LONGEST_WAIT_S)

    def has_time_to(self, wait_s: float) -> bool:
        """Whether there is a deadline, and waiting so long leaves some of it."""
        return wait_s < deadline.remaining_s() < float("inf")

    # ── another one beside it ───────────────────────────────────────────────────────────────────

    @property
    def hedges_calls(self) -> bool:
        """Whether slow attempts are hedged at all."""
        return self.settings.hedge_after_s is not None

    def hedge_after_s(self, first: Decision) -> float:
        """Say how long a first attempt has before another is begun beside it."""
        after, predicted = self.settings.hedge_after_s, first.chosen
        if after is None or predicted is None:
            return float("inf")
        belief = predicted.latency_s
        return hedging.wait_s(after, hedging.p95_s(belief.mean, belief.high))

    def is_at_ease(self, strategy: Strategy) -> bool:
        """Whether a model is well and has room, on a machine that has, too: a hedge is a luxury."""
        guard = self.guards.find(strategy.model)
        return self.degradation.level is Level.NORMAL and (guard is None or guard.is_at_ease)

    # ── telling ─────────────────────────────────────────────────────────────────────────────────

    def _turned(self, turn: Transition) -> None:
        self._publish(BreakerTurned(turn.name, turn.before, turn.after, turn.reason, turn.open_s))

    def _attempted(self, attempt: Attempt) -> None:
        if attempt.error is not None:
            self._publish(
                AttemptFailed(attempt.provider, attempt.number, attempt.error, attempt.possibly_billed)
            )


def described(error: DspexError) -> str:
    """Write a failure in one line."""
    return f"{type(error).__name__}: {error.message}"


def reason_of(outcome: Outcome) -> str:
    """Say in one word why an attempt failed, such as ``timeout``.

    Examples
    --------
    >>> from dspex.errors import TimedOutError
    >>> reason_of(Outcome(None, Usage(), "late", failure=TimedOutError("late")))
    'timeout'
    >>> reason_of(Outcome(None, Usage(), "AdapterParseError: no label"))
    'response'
    """
    failure = outcome.failure
    if failure is None:
        return "response"
    words = {"TimedOutError": "timeout", "CircuitOpenError": "circuit_open"}
    return words.get(type(failure).__name__, failure.category)
