"""Running a search: it is asked for work, the work is evaluated, and it is told the rows."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from dspex.bridge import examples as examples_bridge
from dspex.optimizers import search_named
from dspex.optimizers.search import OneByOne
from dspex.records import Configuration, Score, Trial, TrialPhase, Usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    import dspy

    from dspex.optimizers.search import Work
    from dspex.optimizers.trials import Workshop

_SAMPLE = 48
"""Examples that every search trial shares; the finalists are then scored on all."""
_FINALISTS = 3


class Searching:
    """One search over a space, from its first trial to its finalists.

    Attributes
    ----------
    reason
        Why it ended.
    """

    def __init__(self, shop: Workshop) -> None:
        self.reason = ""
        self._shop = shop
        self._what = shop.definition
        self._examples = {examples_bridge.key_of(each): each for each in self._what.scored}
        self._rows: dict[str, dict[str, Score]] = {}
        self._began = time.monotonic()
        self._gained_at = 0

    @property
    def usage(self) -> Usage:
        """What was paid for, unfinished trials included."""
        return sum((score.usage for score in self._shop.ledger.rows()), Usage())

    def run(self) -> None:
        """Search until the budget is spent or nothing is left, then score the finalists."""
        self._began = time.monotonic()
        sample = self._sample()
        keys = [examples_bridge.key_of(each) for each in sample]
        assert self._what.space is not None  # a search without one is refused beforehand
        search = OneByOne(
            search_named(self._what.optimizer, self._what.space, self._what.seed), self._what.space, keys
        )
        while not self._is_spent(sample):
            work = search.ask(1)
            if not work:
                self.reason = "every configuration was tried"
                break
            search.tell([row for each in work for row in self._done(each)])
        if len(sample) < len(self._what.scored):
            self._score_finalists(sample)

    def _done(self, work: Work) -> list[Score]:
        examples = [self._examples[key] for key in work.example_keys]
        return self._trial(work.configuration, examples, "search")

    def _is_spent(self, sample: Sequence[dspy.Example]) -> bool:
        trials = self._shop.trials.finished
        if not trials:
            return False
        ahead = self._finals_usage(sample) + self._dearest_trial()
        spent = self._what.budget.spent_by(
            len(trials),
            time.monotonic() - self._began,
            self.usage,
            ahead,
            without_gain=len(trials) - self._gained_at,
        )
        self.reason = spent or ""
        return spent is not None

    def _score_finalists(self, sample: Sequence[dspy.Example]) -> None:
        if self._what.budget.exceeded_by(self.usage, self._finals_usage(sample)):
            self.reason += "; the finalists were not scored on every example"
            return
        for finalist in self._finalists():
            self._trial(finalist.configuration, self._what.scored, "final")

    def _sample(self) -> Sequence[dspy.Example]:
        scored = self._what.scored
        if len(scored) <= _SAMPLE:
            return scored
        return random.Random(self._what.seed).sample(list(scored), _SAMPLE)

    def _dearest_trial(self) -> Usage:
        """Return what one more trial may take: as much as the dearest so far."""
        taken = [trial.usage for trial in self._shop.trials.finished]
        return Usage(
            calls=max(usage.calls for usage in taken),
            tokens_in=max(usage.tokens_in for usage in taken),
            tokens_out=max(usage.tokens_out for usage in taken),
            cost_usd=max(usage.cost_usd for usage in taken),
        )

    def _finals_usage(self, sample: Sequence[dspy.Example]) -> Usage:
        """Estimate what scoring today's finalists in full will take, from what their examples have taken."""
        missing = (len(self._what.scored) - len(sample)) / len(sample)
        taken = [trial.usage for trial in self._finalists()]
        return Usage(
            calls=round(missing * sum(usage.calls for usage in taken)),
            tokens_in=round(missing * sum(usage.tokens_in for usage in taken)),
            tokens_out=round(missing * sum(usage.tokens_out for usage in taken)),
            cost_usd=missing * sum(usage.cost_usd for usage in taken),
        )

    def _finalists(self) -> list[Trial]:
        """Return the leaders and the default, so that the result is never worse than where it began."""
        trials = self._shop.trials.finished
        ranked = sorted(trials, key=lambda trial: -trial.score)
        # The default was the first trial of the search.
        chosen = {trial.configuration_key: trial for trial in [*ranked[:_FINALISTS], *trials[:1]]}
        return list(chosen.values())

    def _trial(
        self, configuration: Configuration, examples: Sequence[dspy.Example], phase: TrialPhase
    ) -> list[Score]:
        assert self._what.space is not None  # as above
        key = self._what.space.key_of(configuration)
        began = time.time()
        number = self._shop.trials.begin(configuration, key, phase, len(examples))
        program = self._what.bind(configuration)
        scores, spent = self._shop.evaluator(number).evaluate(program, self._what.default_lm, key, examples)
        best = max((trial.score for trial in self._shop.trials.finished), default=float("-inf"))
        trial = self._shop.trials.finish(
            Trial(
                number=number,
                configuration=configuration,
                configuration_key=key,
                score=sum(score.score for score in scores) / len(scores),
                n_examples=len(scores),
                n_failed=sum(score.error is not None for score in scores),
                usage=spent,
                started_at=began,
                finished_at=time.time(),
                phase=phase,
            )
        )
        if trial.score > best:
            self._gained_at = len(self._shop.trials)
        return scores
