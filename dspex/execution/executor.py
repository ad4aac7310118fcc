"""The executor: recall, or run once and remember, within deadline, budget and guards."""

from __future__ import annotations

import asyncio
import math
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from dspex.bridge import asking
from dspex.bridge import program as program_bridge
from dspex.errors import BudgetError, DspexError
from dspex.events import correlated
from dspex.execution import options as reading
from dspex.execution.attempt import Attempt
from dspex.execution.requests import Requests
from dspex.execution.tasks import values_need_bridging
from dspex.optimizers.budget import Budget
from dspex.orchestrator.asking import AUTO
from dspex.orchestrator.hedging import Hedgeable
from dspex.orchestrator.result import Result
from dspex.orchestrator.streaming import Shown, Stream
from dspex.records import BRIDGED
from dspex.reliability import SingleFlight, deadline, is_overflow
from dspex.reliability.spending import check
from dspex.variables.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from dspex.execution.options import Options, Task
    from dspex.execution.tasks import Tasks
    from dspex.orchestrator.cache import Entry, Request, ResponseCache
    from dspex.orchestrator.engine import Orchestrator
    from dspex.orchestrator.protection import Protection
    from dspex.orchestrator.ways import Ways
    from dspex.pools import Pool
    from dspex.records import Decision, Objective, Strategy, Usage
    from dspex.reliability.spending import Spending

_WRONG = 0.5
"""An answer that is rated below is not given again."""


class Executor:
    """Runs tasks for a runtime.

    Parameters
    ----------
    tasks
        What tasks are, and the ways they can be run.
    caches_by_default
        Whether a call that says nothing about it may be answered from the cache.
    budget
        What may be spent in all.
    """

    def __init__(
        self,
        tasks: Tasks,
        *,
        orchestrator: Orchestrator,
        protection: Protection | None,
        cache: ResponseCache,
        caches_by_default: bool,
        spending: Spending,
        budget: Budget | None,
        pool: Pool,
        objective: Objective,
        timeout_s: float | None,
    ) -> None:
        self._tasks = tasks
        self._requests = Requests(tasks, caches_by_default=caches_by_default)
        self._orchestrator, self._protection, self._cache = orchestrator, protection, cache
        self._spending, self._budget = spending, budget
        self._pool, self._objective, self._timeout_s = pool, objective, timeout_s
        self._flights: SingleFlight[Result] = SingleFlight()

    # ── the calls ───────────────────────────────────────────────────────────────────────────────

    def execute(self, task: Task, inputs: Mapping[str, Any], **options: Any) -> Result:
        """Run a task, or recall what it answered."""
        asked = reading.read(options)
        request = self._requests.name(task, inputs, asked)
        if request is not None:
            entry = self._cache.recall(request)
            if entry is not None:
                return self._recalled(request, entry)
        return self._answer(task, inputs, asked, request)

    async def aexecute(self, task: Task, inputs: Mapping[str, Any], **options: Any) -> Result:
        """Do the same on the pool, so that the event loop stays free."""
        asked = reading.read(options)
        request = self._requests.name(task, inputs, asked)
        if request is not None:
            entry = self._cache.recall(request)
            if entry is not None:
                return self._recalled(request, entry)
        future = self._pool.submit(self._answer, task, inputs, asked, request)
        return await asyncio.wrap_future(future)

    def stream(self, task: Task, inputs: Mapping[str, Any], **options: Any) -> Stream:
        """Run a task, and hand on its answer piece by piece; nothing is recalled, and nothing said twice."""
        asked = reading.read(options)
        ways = self._tasks.ways_for(task, inputs, asked, streaming=True)

        def work(put: Callable[[str], None]) -> Result:
            with deadline.within(self._timeout_s if asked.timeout_s is None else asked.timeout_s):
                return self._run(task, inputs, asked, ways, has_older=False, shown=Shown(put))

        return Stream(work)

    def explain(self, task: Task, inputs: Mapping[str, Any], **options: Any) -> Decision:
        """Say how a task would be run and why, without running it."""
        asked = reading.read(options)
        ways = self._tasks.ways_for(task, inputs, asked)
        if asked.space is not None:
            ways = self._tasks.narrowed(task, ways, asked.space, lambda registry: registry.configuration)
        return self._orchestrator.explain(
            ways.described, inputs, ways.strategies, configuration=ways.configuration
        )

    def _answer(
        self, task: Task, inputs: Mapping[str, Any], asked: Options, request: Request | None
    ) -> Result:
        ways = self._tasks.ways_for(task, inputs, asked)
        with deadline.within(self._timeout_s if asked.timeout_s is None else asked.timeout_s):
            if request is None:
                return self._run(task, inputs, asked, ways, has_older=False)
            entry = self._cache.fetch(request, ways.described)
            if entry is not None:
                return self._recalled(request, entry)
            return self._run_once(task, inputs, asked, ways, request)

    def _run_once(
        self, task: Task, inputs: Mapping[str, Any], asked: Options, ways: Ways, request: Request
    ) -> Result:
        """Run what is not known yet, together with whoever asks the same meanwhile."""
        mine: list[Result] = []

        def lead() -> Result:
            # Whoever asked the same may have been answered since it was looked for.
            entry = self._cache.recall(request)
            if entry is not None:
                return self._recalled(request, entry)
            older = self._cache.fetch(request, ways.described, stale=True)
            try:
                result = self._run(task, inputs, asked, ways, request=request, has_older=older is not None)
            except DspexError as error:
                if older is None or not is_overflow(error):
                    raise
                result = self._recalled(request, older, is_stale=True)
            else:
                self._cache.put(request, ways.described, result)
            mine.append(result)
            return result

        remaining = deadline.remaining_s()
        result = self._flights.do(request, lead, timeout_s=None if math.isinf(remaining) else remaining)
        if mine:
            return result
        entry = self._cache.recall(request)
        return result if entry is None else self._recalled(request, entry)

    def _run(
        self,
        task: Task,
        inputs: Mapping[str, Any],
        asked: Options,
        ways: Ways,
        *,
        request: Request | None = None,
        has_older: bool,
        shown: Shown | None = None,
    ) -> Result:
        space = asked.space
        if space is not None and asked.adapter not in (None, AUTO, BRIDGED):
            raise values_need_bridging("space=...", asked.adapter)
        if space is not None:
            ways = self._tasks.narrowed(task, ways, space, Registry.use)
        self._protect(ways, asked.pin)
        attempt = Attempt(ways, inputs, asked, self._within_budgets, shown)
        with correlated() as name:
            done = self._orchestrator.orchestrate(
                ways.described,
                inputs,
                ways.strategies,
                attempt,
                pool=self._pool.name,
                pin=asked.pin,
                explore=asked.explore,
                configuration=ways.configuration,
                learn=None if space is None else partial(space.learn, objective=self._objective),
                session=None if asked.session is None else asked.session.name,
                has_older=has_older,
                hedgeable=None if shown is not None else self._hedgeable(task, ways, asked, attempt.spending),
            )
        return Result(done, correlation_id=name, on_rating=partial(self._rate, space, request))

    def _protect(self, ways: Ways, pin: Strategy | None) -> None:
        """See to it that each model has its guard, and that the machine can take the call."""
        if self._protection is None:
            return
        guards = self._protection.guards
        for strategy in ways.strategies:
            if guards.find(strategy.model) is not None:
                continue
            if ways.is_foreign:
                guards.of(strategy.model)
            else:
                lm = ways.lm(strategy)
                guards.of(strategy.model, key=asking.key_of(lm), is_local=asking.is_local(lm))
        self._protection.check_load(ways.strategies if pin is None else [pin])

    def _hedgeable(self, task: Task, ways: Ways, asked: Options, spending: Spending) -> Hedgeable | None:
        """Return what may be asked beside a slow first choice, if that may be one of them; None for nothing."""
        if self._protection is None or not self._protection.hedges_calls or asked.pin is not None:
            return None
        # A program may call tools, and what they do must not be done twice at once.
        if ways.is_foreign or program_bridge.is_program(task) or not self._tasks.is_pure:
            return None
        remote = [each for each in ways.strategies if not asking.is_local(ways.lm(each))]
        has_two = len({each.model for each in remote}) > 1
        return Hedgeable(remote, partial(self._can_pay, asked, spending)) if has_two else None

    # ── the cache ───────────────────────────────────────────────────────────────────────────────

    def _recalled(self, request: Request, entry: Entry, *, is_stale: bool = False) -> Result:
        return Result.recalled(entry, on_rating=partial(self._rate, None, request), is_stale=is_stale)

    def _rate(
        self, space: Registry | None, request: Request | None, execution_id: str, quality: float
    ) -> None:
        label = self._orchestrator.rate(execution_id, quality)
        if request is not None and quality < _WRONG:
            self._cache.forget(request)
        if space is not None:
            space.learn(label, self._objective)

    # ── what it may cost ────────────────────────────────────────────────────────────────────────

    @contextmanager
    def _within_budgets(self, asked: Options, spending: Spending) -> Iterator[None]:
        """Refuse the next attempt if this call, or the session, has spent what it may."""
        with (
            spending.attempt(_limit_of(asked), whose="call"),
            self._spending.attempt(self._budget, whose="session"),
        ):
            yield

    def _can_pay(self, asked: Options, spending: Spending, under_way: Usage) -> bool:
        """Whether an attempt may be begun beside one that is under way."""
        try:
            check(_limit_of(asked), spending.total, whose="call", ahead=under_way)
            check(self._budget, self._spending.total, whose="session", ahead=under_way)
        except BudgetError:
            return False
        return True


def _limit_of(asked: Options) -> Budget | None:
    budget = asked.budget
    return budget if budget is None or isinstance(budget, Budget) else Budget(usd=budget)
