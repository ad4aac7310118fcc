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
    TimedOutError,
    UnreadableAnswerError,
)
from dspex.orchestrator.telling import failures as told_of
from dspex.reliability import deadline

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dspex.errors import Category, Severity
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
