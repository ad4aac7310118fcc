"""Hedging: another model is asked beside one that is slow, and the first good answer counts."""

from __future__ import annotations

import contextvars
import threading
from concurrent.futures import CancelledError, Future, InvalidStateError, wait
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING

from dspex.errors import BudgetError
from dspex.events import Event, HedgeBegun
from dspex.orchestrator import telling
from dspex.orchestrator.attempts import Tried, new_id
from dspex.records import Usage
from dspex.redact import quiet_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from dspex.orchestrator.protection import Protection
    from dspex.records import Decision, Outcome, Strategy

    Attempt = Callable[[Strategy], Outcome]

_log = quiet_logger("dspex")


@dataclass(frozen=True, slots=True)
class Hedgeable:
    """What a call may be hedged with."""

    strategies: Collection[Strategy]
    """Those that are asked over a wire: two of them take no longer than one."""
    can_pay: Callable[[Usage], bool]
    """Whether another attempt may be begun, given what the one under way is expected to take."""


@dataclass(frozen=True, slots=True)
class Race:
    """How the first attempts of a call went."""

    tried: Sequence[Tried]
    """What had ended by the time that there was an answer; the answer, if there is one, comes last."""
    hedge: Decision | None = None
    """What was asked beside the first choice."""
    after_s: float = 0.0
    under_way: int = 0
    """Attempts that a model was asked for and that are not waited for."""

    def __str__(self) -> str:
        last = self.tried[-1]
        told = telling.summary(last.outcome)
        if self.hedge is None:
            return told
        told = (
            f"{self.hedge.strategy} was asked too after {self.after_s:.2f} s; {last.decision.strategy} {told}"
        )
        if len(self.tried) > 1:
            before = self.tried[0]
            return f"{told}; {before.decision.strategy} {telling.summary(before.outcome)}"
        left = (
            "was not waited for, and may be billed"
            if self.under_way
            else "had not been asked yet, and is not"
        )
        return f"{told}; the other {left}"


class Hedging:
    """Makes the first attempts of one call: one, and another beside it when that is slow.

    Parameters
    ----------
    protection
        Says when, how often, and who has room.
    decide
        Chooses among strategies.
    through
        Makes an attempt as it was decided, behind its guard.
    publish
        Where a hedge is announced.
    late
        Is given what ends after an attempt beside it has answered, on the thread where it ends.
    """

    def __init__(
        self,
        protection: Protection,
        hedgeable: Hedgeable,
        *,
        decide: Callable[[Sequence[Strategy]], Decision],
        through: Callable[[Attempt, Decision], Outcome],
        publish: Callable[[Event], None],
        late: Callable[[Tried], object],
    ) -> None:
        self._protection, self._hedgeable = protection, hedgeable
        self._decide, self._through = decide, through
        self._publish, self._late = publish, late

    def run(self, attempt: Attempt, first: Decision) -> Race:
        """Attempt it, and again with another model once the first one is slow.

        Raises
        ------
        Exception
            What is no model's failure, as the attempt raised it.
        """
        self._protection.hedges.earn()
        after_s = self._protection.hedge_after_s(first)
        ended: SimpleQueue[_Running] = SimpleQueue()
        slow = _Running(self._through, attempt, first, ended)
        running, tried, hedge, under_way = [slow], list[Tried](), None, 0
        try:
            if not slow.ends_in(after_s) and (hedge := self._second(slow, after_s)) is not None:
                running.append(_Running(self._through, attempt, hedge, ended, parent_id=slow.id))
            while running and not (tried and tried[-1].outcome.ok):
                each = ended.get()
                running.remove(each)
                try:
                    tried.append(each.tried())
                except BudgetError:
                    if each is slow:
                        raise
                    hedge = None  # others have spent what was left: the first one goes on alone
        finally:
            under_way = sum([each.leave(self._late) for each in running])
        return Race(tried, hedge, after_s, under_way)

    def _second(self, slow: _Running, after_s: float) -> Decision | None:
        """Choose what is asked beside an attempt, if anything may be."""
        first = slow.decision
        left = [
            each
            for each in self._hedgeable.strategies
            if each.model != first.strategy.model and self._protection.is_at_ease(each)
        ]
        under_way = Usage(1, cost_usd=0.0 if first.chosen is None else first.chosen.cost_usd.mean)
        if not left or not self._hedgeable.can_pay(under_way) or not self._protection.hedges.take():
            return None
        decision = self._decide(left)
        self._publish(HedgeBegun(slow.id, first.strategy, decision.strategy, after_s))
        reason = f"{first.strategy} had not answered after {after_s:.2f} s; {decision.reason}"
        return replace(decision, role="hedge", reason=reason, configuration=first.configuration)


class _Running:
    """An attempt on a thread of its own, with what its caller's context holds: deadline, meters, settings."""

    def __init__(
        self,
        through: Callable[[Attempt, Decision], Outcome],
        attempt: Attempt,
        decision: Decision,
        ended: SimpleQueue[_Running],
        *,
        parent_id: str | None = None,
    ) -> None:
        self.decision, self.id, self._parent_id = decision, new_id(), parent_id
        self.future: Future[Outcome] = Future()
        self._through, self._attempt, self._ended = through, attempt, ended
        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(self._run,), name="dspex-hedging", daemon=True).start()

    def ends_in(self, seconds: float) -> bool:
        """Wait so long for its end, and say whether it has come."""
        return bool(wait([self.future], timeout=min(seconds, threading.TIMEOUT_MAX)).done)

    def tried(self, *, overtaken: bool = False) -> Tried:
        """Say how it ended."""
        return Tried(self.decision, self.future.result(), self.id, self._parent_id, overtaken=overtaken)

    def leave(self, late: Callable[[Tried], object]) -> bool:
        """Wait no longer: one that has asked nobody yet does not; one that has is heard when it ends, which is said."""
        if self.future.cancel():
            return False
        self.future.add_done_callback(lambda _: self._overtaken(late))
        return True

    def _run(self) -> None:
        try:
            outcome = self._through(self._asking, self.decision)
        except BaseException as error:  # noqa: BLE001  # a future carries whatever ended its work
            end = partial(self.future.set_exception, error)
        else:
            end = partial(self.future.set_result, outcome)
        self._ended.put(self)
        with suppress(InvalidStateError):  # left before it asked anybody: there is nothing to tell
            end()

    def _asking(self, strategy: Strategy) -> Outcome:
        """Ask, unless nobody has waited for it since it began to wait for its turn."""
        if not self.future.running() and not self.future.set_running_or_notify_cancel():
            raise CancelledError
        return self._attempt(strategy)

    def _overtaken(self, late: Callable[[Tried], object]) -> None:
        error = self.future.exception()
        if error is None:
            late(self.tried(overtaken=True))
        elif not isinstance(error, BudgetError):
            _log.warning(
                "%s was not waited for, and ended with an error", self.decision.strategy, exc_info=error
            )
