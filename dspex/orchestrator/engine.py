"""The orchestrator: the whole loop on one screen."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from dspex.errors import DefinitionError, OverloadedError, UnknownNameError
from dspex.events import DecisionMade, EventBus, ExecutionFinished, LabelGiven
from dspex.orchestrator import falling_back, policy, telling
from dspex.orchestrator.analyze import analyze
from dspex.orchestrator.attempts import Tried, why_not_the_first
from dspex.orchestrator.falling_back import Fallbacks
from dspex.orchestrator.hedging import Hedging, Race
from dspex.records import (
    Alternative,
    Configuration,
    Decision,
    Execution,
    Label,
    Objective,
    Outcome,
    Requirements,
    Step,
    Strategy,
    Usage,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from dspex.native.signature import Signature
    from dspex.orchestrator.hedging import Hedgeable
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
    """All attempts together that were waited for."""
    fallback_reason: str | None = None
    """Why the first choice did not answer, in one word such as "timeout"; None if it did."""


@dataclass(frozen=True, slots=True)
class _Call:
    """What one call asks for, and who hears how its attempts went."""

    asked: Requirements
    strategies: Sequence[Strategy]
    """What may be tried: one alone if it is pinned."""
    attempt: Attempt
    learn: Callable[[Execution], None] | None
    session: str | None


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
        hedgeable: Hedgeable | None = None,
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
        hedgeable
            What may be asked beside a first choice that is slow; None for nothing.

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
        call = _Call(asked, strategies if pin is None else [pin], attempt, learn, session)
        with steps("monitor") as note:
            race = self._race(call, decision, hedgeable)
            tried = list(race.tried)
            note(str(race))
        with steps("adapt") as note:
            execution = [self._keep(call, each) for each in tried][-1]
            note(self._lesson(tried[-1].outcome))
        with steps("fall_back") as note:
            failed = [each for each in tried if not each.outcome.ok]
            if tried[-1].outcome.ok:
                note("not needed")
            else:
                falling_back.refuse_to_go_on(tried[-1].outcome)
                if has_older and isinstance(tried[-1].outcome.failure, OverloadedError):
                    raise tried[-1].outcome.failure
                for left, following in self._fallbacks(call).after(failed):
                    outcome = self._attempted(attempt, following, left)
                    tried.append(Tried(following, outcome, parent_id=execution.id))
                    execution = self._keep(call, tried[-1])
                    if outcome.ok:
                        break
                    failed.append(tried[-1])
                    falling_back.refuse_to_go_on(outcome)
                saved_by = tried[-1].decision if tried[-1].outcome.ok else None
                note(telling.failures([each.pair for each in failed], saved_by))
        last, usage = tried[-1], sum((each.outcome.usage for each in tried), Usage())
        if not last.outcome.ok:
            raise falling_back.nobody_answered(asked, [each.pair for each in failed])
        reason = why_not_the_first(decision, tried)
        return Orchestrated(last.outcome, last.decision, tuple(steps.taken), execution, usage, reason)

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
        return [each for each in strategies if each not in closed], telling.closed(closed)

    def _race(self, call: _Call, first: Decision, hedgeable: Hedgeable | None) -> Race:
        """Make the first attempt, and another one beside it if that is slow and may be hedged."""
        through = partial(self._attempted, attempts_left=falling_back.attempts_for(call.strategies))
        if hedgeable is None or self._protection is None or first.strategy not in hedgeable.strategies:
            return Race([Tried(first, through(call.attempt, first))])
        hedging = Hedging(
            self._protection,
            hedgeable,
            decide=partial(self._best, call),
            through=through,
            publish=self._events.publish,
            late=partial(self._keep, call),
        )
        return hedging.run(call.attempt, first)

    def _fallbacks(self, call: _Call) -> Fallbacks:
        return Fallbacks(call.strategies, decide=partial(self._best, call), protection=self._protection)

    def _best(self, call: _Call, among: Sequence[Strategy]) -> Decision:
        return self._decision(call.asked, among, explore=False, rng=self._rng)

    def _attempted(
        self, attempt: Callable[[Strategy], Outcome], decision: Decision, attempts_left: int
    ) -> Outcome:
        if self._protection is None:
            return attempt(decision.strategy)
        return self._protection.attempt(
            attempt,
            decision.strategy,
            attempts_left=attempts_left,
            p95_s=None if decision.chosen is None else decision.chosen.latency_s.high,
        )

    def _lesson(self, outcome: Outcome) -> str:
        if not outcome.was_asked:
            return "nothing to learn: no model was asked"
        return f"learned from execution {self.beliefs.n_observations}"

    def _keep(self, call: _Call, tried: Tried) -> Execution:
        """Learn from an attempt that has ended, and announce it."""
        execution = tried.execution(call.asked, at=self._clock(), session=call.session)
        with self._lock:
            self._fold(execution)
        if call.learn is not None:
            call.learn(execution)
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
