"""Running several optimizers on one program: turn by turn, each from the best so far, to a final race."""

from __future__ import annotations

import contextvars
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dspex.bridge import compile as compile_bridge
from dspex.bridge import examples as examples_bridge
from dspex.bridge import identity, varying
from dspex.errors import CancelledError, DataError, ExecutionError, ProviderError
from dspex.events import StintFinished, StintStarted
from dspex.optimizers.candidates import configuration_of
from dspex.optimizers.compiling import Compiling
from dspex.optimizers.coordinate import shares
from dspex.optimizers.searching import Searching
from dspex.optimizers.sharing import Share, StintTrials
from dspex.records import Candidate, Configuration, ScoreKey, Stint, Trial, TrialPhase, Usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    import dspy

    from dspex.bridge.identity import Said
    from dspex.events import EventBus
    from dspex.optimizers.budget import Budget
    from dspex.optimizers.definition import Definition
    from dspex.optimizers.members import Member
    from dspex.optimizers.trials import Workshop

_LEAST = 5
"""Programs, scored on every example, whose cost a turn has at least: with less none of them gets anywhere."""
_LIMITS = ("trials", "seconds", "usd", "calls", "tokens")


@dataclass(frozen=True)
class Standing:
    """A program that several optimizers made: a configuration, and what it says if that is not its own."""

    key: str
    labels: Configuration
    said: tuple[Said, ...] | None = None
    score: float = float("-inf")


@dataclass
class _Work:
    """One optimizer at work."""

    place: int
    member: Member
    work: Searching | Compiling
    share: Share
    trials: StintTrials
    begun: Standing
    """The best program when it began."""
    definition: Definition
    found: Standing | None = None
    error: BaseException | None = None

    @property
    def usage(self) -> Usage:
        return self.work.usage if isinstance(self.work, Compiling) else self.share.spent


class Coordinating:
    """Several optimizers on one study's ledger, trials and budget.

    Attributes
    ----------
    reason
        Why it ended.
    notices
        What was mended or went unexpectedly.
    stints
        What each optimizer did in its turn, in the order in which they ended.
    candidates
        What each program said that an optimizer of DSPy tried.
    """

    compiled: dspy.Module | None = None

    def __init__(self, shop: Workshop, events: EventBus) -> None:
        assert shop.definition.plan is not None  # one optimizer runs elsewhere
        self.reason = ""
        self.notices: list[str] = []
        self.stints: list[Stint] = []
        self.candidates: dict[str, Candidate] = {}
        self._shop, self._what, self._plan = shop, shop.definition, shop.definition.plan
        self._events = events
        self._claimed: set[ScoreKey] = set()
        self._own = Share(shop.ledger, self._what.name, shop.store, self._claimed)
        self._done: list[_Work] = []
        self._at_work: list[_Work] = []
        self._n_begun = 0
        self._standings: dict[str, Standing] = {}
        self._began = time.monotonic()
        labels = {} if self._what.space is None else self._what.space.default()
        self.student_key = self._what.default_key
        self._best = Standing(self.student_key, labels)
        self._winners: list[Standing] = []

    # ── what came of it ─────────────────────────────────────────────────────────────────────────

    @property
    def usage(self) -> Usage:
        """What was paid for, by everybody."""
        return sum((turn.usage for turn in [*self._done, *self._at_work]), self._own.spent)

    def program(self, trial: Trial) -> dspy.Module:
        """Return a trial's program, tied to its models."""
        standing = self._standings.get(trial.configuration_key)
        if standing is not None:
            return self._program(standing)
        work, key = self._origin(trial.configuration_key)
        if isinstance(work.work, Compiling):
            return work.work.program(key)
        return self._program(replace(work.begun, labels=trial.configuration))

    def ledger_key(self, key: str) -> str:
        """Return what the ledger calls the configuration that a program runs."""
        if key in self._standings:
            return self._key_of(self._standings[key].labels)
        work, own = self._origin(key)
        return work.work.ledger_key(own) if isinstance(work.work, Compiling) else own

    def definition_of(self, key: str) -> Definition:
        """Return what a program was run for: the whole study, or the turn of an optimizer of DSPy."""
        if key in self._standings:
            return self._what
        work, _ = self._origin(key)
        return work.definition if isinstance(work.work, Compiling) else self._what

    def _origin(self, key: str) -> tuple[_Work, str]:
        """Return in whose turn a program was tried, and what it was called there."""
        for work in [*self._done, *self._at_work]:
            if key in work.trials.own_keys:
                return work, work.trials.own_keys[key]
        raise ExecutionError(f"nobody of {self._what.optimizer} has tried {key}")

    def best_keys(self) -> list[str]:
        """Return the best program so far, then the others, the later the better."""
        return [self._best.key, *reversed(self._standings)]

    # ── running ─────────────────────────────────────────────────────────────────────────────────

    def run(self) -> None:
        """Let the optimizers take their turns, then compare what each found with the default."""
        self._began = time.monotonic()
        self._best = self._judged(self._best)
        waves, rounds = self._plan.waves(), self._affordable_rounds()
        for round_ in range(1, rounds + 1):
            parts = shares(self.stints, len(self._plan.members))
            later = rounds - round_
            for k, wave in enumerate(waves):
                pending = sum(parts[place] for each in waves[k:] for place in each) + later
                budgets = {place: self._slice(parts[place] / pending) for place in wave}
                if any(budget is None for budget in budgets.values()):
                    self.reason = "the budget is spent or set aside"
                    break
                self._wave({place: budget for place, budget in budgets.items() if budget}, round_)
        self._refuse_only_failures()
        self.reason = self.reason or f"{', '.join(each.name for each in self._plan.members)} are done"
        self._race()

    def _wave(self, budgets: dict[int, Budget], round_: int) -> None:
        """Let some optimizers work at once from the best so far, then join what they found."""
        begun = self._best
        turns = [self._turn(place, budget, round_, begun) for place, budget in budgets.items()]
        self._at_work = turns
        threads = [self._thread(turn) for turn in turns]
        for thread in threads:
            thread.join()
        self._at_work = []
        self._done += turns
        if self._shop.stopped():
            self._keep(turns, begun)
            raise CancelledError("the optimizers were cancelled")
        for turn in turns:
            self._close(turn, round_, begun)
        self._join([turn for turn in turns if turn.found is not None], begun)

    def _thread(self, turn: _Work) -> threading.Thread:
        def work() -> None:
            try:
                turn.work.run()
            except BaseException as error:  # noqa: BLE001  # handed to the study's thread, which knows what to do
                turn.error = error

        name = f"dspex-turn-{self._what.name}-{turn.member.name}"
        thread = threading.Thread(target=contextvars.copy_context().run, args=(work,), name=name, daemon=True)
        thread.start()
        return thread

    def _turn(self, place: int, budget: Budget, round_: int, begun: Standing) -> _Work:
        member = self._plan.members[place]
        self._n_begun += 1
        name = f"{self._what.name}/{self._n_begun}-{member.name}"
        definition = self._definition(member, name, budget, round_, begun)
        share = Share(self._shop.ledger, self._what.name, self._shop.store, self._claimed)
        trials = StintTrials(
            self._shop.trials,
            name,
            self._shop.store,
            self._events,
            key_of=lambda key: self._common_key(member, begun, key, definition),
            labels={} if member.job is None else begun.labels,
        )
        shop = replace(self._shop, definition=definition, ledger=share, trials=trials, stopped=self._is_over)
        work = Searching(shop) if member.job is None else Compiling(shop)
        self._events.publish(StintStarted(self._what.name, member.name, round_))
        return _Work(place, member, work, share, trials, begun, definition)

    def _definition(
        self, member: Member, name: str, budget: Budget, round_: int, begun: Standing
    ) -> Definition:
        """Define what one optimizer does in its turn: it starts from the best so far."""
        what, space = self._what, self._what.space
        return replace(
            what,
            name=name,
            plan=None,
            optimizer=member.name,
            recipe=None if member.job is None else member.job.recipe,
            beacon=member.beacon,
            pruner=member.pruner,
            budget=budget,
            seed=what.seed + round_ - 1,
            space=None if space is None else space.starting_at(begun.labels),
            bind=lambda labels: self._program(replace(begun, labels=labels)),
            student=self._program(begun),
        )

    def _common_key(self, member: Member, begun: Standing, key: str, turn: Definition) -> str:
        """Name a program of a turn among all that the study has tried."""
        if member.job is None:
            return _key(key, begun.said)
        if key == identity.fingerprint(identity.said_by(turn.student)):
            return begun.key
        return identity.digest(turn.default_key, key)

    def _is_over(self) -> bool:
        """Whether everybody is to stop: cancelled, or nothing of the budget is left."""
        return self._shop.stopped() or self._what.budget.exceeded_by(self.usage, Usage(calls=1))

    # ── after a turn ────────────────────────────────────────────────────────────────────────────

    def _close(self, turn: _Work, round_: int, begun: Standing) -> None:
        """See what a turn has found, and whether it is better than what it began with."""
        reason = turn.work.reason
        # A provider that is not waited for any longer fails whoever asks it next, too.
        ends_all = isinstance(turn.error, (CancelledError, ProviderError))
        if isinstance(turn.error, (ExecutionError, DataError)) and not ends_all:
            reason = f"failed: {turn.error}"
            self.notices.append(f"{turn.member.name} {reason}")
        elif turn.error is not None and not isinstance(turn.error, CancelledError):
            raise turn.error
        if isinstance(turn.work, Compiling):
            self.candidates |= turn.work.candidates
            self.notices += turn.work.notices
        found = self._found(turn, begun)
        judged = None if found is None else self._affordable(found)
        turn.found = judged if judged is not None and judged.score > begun.score else None
        after = begun.score if turn.found is None else turn.found.score
        n_trials = len(turn.trials)
        ended = Stint(turn.member.name, turn.place, round_, begun.score, after, turn.usage, n_trials, reason)
        self.stints.append(ended)
        if turn.found is not None:
            self._winners.append(turn.found)
            if turn.found.score > self._best.score:
                self._best = turn.found
        self._events.publish(StintFinished(self._what.name, ended))

    def _keep(self, turns: Sequence[_Work], begun: Standing) -> None:
        """Keep the best of turns that were interrupted, as far as they have scored it on every example."""
        for turn in turns:
            found = self._found(turn, begun)
            if found is not None and found.score > self._best.score:
                self._best = self._standings[found.key] = found

    def _found(self, turn: _Work, begun: Standing) -> Standing | None:
        trials = [each for each in turn.trials.finished if each.phase != "bootstrap"]
        finals = [each for each in trials if each.phase == "final"]
        if isinstance(turn.work, Searching):
            best = max(finals or trials, key=lambda each: each.score, default=None)
            if best is None:
                return None
            key = _key(best.configuration_key, begun.said)
            return Standing(key, best.configuration, begun.said, self._score_of(best))
        if not finals:
            return None
        best = max(finals, key=lambda each: each.score)
        if best.configuration_key == turn.work.student_key:
            return None
        said = tuple(identity.said_by(turn.work.program(best.configuration_key)))
        key = identity.digest(self._key_of(begun.labels), best.configuration_key)
        return Standing(key, begun.labels, said, self._score_of(best))

    def _score_of(self, trial: Trial) -> float:
        """Return a trial's score, if it is one on every example."""
        return trial.score if trial.n_examples >= len(self._what.scored) else float("-inf")

    def _join(self, turns: Sequence[_Work], begun: Standing) -> None:
        """Put together what several found at once: one the configuration, others the texts."""
        if len(turns) < 2:  # noqa: PLR2004  # nothing to join
            return
        labels, said = begun.labels, begun.said
        for turn in turns:
            assert turn.found is not None
            if turn.member.job is None:
                labels = turn.found.labels
            elif turn.found.said is not None:
                said = _joined(said, turn.found.said, turn.member.changes)
        joined = self._affordable(Standing(_key(self._key_of(labels), said), labels, said))
        if joined is not None and joined.score > self._best.score:
            self._best = joined
            self._winners.append(joined)

    def _refuse_only_failures(self) -> None:
        failed = [turn.error for turn in self._done if isinstance(turn.error, Exception)]
        real = [error for error in failed if not isinstance(error, CancelledError)]
        if self._done and len(real) == len(self._done):
            raise real[0]

    # ── judging ─────────────────────────────────────────────────────────────────────────────────

    def _race(self) -> None:
        """Compare the best, what each optimizer found and the default on every example, from the ledger."""
        default = self._standings[self.student_key]
        last = {standing.key: standing for standing in [default, *self._winners, self._best]}
        for standing in last.values():
            self._judged(standing, "final")

    def _affordable(self, standing: Standing) -> Standing | None:
        """Score a program on every example, if that is still paid for."""
        program = self._program(standing)
        said = identity.said_by(program)
        text_key = identity.run_key(program, said, self._what.default_lm)
        keys = [examples_bridge.key_of(each) for each in self._what.scored]
        known = self._own.find_all(text_key, self._key_of(standing.labels), keys)
        if self._what.budget.exceeded_by(self.usage, self._cost_of(len(keys) - len(known))):
            self.notices.append(f"{standing.key} was left out: scoring it would exceed the budget")
            return None
        return self._judged(standing)

    def _judged(self, standing: Standing, phase: TrialPhase = "search") -> Standing:
        """Score a program on every example, in a trial of its own."""
        key, examples, trials = standing.key, self._what.scored, self._shop.trials
        began = time.time()
        shown = self._shown(standing)
        number = trials.begin(shown, key, phase, len(examples))
        shop = replace(self._shop, ledger=self._own)
        scores, spent = shop.evaluator(number).evaluate(
            self._program(standing), self._what.default_lm, self._key_of(standing.labels), examples
        )
        # A search trial goes on where a turn left it; a final one is the comparison alone.
        usage = spent if phase == "final" else sum((each.usage for each in scores), Usage())
        trial = trials.close(number, shown, key, scores, usage, began=began, phase=phase)
        self._standings[key] = replace(standing, score=trial.score)
        return self._standings[key]

    def _program(self, standing: Standing) -> dspy.Module:
        program = self._what.bind(standing.labels)
        return program if standing.said is None else varying.retold(program, standing.said)

    def _shown(self, standing: Standing) -> Configuration:
        """Say in a few words what it is."""
        if standing.said is None:
            return standing.labels
        return {
            **standing.labels,
            **configuration_of(compile_bridge.candidate(standing.said, standing.key, 0, None)),
        }

    def _key_of(self, labels: Configuration) -> str:
        return self._what.default_key if self._what.space is None else self._what.space.key_of(labels)

    # ── the budget ──────────────────────────────────────────────────────────────────────────────

    def _affordable_rounds(self) -> int:
        """Return how many rounds there are: no more than let each turn score a handful of programs in full."""
        # What the default took is the same in a resumed run; the rows of later turns would not be.
        budget, taken, most = self._what.budget, self._own.spent, self._plan.rounds
        each = {"usd": taken.cost_usd, "calls": taken.calls, "tokens": taken.tokens_in + taken.tokens_out}
        for name, cost in each.items():
            limit = getattr(budget, name)
            if limit is not None and cost > 0:
                most = min(most, int(limit / (cost * _LEAST * len(self._plan.members))))
        if most < self._plan.rounds:
            self.notices.append(f"the budget suffices for {max(most, 1)} of {self._plan.rounds} rounds")
        return max(most, 1)

    def _slice(self, share: float) -> Budget | None:
        """Return a share of what is left, after what judging takes is set aside; None if nothing is left."""
        budget, used = self._what.budget, self._used()
        # One program is judged after each turn; and calls that are under way when a limit is met still end.
        ahead = self._cost_of(len(self._what.scored) + self._shop.pool.workers)
        aside = {"usd": ahead.cost_usd, "calls": ahead.calls, "tokens": ahead.tokens_in + ahead.tokens_out}
        limits: dict[str, Any] = {}
        for name in _LIMITS:
            limit = getattr(budget, name)
            if limit is None:
                continue
            left = share * (limit - used[name] - aside.get(name, 0.0))
            limits[name] = left if name in {"seconds", "usd"} else int(left)
            if not limits[name] > 0:
                return None
        return replace(budget, **limits)

    def _used(self) -> dict[str, float]:
        usage = self.usage
        return {
            "trials": sum(turn.n_trials for turn in self.stints),
            "seconds": time.monotonic() - self._began,
            "usd": usage.cost_usd,
            "calls": usage.calls,
            "tokens": usage.tokens_in + usage.tokens_out,
        }

    def _cost_of(self, n_rows: int) -> Usage:
        """Estimate what so many runs of the program take, from those that were paid for."""
        paid = [row.usage for row in self._shop.ledger.rows() if row.usage.calls]
        if not paid:
            return Usage(calls=n_rows)
        each, total = n_rows / len(paid), sum(paid, Usage())
        return Usage(
            calls=round(each * total.calls),
            tokens_in=round(each * total.tokens_in),
            tokens_out=round(each * total.tokens_out),
            cost_usd=each * total.cost_usd,
        )


def _key(configuration_key: str, said: Sequence[Said] | None) -> str:
    """Name a program by its configuration, and by what it says if that was found."""
    return (
        configuration_key if said is None else identity.digest(configuration_key, identity.fingerprint(said))
    )


def _joined(
    before: Sequence[Said] | None, found: Sequence[Said], changes: frozenset[str]
) -> tuple[Said, ...]:
    """Take from what one found what it changes, and the rest from before."""
    if before is None or len(changes) > 1:
        return tuple(found)
    by_name = {each.name: each for each in before}
    joined = []
    for each in found:
        old = by_name.get(each.name, each)
        kept = {"demos": old.demos} if "instructions" in changes else {"signature": old.signature}
        joined.append(each._replace(**kept))
    return tuple(joined)
