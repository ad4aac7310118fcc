"""One attempt: a task run one way."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from dspex.adapters.base import outcome_of
from dspex.bridge import asking, observe
from dspex.bridge import program as program_bridge
from dspex.orchestrator.asking import shown_whole, streamed
from dspex.reliability import deadline
from dspex.reliability.spending import Spending

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from dspex.execution.options import Options
    from dspex.orchestrator.streaming import Shown
    from dspex.orchestrator.ways import Ways
    from dspex.records import Outcome, Strategy


class Attempt:
    """Runs a task one way, within the deadline, if it may still spend anything."""

    def __init__(
        self,
        ways: Ways,
        inputs: Mapping[str, Any],
        asked: Options,
        within_budgets: Callable[[Options, Spending], AbstractContextManager[None]],
        shown: Shown | None = None,
    ) -> None:
        self._ways, self._inputs, self._asked = ways, inputs, asked
        self._within_budgets = within_budgets
        self.spending = Spending()
        self._shown = shown

    def __call__(self, strategy: Strategy) -> Outcome:
        """Run it that way, and judge the answer by the signature's constraints."""
        with self._within_budgets(self._asked, self.spending):
            outcome = self._run(strategy)
            self.spending.add(strategy.model, outcome.usage)
        outcome = self._judged(outcome)
        return outcome if self._shown is None else self._shown.ended(outcome)

    def _run(self, strategy: Strategy) -> Outcome:
        run, is_local = self._runner(strategy)
        remaining = deadline.remaining_s()
        if math.isinf(remaining) or is_local:
            return run()
        return asking.in_time(run, remaining, strategy.model)

    def _runner(self, strategy: Strategy) -> tuple[Callable[[], Outcome], bool]:
        """Return what asks once, and whether it does so in this process."""
        asked, ways, inputs, shown = self._asked, self._ways, self._inputs, self._shown
        adapter = ways.adapter(strategy)
        if adapter is not None:
            is_local = not ways.is_foreign and asking.is_local(ways.lm(strategy))

            def ask() -> Outcome:
                with observe.drawing(asked.rollout_id):
                    if shown is None:
                        return outcome_of(adapter, ways.described, inputs)
                    return streamed(adapter, ways.described, inputs, shown)

            return ask, is_local
        lm = asking.asker(ways.lm(strategy), past_caches=asked.cache is False, rollout=asked.rollout_id)
        program = ways.program(strategy)

        def run() -> Outcome:
            with observe.drawing(asked.rollout_id):
                return program_bridge.run(program, inputs, lm)[1]

        if shown is None:
            return run, asking.is_local(lm)
        return partial(shown_whole, run, ways.described.outputs, shown), asking.is_local(lm)

    def _judged(self, outcome: Outcome) -> Outcome:
        ways = self._ways
        broken = ways.described.broken_constraints(outcome.output) if outcome.output is not None else None
        # An answer out of bounds is a failed attempt: another model may keep to them.
        return outcome if broken is None else replace(outcome, output=None, error=broken)
