"""Falling back: which ways are worth a try after others have failed, and what to say when none is left."""

from __future__ import annotations

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
)
from dspex.orchestrator.telling import failures as told_of
from dspex.reliability import deadline

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dspex.records import Decision, Outcome, Requirements, Strategy

MAX_ATTEMPTS = 3


def hopeful(strategies: Sequence[Strategy], failed: Sequence[tuple[Decision, Outcome]]) -> Sequence[Strategy]:
    """Leave out what would fail again: a way that is wrong, and a model that lets nobody in."""
    wrong, models = set(), set()
    for decision, outcome in failed:
        failure = outcome.failure
        if failure is None or not failure.retryable:
            wrong.add(decision.strategy)
        if isinstance(failure, AuthenticationError | BillingError | ModelNotFoundError):
            models.add(decision.strategy.model)
    return [each for each in strategies if each not in wrong and each.model not in models]


def attempts_for(strategies: Sequence[Strategy]) -> int:
    """Say how many attempts may follow each other: one a model, for a provider that fails fails every adapter."""
    return min(MAX_ATTEMPTS, len({each.model for each in strategies}))


def down(failed: Sequence[tuple[Decision, Outcome]]) -> set[str]:
    """Name the models whose providers cannot answer now: another way of asking would not help."""
    return {
        decision.strategy.model
        for decision, outcome in failed
        if isinstance(outcome.failure, UnavailableError | RateLimitedError)
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
        raise ExecutionError(
            outcome.error or "", hint="begin a new stream, or use execute, which can fall back"
        ) from outcome.failure


def nobody_answered(asked: Requirements, failed: Sequence[tuple[Decision, Outcome]]) -> Exception:
    """Say why nobody did, with the next step that the failures themselves name."""
    failures = tuple(outcome.failure for _, outcome in failed if outcome.failure is not None)
    if len(failures) == len(failed) and all(isinstance(each, OverloadedError) for each in failures):
        return failures[-1]
    told = told_of(failed, None)
    hints = dict.fromkeys(each.hint for each in failures if each.hint is not None)
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
    return error
