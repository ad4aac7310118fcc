"""Attempts that have ended: what was decided, what came of it, and how that is written into the log."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dspex.orchestrator.protection import reason_of
from dspex.records import Execution

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dspex.records import Decision, Outcome, Requirements, Role

SLOW = "slow"
"""Why a first choice did not answer that another one, asked beside it, has overtaken."""


def new_id() -> str:
    """Name an execution."""
    return uuid.uuid4().hex


@dataclass(frozen=True, slots=True)
class Tried:
    """One attempt that has ended."""

    decision: Decision
    outcome: Outcome
    id: str = field(default_factory=new_id)
    """Of its execution."""
    parent_id: str | None = None
    """Of the attempt that it stands in for, or beside."""
    overtaken: bool = False
    """Whether an attempt beside it had answered, so that it was not waited for."""

    @property
    def pair(self) -> tuple[Decision, Outcome]:
        """What was decided, and what came of it."""
        return self.decision, self.outcome

    def execution(self, asked: Requirements, *, at: float, session: str | None) -> Execution:
        """Write it for the log."""
        decision, outcome = self.decision, self.outcome
        role: Role = decision.role if outcome.was_asked else "refused"
        return Execution(
            id=self.id,
            at=at,
            requirements=asked,
            strategy=decision.strategy,
            role=role,
            propensities={str(each.strategy): each.propensity for each in decision.alternatives}
            if role == "policy"
            else {},
            ok=outcome.ok,
            usage=outcome.usage,
            error=outcome.error,
            parent_id=self.parent_id,
            configuration=decision.configuration,
            session=session,
            overtaken=self.overtaken,
        )


def why_not_the_first(first: Decision, tried: Sequence[Tried]) -> str | None:
    """Say in one word why the last of these answered and not the first choice; None if that did."""
    if tried[-1].decision is first:
        return None
    return next((reason_of(each.outcome) for each in tried if each.decision is first), SLOW)
