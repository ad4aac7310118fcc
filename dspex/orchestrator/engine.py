"""The orchestrator: the whole loop on one screen."""

from __future__ import annotations

import threading
import time
import uuid
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dspex.errors import (
    DefinitionError,
    OverloadedError,
    UnknownNameError,
)
from dspex.events import DecisionMade, EventBus, ExecutionFinished, LabelGiven
from dspex.orchestrator import falling_back, policy, telling
from dspex.orchestrator.analyze import analyze
from dspex.orchestrator.protection import reason_of
from dspex.records import (
    Alternative,
    Configuration,
    Decision,
    Execution,
    Label,
    Objective,
    Outcome,
    Requirements,
    Role,
    Step,
    Strategy,
    Usage,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from dspex.native.signature import Signature
    from dspex.orchestrator.model import BeliefModel
    from dspex.orchestrator.protection import Protection

    Attempt = Callable[[Strategy], Outcome]

_REMEMBERED = 10_000


@dataclass(frozen=True)
class Orchestrated:
    """How a task was run: what came out, how it was decided, each step, and the attempt that counted."""

    outcome: Outcome
    decision: Decision
    trace: tuple[Step, ...]
    execution: Execution
    usage: Usage
    """All attempts together."""
    fallback_reason: str | None = None
    """Why the first choice did not answer, in one word such as "timeout"; None if it did."""


class Orchestrator:
    """Chooses how tasks run, and learns from how they went.

    It knows strategies only by name: running one is the caller's affair.

    Parameters
    ----------
    beliefs
        What is believed at the start.
    objective
        What pays. It is applied when deciding, so changing it needs no relearning.
    events
        Where decisions, executions and labels are announced; whoever keeps the log listens there.
    seed
        Of the exploration.
    exploration
        Probability spread evenly over every strategy, in [0, 1].
    clock
        Seconds since the Unix epoch.
    protection
        What stands between a decision and a model; None for nothing.
    """

    def __init__(
        self,
        beliefs: BeliefModel,
        *,
        objective: Objective,
        events: EventBus,
        seed: int = 0,
        exploration: float = policy.EXPLORATION,
        clock: Callable[[], float] = time.time,
        protection: Protection | None = None,
    ) -> None:
        if not 0.0 <= exploration <= 1.0:
            raise DefinitionError(f"exploration is a probability, got {exploration}")
        self.beliefs = beliefs
        self.objective = objective
        self._events = events
        self._rng = np.random.default_rng(seed)
        self._exploration = exploration
        self._clock = clock
        self._protection = protection
        self._lock = threading.Lock()
        self._recent: OrderedDict[str, Execution] = OrderedDict()

    def orchestrate(
        self,
        signature: Signature,
        inputs: Mapping[str, Any],
        strategies: Sequence[Strategy],
        attempt: Attempt,
        *,
        pool: str,
        pin: Strategy | None = None,
        explore: bool = True,
        configuration: Configuration | None = None,
        learn: Callable[[Execution], None] | None = None,
        session: str | None = None,
        has_older: bool = False,
    ) -> Orchestrated:
        """Run a task: analyze → select → distribute → monitor → adapt → fall back.

        Parameters
        ----------
        attempt
            Runs the task one way, within `dspex.reliability.remaining_s()`.
        configuration
            What it runs with, for the log.
        learn
            Is given each attempt's record too.
        session
            Whom it is for, for the log.
        has_older
            Whether the caller has an older answer, which is better than another model's where there is no room.

        Raises
        ------
        ExhaustedError
            If every attempt failed; the message holds each one's reason.
        TimedOutError
            If the deadline ended them.
        OverloadedError
            If there is no room for the call, and no other way to answer.
        """
        steps = telling.Steps()
        with steps("analyze") as note:
            asked = analyze(signature, inputs)
            note(
                f"{asked.complexity} complexity, {asked.input_chars} characters in{telling.reasons(asked, strategies)}"
            )
        with steps("select") as note:
            decision = self.decide(asked, strategies, pin=pin, explore=explore, configuration=configuration)
            note(decision.reason)
        with steps("distribute") as note:
            whose = "" if session is None else f", session {session}"
            note(f"pool {pool}{whose}, {decision.strategy}{telling.values(decision.configuration)}")
        with steps("monitor") as note:
            left = 1 if pin is not None else falling_back.attempts_for(strategies)
            outcome = self._attempted(attempt, decision, left)
            note(telling.summary(outcome))
        with steps("adapt") as note:
            execution = self._record(asked, decision, outcome, None, learn, session)
            note(self._lesson(outcome))
        usage, failed = outcome.usage, []
        with steps("fall_back") as note:
            if outcome.ok:
                note("not needed")
            else:
                failed = [(decision, outcome)]
                falling_back.refuse_to_go_on(outcome)
                if has_older and isinstance(outcome.failure, OverloadedError):
                    raise outcome.failure
                for left, following in self._fallbacks(asked, strategies, failed, pin):
                    outcome = self._attempted(attempt, following, left)
                    usage += outcome.usage
                    execution = self._record(asked, following, outcome, execution, learn, session)
                    if outcome.ok:
                        decision = following
                        break
                    failed.append((following, outcome))
                    falling_back.refuse_to_go_on(outcome)
                note(telling.failures(failed, decision if outcome.ok else None))
        if not outcome.ok:
            raise falling_back.nobody_answered(asked, failed)
        reason = reason_of(failed[0][1]) if failed else None
        return Orchestrated(outcome, decision, tuple(steps.taken), execution, usage, reason)

    def explain(
        self,
        signature: Signature,
        inputs: Mapping[str, Any],
        strategies: Sequence[Strategy],
        *,
        configuration: Configuration | None = None,
    ) -> Decision:
        """Say how a task would be run and why, without running it."""
        decision = self._decision(
            analyze(signature, inputs),
            self._allowed(strategies)[0],
            explore=False,
            rng=np.random.default_rng(0),
        )
        return replace(decision, configuration=dict(configuration or {}))

    def decide(
        self,
        asked: Requirements,
        strategies: Sequence[Strategy],
        *,
        pin: Strategy | None = None,
        explore: bool = True,
        configuration: Configuration | None = None,
    ) -> Decision:
        """Choose one of the strategies; a pinned one is taken without asking what is believed of it."""
        if pin is not None:
            if pin not in strategies:
                raise UnknownNameError.among("strategy", str(pin), map(str, strategies))
            decision = Decision(pin, "pinned", 1.0, f"{pin} was asked for")
        else:
            allowed, closed = self._allowed(strategies)
            decision = self._decision(asked, allowed, explore=explore, rng=self._rng)
            if closed:
                decision = replace(decision, reason=f"{decision.reason}; not asked: {closed}")
        decision = replace(decision, configuration=dict(configuration or {}))
        self._events.publish(DecisionMade(decision))
        return decision

    def rate(self, execution_id: str, quality: float) -> Label:
        """Learn how good an answer was, in [0, 1]."""
        if not 0.0 <= quality <= 1.0:
            raise DefinitionError(f"a rating must be in [0, 1], got {quality}", hint="0 is wrong, 1 is right")
        label = Label(execution_id, float(quality), self._clock())
        with self._lock:
            self._fold(label)
        self._events.publish(LabelGiven(label))
        return label

    def replay(self, records: Iterable[Execution | Label]) -> None:
        """Learn from what was logged before."""
        with self._lock:
            for record in records:
                self._fold(record)

    # ── the parts ───────────────────────────────────────────────────────────────────────────────

    def _decision(
        self, asked: Requirements, strategies: Sequence[Strategy], *, explore: bool, rng: np.random.Generator
    ) -> Decision:
        with self._lock:
            predicted = self.beliefs.predict(asked, strategies)
            worth = policy.utilities(predicted, self.objective)
            chances = policy.propensities(predicted, self.objective, rng, exploration=self._exploration)
            best = int(np.argmax(worth))
            chosen = int(rng.choice(len(strategies), p=chances)) if explore else best
            apart = {
                head: self.beliefs.beliefs(head, asked, strategies, each) for head, each in predicted.items()
            }
        alternatives = [
            Alternative(
                strategy,
                propensity=float(chances[i]) if explore else float(i == best),
                utility=float(worth[i]),
                success=apart["success"][i],
                quality=apart["quality"][i],
                latency_s=apart["latency"][i],
                cost_usd=apart["cost"][i],
            )
            for i, strategy in enumerate(strategies)
        ]
        mine = alternatives[chosen]
        alternatives.sort(key=lambda each: -each.utility)
        return Decision(
            mine.strategy,
            "policy",
            mine.propensity,
            telling.reason(mine, alternatives, self.beliefs),
            tuple(alternatives),
        )

    def _allowed(self, strategies: Sequence[Strategy]) -> tuple[Sequence[Strategy], str]:
        """Return the strategies that may be chosen now (all, if none may), and why the others may not."""
        if self._protection is None:
            return strategies, ""
        closed = {each: why for each in strategies if (why := self._protection.why_closed(each)) is not None}
        if not closed or len(closed) == len(strategies):
            return strategies, ""
        told = ", ".join(f"{each} ({why})" for each, why in closed.items())
        return [each for each in strategies if each not in closed], told

    def _attempted(
        self, attempt: Callable[[Strategy], Outcome], decision: Decision, attempts_left: int
    ) -> Outcome:
        if self._protection is None:
            return attempt(decision.strategy)
        mine = next((each for each in decision.alternatives if each.strategy == decision.strategy), None)
        return self._protection.attempt(
            attempt,
            decision.strategy,
            attempts_left=attempts_left,
            p95_s=None if mine is None else mine.latency_s.high,
        )

    def _lesson(self, outcome: Outcome) -> str:
        if not outcome.was_asked:
            return "nothing to learn: no model was asked"
        return f"learned from execution {self.beliefs.n_observations}"

    def _fallbacks(
        self,
        asked: Requirements,
        strategies: Sequence[Strategy],
        failed: Sequence[tuple[Decision, Outcome]],
        pin: Strategy | None,
    ) -> Iterable[tuple[int, Decision]]:
        """Yield how many attempts are left, and what to try next.

        Other models come first, for what fails once on a model often fails again. Once all were tried, those
        that may recover are tried again, as long as there is a deadline and it has not passed.
        """
        first, tried = failed[0][0], [failed[0][0].strategy]
        may_be_tried = strategies if pin is None else [pin]
        while True:
            left = [each for each in falling_back.hopeful(may_be_tried, failed) if each not in tried]
            left = [each for each in left if self._is_allowed(each)]
            left = [each for each in left if each.model not in {one.model for one in tried}] or [
                each for each in left if each.model not in falling_back.down(failed[-len(tried) :])
            ]
            if left and len(tried) < falling_back.MAX_ATTEMPTS:
                left = list(falling_back.with_room(left, *failed[-1]))
                decision = self._decision(asked, left, explore=False, rng=self._rng)
                more = min(falling_back.MAX_ATTEMPTS - len(tried), falling_back.attempts_for(left))
                tried.append(decision.strategy)
                reason = f"{failed[-1][0].strategy} failed; {decision.reason}"
                yield (
                    more,
                    replace(decision, role="fallback", reason=reason, configuration=first.configuration),
                )
            elif self._waited_for(falling_back.hopeful(may_be_tried, failed)):
                tried = []
            else:
                return

    def _is_allowed(self, strategy: Strategy) -> bool:
        return self._protection is None or self._protection.why_closed(strategy) is None

    def _waited_for(self, strategies: Sequence[Strategy]) -> bool:
        """Wait until one of these may be asked again, if there is time to."""
        if self._protection is None or not strategies:
            return False
        wait_s = self._protection.wait_s(strategies)
        if not self._protection.has_time_to(wait_s):
            return False
        self._protection.guards.sleep(wait_s)
        return True

    def _record(
        self,
        asked: Requirements,
        decision: Decision,
        outcome: Outcome,
        parent: Execution | None,
        learn: Callable[[Execution], None] | None,
        session: str | None,
    ) -> Execution:
        role: Role = decision.role if outcome.was_asked else "refused"
        execution = Execution(
            id=uuid.uuid4().hex,
            at=self._clock(),
            requirements=asked,
            strategy=decision.strategy,
            role=role,
            propensities={str(each.strategy): each.propensity for each in decision.alternatives}
            if role == "policy"
            else {},
            ok=outcome.ok,
            usage=outcome.usage,
            error=outcome.error,
            parent_id=None if parent is None else parent.id,
            configuration=decision.configuration,
            session=session,
        )
        with self._lock:
            self._fold(execution)
        if learn is not None:
            learn(execution)
        self._events.publish(ExecutionFinished(execution))
        return execution

    def _fold(self, record: Execution | Label) -> None:
        if isinstance(record, Execution):
            self.beliefs.learn(record)
            self._recent[record.id] = record
            if len(self._recent) > _REMEMBERED:
                self._recent.popitem(last=False)
            return
        judged = self._recent.get(record.execution_id)
        if judged is not None:
            self.beliefs.learn_quality(judged, record.quality)
