"""Running a search: it is asked for work, the work is evaluated in parallel, and it is told the rows."""

from __future__ import annotations

import math
import random
import time
from typing import TYPE_CHECKING

from dspex.bridge import examples as examples_bridge
from dspex.errors import ExecutionError
from dspex.optimizers.beacon.goal import Goal
from dspex.optimizers.beacon.work import Row, Work
from dspex.optimizers.candidates import believed
from dspex.optimizers.evaluate import Scored, Task
from dspex.optimizers.options import search_named
from dspex.optimizers.search import OneByOne
from dspex.optimizers.warm import earlier_rows
from dspex.records import Configuration, Score, Trial, TrialPhase, Usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dspex.optimizers.beacon.pacing import Paced
    from dspex.optimizers.beacon.work import Recommendation
    from dspex.optimizers.search import Batches
    from dspex.optimizers.trials import Workshop

SAMPLE = 48
"""Examples that a trial is scored on: each one by a search of whole configurations, on average by BEACON."""
_LEADERS = 3
"""Finalists beside the default; BEACON, which knows better, names one itself and has one runner-up."""
_LOOK_EVERY = 8
"""Rounds between two looks whether the search is settled."""


class Searching:
    """One search over a space, from its first trial to its finalists.

    A trial is a configuration. BEACON comes back to the promising ones with further examples; the trial
    then keeps its number, and is announced again with everything that is known of it.

    Attributes
    ----------
    reason
        Why it ended.
    """

    def __init__(self, shop: Workshop) -> None:
        self.reason = ""
        self._shop = shop
        self._what = shop.definition
        assert self._what.space is not None  # a search without one is refused beforehand
        self._space = self._what.space
        self._examples = {examples_bridge.key_of(each): each for each in self._what.scored}
        self._n_each = min(SAMPLE, len(self._examples))
        self._rows: dict[str, dict[str, Score]] = {}
        self._began_at: dict[tuple[str, TrialPhase], float] = {}
        self._n_scores = 0
        self._gained_at, self._leader = 0, -1
        self._is_over = False
        self._recommended: Recommendation | None = None
        self._engine: Paced | None = None
        if self._what.beacon is not None:
            self._engine = self._what.beacon.start(
                self._space, list(self._examples), self._what.seed, self._what.budget.trials
            )
        self._search: Batches = self._engine or self._whole()
        self._n_leaders = _LEADERS if self._engine is None else _LEADERS - 1
        self._began = time.monotonic()

    def _whole(self) -> OneByOne:
        sample = list(self._examples)
        if len(sample) > SAMPLE:
            sample = random.Random(self._what.seed).sample(sample, SAMPLE)
        search = search_named(self._what.optimizer, self._space, self._what.seed)
        return OneByOne(search, self._space, sample)

    @property
    def usage(self) -> Usage:
        """What was paid for, unfinished trials included."""
        return sum((score.usage for score in self._shop.ledger.rows()), Usage())

    @property
    def recommendation(self) -> Recommendation | None:
        """What the search would use, and how sure it is of that; None while it runs, or if it cannot say."""
        if self._is_over and self._recommended is None:
            self._recommended = self._recommend()
        return self._recommended

    @property
    def pareto(self) -> list[str]:
        """The keys of the configurations that no other beats in every objective; none while it runs."""
        if self._engine is None or not self._is_over:
            return []
        return [self._space.key_of(each) for each in self._engine.pareto()]

    def _recommend(self) -> Recommendation | None:
        try:
            return None if self._engine is None else self._engine.recommend()
        except ExecutionError as error:  # nothing was scored yet, or nothing meets the goal's bounds
            if self._rows and error.message not in self.reason:
                self.reason += f"; {error.message}"
            return None

    @property
    def planned_scores(self) -> int | None:
        """How many examples the search scores at most, finalists aside; None if its trials are not limited."""
        trials = self._what.budget.trials
        return None if trials is None else trials * self._n_each

    # ── the search ──────────────────────────────────────────────────────────────────────────────

    def run(self) -> None:
        """Search until the budget is spent or nothing is left, then score the finalists."""
        self._began = time.monotonic()
        try:
            self._search_on()
            if self._is_sampled():
                self._score_finalists()
        finally:
            self._is_over = True

    def _search_on(self) -> None:
        width = 1 if self._what.beacon is None else self._what.beacon.parallel
        if self._engine is not None and self._what.beacon is not None and self._what.beacon.warm_start:
            self._engine.tell_earlier(self._row(*each) for each in earlier_rows(self._what, self._shop))
        n_rounds = 0
        while not self._is_spent() and not self._is_settled(n_rounds):
            work = self._search.ask(width)
            if not work:
                self.reason = "every configuration was tried"
                break
            self._search.tell(self._done(work))
            n_rounds += 1

    def _is_sampled(self) -> bool:
        """Whether there are examples that the search's own ranking has not seen."""
        if self._what.beacon is not None and self._what.beacon.warm_start:
            return True  # the best may be one that was never tried here
        return any(len(rows) < len(self._examples) for rows in self._rows.values())

    def _done(self, work: Sequence[Work]) -> list[Row]:
        """Evaluate work, all of it at the same time, and make what came of it part of its trials."""
        merged: dict[str, Work] = {}
        for each in work:
            before = merged.get(each.key)
            seen = () if before is None else before.examples
            merged[each.key] = each._replace(examples=(*seen, *each.examples))
        rows: list[Row] = []
        for each, scored in self._evaluated(list(merged.values()), "search"):
            known = self._rows.setdefault(each.key, {})
            known.update({row.example_key: row for row in scored.scores})
            self._n_scores += len(scored.scores)
            self._finish(
                each, "search", list(known.values()), sum((row.usage for row in known.values()), Usage())
            )
            rows += [self._row(each.configuration, score) for score in scored.scores]
        self._note_gain()
        return rows

    def _evaluated(self, work: Sequence[Work], phase: TrialPhase) -> list[tuple[Work, Scored]]:
        numbers = {}
        for each in work:
            self._began_at.setdefault((each.key, phase), time.time())
            numbers[each.key] = self._shop.trials.begin(
                each.configuration, each.key, phase, len(each.examples)
            )
        tasks = [
            Task(
                self._what.bind(each.configuration),
                self._what.default_lm,
                each.key,
                [self._examples[key] for key in each.examples],
            )
            for each in work
        ]
        return list(zip(work, self._shop.evaluator_of(numbers).evaluate_all(tasks), strict=True))

    def _finish(self, work: Work, phase: TrialPhase, rows: Sequence[Score], usage: Usage) -> None:
        """Announce a trial with all that is known of it."""
        self._shop.trials.finish(
            Trial(
                number=self._shop.trials.number(work.key, phase),
                configuration=work.configuration,
                configuration_key=work.key,
                score=sum(row.score for row in rows) / len(rows),
                n_examples=len(rows),
                n_failed=sum(row.error is not None for row in rows),
                usage=usage,
                started_at=self._began_at[work.key, phase],
                finished_at=time.time(),
                phase=phase,
            )
        )

    def _row(self, configuration: Configuration, score: Score) -> Row:
        """Write a row as searches read it."""
        took = self._shop.ledger.took(score)
        known = took.calls > 0
        return Row(
            configuration,
            score.example_key,
            score.score,
            took.cost_usd if known else None,
            took.latency_s if known else None,
        )

    def _note_gain(self) -> None:
        leader = self.ranked(self._shop.trials.finished)[0].number
        if leader != self._leader:
            self._leader, self._gained_at = leader, len(self._shop.trials)

    def ranked(self, trials: Sequence[Trial]) -> list[Trial]:
        """Order trials, the best first as believed: what was seen on few examples with reserve."""
        import numpy as np

        if not trials:
            return []
        goal = (None if self._what.beacon is None else self._what.beacon.goal) or Goal()
        usual = trials[0].score
        each = [self._measured(trial, usual) for trial in trials]
        values = {name: np.array([[one[name] for one in each]]) for name in each[0]}
        order = np.argsort(-goal.worth(values)[0], kind="stable")
        return [trials[k] for k in order]

    def _measured(self, trial: Trial, usual: float) -> dict[str, float]:
        """Return a trial's mean, drawn towards the usual one, and what an example cost and took on average."""
        took = [self._shop.ledger.took(row) for row in self._rows.get(trial.configuration_key, {}).values()]
        paid = [usage for usage in took if usage.calls] or [Usage()]
        return {
            "quality": believed([trial.score] * trial.n_examples, usual),
            "cost_usd": sum(usage.cost_usd for usage in paid) / len(paid),
            "latency_s": sum(usage.latency_s for usage in paid) / len(paid),
        }

    # ── when to stop ────────────────────────────────────────────────────────────────────────────

    def _is_spent(self) -> bool:
        trials = self._shop.trials.finished
        if not trials:
            return False
        most = self._n_each if self._what.beacon is None else self._what.beacon.most_scores
        spent = self._what.budget.spent_by(
            self._n_scores // self._n_each,
            time.monotonic() - self._began,
            self.usage,
            self._finals_usage() + _times(_dearest(trials), most),
            without_gain=len(trials) - self._gained_at,
        )
        self.reason = spent or ""
        return spent is not None

    def _is_settled(self, n_rounds: int) -> bool:
        if self._engine is None or n_rounds == 0 or n_rounds % _LOOK_EVERY:
            return False
        try:
            is_settled = self._engine.is_settled()
        except ExecutionError:  # nothing is known yet to meet the goal's bounds
            return False
        if is_settled:
            self.reason = "settled: hardly anything can be better by more than 0.01"
        return is_settled

    def _finals_usage(self) -> Usage:
        """Estimate what scoring today's finalists in full will take; those seen little are no cheaper than most."""
        trials = self._shop.trials.finished
        n_scores = sum(trial.n_examples for trial in trials)
        paid = sum((trial.usage for trial in trials), Usage())
        total = Usage()
        for trial in self._leaders():
            missing = len(self._examples) - trial.n_examples
            total += _dearer(
                _times(trial.usage, missing / trial.n_examples), _times(paid, missing / n_scores)
            )
        return total

    # ── the finalists ───────────────────────────────────────────────────────────────────────────

    def _score_finalists(self) -> None:
        if self._what.budget.exceeded_by(self.usage, self._finals_usage()):
            self.reason += "; the finalists were not scored on every example"
            return
        finalists = {self._space.key_of(each): dict(each) for each in self._finalists()}
        work = [Work(each, key, tuple(self._examples)) for key, each in finalists.items()]
        for each, scored in self._evaluated(work, "final"):
            known = self._rows.setdefault(each.key, {})
            new = [score for score in scored.scores if score.example_key not in known]
            known.update({score.example_key: score for score in new})
            self._finish(each, "final", scored.scores, scored.spent)
            if self._engine is not None:
                self._engine.tell(self._row(each.configuration, score) for score in new)

    def _finalists(self) -> list[Configuration]:
        """Return what is recommended, the leaders and the default: the result is never worse than where it began."""
        leaders = [
            trial.configuration for trial in self.ranked(self._shop.trials.finished)[: self._n_leaders]
        ]
        recommended = self._recommend()
        if recommended is not None and recommended.configuration not in leaders:
            leaders = [recommended.configuration, *leaders[:-1]]
        return [*leaders, self._space.default()]

    def _leaders(self) -> list[Trial]:
        trials = self._shop.trials.finished
        # The default was the first trial of the search.
        chosen = {
            each.configuration_key: each for each in [*self.ranked(trials)[: self._n_leaders], *trials[:1]]
        }
        return list(chosen.values())


def _times(usage: Usage, factor: float) -> Usage:
    return Usage(
        calls=round(factor * usage.calls),
        tokens_in=round(factor * usage.tokens_in),
        tokens_out=round(factor * usage.tokens_out),
        cost_usd=factor * usage.cost_usd,
        latency_s=factor * usage.latency_s,
    )


def _dearer(one: Usage, other: Usage) -> Usage:
    return Usage(
        calls=max(one.calls, other.calls),
        tokens_in=max(one.tokens_in, other.tokens_in),
        tokens_out=max(one.tokens_out, other.tokens_out),
        cost_usd=max(one.cost_usd, other.cost_usd),
    )


def _dearest(trials: Sequence[Trial]) -> Usage:
    """Return what one example has taken at most, on a trial's average."""
    taken = [(trial.usage, trial.n_examples) for trial in trials]
    return Usage(
        calls=math.ceil(max(usage.calls / n for usage, n in taken)),
        tokens_in=math.ceil(max(usage.tokens_in / n for usage, n in taken)),
        tokens_out=math.ceil(max(usage.tokens_out / n for usage, n in taken)),
        cost_usd=max(usage.cost_usd / n for usage, n in taken),
    )
