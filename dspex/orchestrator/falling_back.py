"""Falling back: which ways are worth a try after others have failed, and what to say when none is left."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from dspex.errors import (
    AuthenticationError,
    BillingError,
    ExecutionError,
    ExhaustedError,
    ModelNotFoundError,
    OverloadedError,
    RateLimitedError,
    TimedOutError,
    UnavailableError,
    UnreadableAnswerError,
)
from dspex.orchestrator.telling import failures as told_of
from dspex.reliability import deadline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from dspex.errors import Category, Severity
    from dspex.orchestrator.attempts import Tried
    from dspex.orchestrator.protection import Protection
    from dspex.records import Decision, Outcome, Requirements, Strategy

MAX_ATTEMPTS = 3


class Fallbacks:
    """Finds what to try after attempts have failed.

    Parameters
    ----------
    strategies
        What may be tried.
    decide
        Chooses among strategies.
    protection
        Says who may be asked, and when again.
    """

    def __init__(
        self,
        strategies: Sequence[Strategy],
        *,
        decide: Callable[[Sequence[Strategy]], Decision],
        protection: Protection | None,
    ) -> None:
        self._strategies, self._decide, self._protection = strategies, decide, protection

    def after(self, failed: Sequence[Tried]) -> Iterator[tuple[int, Decision]]:
        """Yield how many attempts are left, and what to try next; more may be added to `failed` meanwhile.

        Other models come first, for what fails once on a model often fails again. Once all were tried, those
        that may recover are tried again, as long as there is a deadline and it has not passed.
        """
        tried = [each.decision.strategy for each in failed]
        while True:
            left = self._left(tried, failed)
            if left and len(tried) < MAX_ATTEMPTS:
                last = failed[-1]
                left = with_room(left, last.decision, last.outcome)
                decision = self._decide(left)
                more = min(MAX_ATTEMPTS - len(tried), attempts_for(left))
                tried.append(decision.strategy)
                yield more, self._following(decision, failed)
            elif self._waited_for(hopeful(self._strategies, failed)):
                tried = []
            else:
                return

    def _following(self, decision: Decision, failed: Sequence[Tried]) -> Decision:
        reason = f"{failed[-1].decision.strategy} failed; {decision.reason}"
        return replace(
            decision, role="fallback", reason=reason, configuration=failed[0].decision.configuration
        )

    def _left(self, tried: Sequence[Strategy], failed: Sequence[Tried]) -> Sequence[Strategy]:
        left = [
            each
            for each in hopeful(self._strategies, failed)
            if each not in tried and (self._protection is None or self._protection.why_closed(each) is None)
        ]
        others = [each for each in left if each.model not in {one.model for one in tried}]
        return others or [each for each in left if each.model not in down(failed[-len(tried) :])]

    def _waited_for(self, strategies: Sequence[Strategy]) -> bool:
        """Wait until one of these may be asked again, if there is time to."""
        if self._protection is None or not strategies:
            return False
        wait_s = self._protection.wait_s(strategies)
        if not self._protection.has_time_to(wait_s):
            return False
        self._protection.guards.sleep(wait_s)
        return True


def hopeful(strategies: Sequence[Strategy], failed: Sequence[Tried]) -> Sequence[Strategy]:
    """Leave out what would fail again: a way that is wrong, and a model that lets nobody in."""
    wrong, models = set(), set()
    for each in failed:
        strategy, failure = each.decision.strategy, each.outcome.failure
        if failure is None or not failure.retryable:
            wrong.add(strategy)
        if isinstance(failure, AuthenticationError | BillingError | ModelNotFoundError):
            models.add(strategy.model)
    return [each for each in strategies if each not in wrong and each.model not in models]


def attempts_for(strategies: Sequence[Strategy]) -> int:
    """Say how many attempts may follow each other: one a model, for a provider that fails fails every adapter."""
    return min(MAX_ATTEMPTS, len({each.model for each in strategies}))


def down(failed: Sequence[Tried]) -> set[str]:
    """Name the models whose providers cannot answer now: another way of asking would not help."""
    return {
        each.decision.strategy.model
        for each in failed
        if isinstance(each.outcome.failure, UnavailableError | RateLimitedError)
    }


def with_room(left: Sequence[Strategy], refused: Decision, outcome: Outcome) -> Sequence[Strategy]:
    """Prefer what is cheaper where there was no room: it is where many can go."""
    if not isinstance(outcome.failure, OverloadedError):
        return left
    costs = {each.strategy: each.cost_usd.mean for each in refused.alternatives}
    mine = costs.get(refused.strategy, 0.0)
    return [each for each in left if costs.get(each, mine) < mine] or left


def refuse_to_go_on(outcome: Outcome) -> None:
    """Raise if a part of an answer was shown: another one must not follow it."""
    if outcome.is_final:
        error = ExecutionError(
            outcome.error or "", hint="begin a new stream, or use execute, which can fall back"
        )
        if outcome.failure is not None:
            error.category, error.severity = outcome.failure.category, outcome.failure.severity
        raise error from outcome.failure


def nobody_answered(asked: Requirements, failed: Sequence[tuple[Decision, Outcome]]) -> Exception:
    """Say why nobody did, with the next step that the failures themselves name."""
    failures = tuple(outcome.failure for _, outcome in failed if outcome.failure is not None)
    if len(failures) == len(failed) and all(isinstance(each, OverloadedError) for each in failures):
        return failures[-1]
    told = told_of(failed, None)
    hints = dict.fromkeys(hint for _, outcome in failed if (hint := _next_step(outcome)) is not None)
    if deadline.remaining_s() <= 0:
        return TimedOutError(
            f"{asked.signature} was not answered before the deadline: {told}",
            hint="give it more time with timeout_s=..., or add a model of another provider",
        )
    error = ExhaustedError(
        f"every attempt at {asked.signature} failed: {told}",
        hint="; ".join(hints)
        or "dspex.history() keeps each attempt; add a model of another provider to fall back on",
    )
    error.failures = failures
    kinds = {_kind(outcome) for _, outcome in failed}
    if len(kinds) == 1:
        error.category, error.severity = kinds.pop()
    return error


def _next_step(outcome: Outcome) -> str | None:
    return outcome.hint if outcome.failure is None else outcome.failure.hint


def _kind(outcome: Outcome) -> tuple[Category, Severity]:
    """Say what a failure was about; an answer that cannot be read has a next step, and is held against nobody."""
    like = outcome.failure or (ExecutionError if outcome.hint is None else UnreadableAnswerError)
    return like.category, like.severity
