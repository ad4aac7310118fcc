"""The continuous optimizer: watches quality in service, and keeps a registry's values good."""

from __future__ import annotations

import math
import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from dspex.errors import CancelledError, DataError, DefinitionError, DspexError
from dspex.events import Event, ExecutionFinished, LabelGiven, StudyFinished
from dspex.optimizers.definition import Budget
from dspex.optimizers.promotion import Check, Since
from dspex.optimizers.quality import CanaryTest, FallDetector, Side
from dspex.optimizers.turns import Turns
from dspex.records import Configuration, Execution, Turn, TurnKind
from dspex.variables.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import dspy
    import pandas as pd

    from dspex.events import EventBus
    from dspex.optimizers.definition import Examples
    from dspex.optimizers.study import Study
    from dspex.pools import Pool
    from dspex.store import Store

ContinuousState = Literal["watching", "searching", "canary", "probation", "stopped"]

_TRIALS = 8
_REMEMBERED = 10_000
"""Executions that may still be rated."""
_BY = "continuous"


class Continuous:
    """Watches a registry's calls and searches anew when they become worse. Made by `dspex.watch`.

    It has no thread of its own: it listens to what happens, on the threads where it happens.

    Attributes
    ----------
    state
        ``watching``; ``searching`` while a study runs; ``canary`` while a share of the calls tries what it
        found; ``probation`` while that is new in force; ``stopped``.
    study
        The latest study.
    """

    def __init__(
        self,
        program: dspy.Module,
        *,
        signature_key: str,
        registry: Registry,
        trainset: Examples,
        metric: Callable[..., Any],
        begin: Callable[..., Study],
        lm: Callable[[Any], dspy.BaseLM],
        default_lm: dspy.BaseLM,
        pool: Pool,
        store: Store,
        events: EventBus,
        valset: Examples | None = None,
        recent: Callable[[], Examples] | None = None,
        optimizer: str = "beacon",
        budget: Budget | None = None,
        every: int | None = None,
        fall: float = 0.15,
        warm_up: int = 50,
        min_gain: float = 0.02,
        canary: float = 0.1,
        canary_answers: int = 40,
        name: str | None = None,
        seed: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not isinstance(registry, Registry):
            raise DefinitionError(
                f"what is watched are the values of a registry, got {registry!r}",
                hint="space=dspex.Registry(space)",
            )
        _check_numbers(
            min_gain=min_gain,
            shares={"fall": fall, "canary": canary},
            counts={
                "every": 1 if every is None else every,
                "warm_up": warm_up,
                "canary_answers": canary_answers,
            },
        )
        self.name = name or f"continuous-{secrets.token_hex(3)}"
        self.state: ContinuousState = "stopped"
        self.study: Study | None = None
        self._turns = Turns(self.name, events)
        self._registry, self._signature_key, self._metric = registry, signature_key, metric
        self._begin, self._events, self._clock = begin, events, clock
        self._optimizer, self._budget = optimizer, budget or Budget(trials=_TRIALS)
        self._every, self._fall, self._warm_up = every, fall, warm_up
        self._share, self._answers, self._seed = canary, canary_answers, seed
        self._check = Check(
            program,
            registry,
            trainset=trainset,
            valset=valset,
            recent=recent,
            min_gain=min_gain,
            seed=seed,
            lm=lm,
            default_lm=default_lm,
            pool=pool,
            store=store,
            stopped=lambda: self.state == "stopped",
        )
        self._check.rehearse(optimizer, metric, self._budget)
        self._lock = threading.RLock()
        self._sides: OrderedDict[str, Side] = OrderedDict()
        self._round = 0
        self._unsubscribe: Callable[[], None] = lambda: None
        self._end_canary: Callable[[], None] = lambda: None
        self._candidate: Configuration = {}
        self._current = self._against = registry.configuration
        self._before = registry.version
        self._watch_anew()
        self.state = "stopped"

    # ── looking at it ───────────────────────────────────────────────────────────────────────────

    def __repr__(self) -> str:
        with self._lock:
            quality, level, n = self._detector.recent, self._detector.level, self._detector.n
            kinds = [turn.kind for turn in self.turns]
        rated = "nothing rated" if level is None else f"level {level:.3f} of {n} ratings"
        now = "" if quality is None else f"quality {quality:.3f}, "
        done = f"studies: {self._round}, {kinds.count('promoted')} promoted, {kinds.count('rolled_back')} rolled back"
        return f"<Continuous {self.name}: {self.state}, {now}{rated}; {done}>"

    @property
    def turns(self) -> tuple[Turn, ...]:
        """Every step so far."""
        return self._turns.all

    @property
    def history(self) -> pd.DataFrame:
        """One row a step: when, what and why, the quality then, and the gain that decided."""
        return self._turns.frame()

    # ── beginning and ending ────────────────────────────────────────────────────────────────────

    def start(self) -> Continuous:
        """Begin to listen; once more after `stop`."""
        with self._lock:
            if self.state == "stopped":
                self._watch_anew()
                self._note("started", f"a fall of {self._fall:g} begins a study")
                self._unsubscribe = self._events.subscribe(self._heard)
        self._turns.announce()
        return self

    def stop(self) -> None:
        """End a canary and cancel a study that runs; the values in force stay."""
        with self._lock:
            if self.state == "stopped":
                return
            self._unsubscribe()
            self._end_canary()
            self.state = "stopped"
            self._note("stopped", "somebody asked for it")
            study = self.study
        self._turns.announce()
        if study is not None and not study.is_done:
            study.cancel()

    # ── listening ───────────────────────────────────────────────────────────────────────────────

    def _heard(self, event: Event) -> None:
        if isinstance(event, ExecutionFinished):
            self._ran(event.execution)
        elif isinstance(event, LabelGiven):
            self._rated(event.label.execution_id, event.label.quality)
        elif isinstance(event, StudyFinished):
            self._searched_through(event)
        self._turns.announce()

    def _ran(self, execution: Execution) -> None:
        with self._lock:
            side = self._side_of(execution)
            if side is None:
                return
            self._calls += 1
            if not execution.ok:
                self._judge(side, 0.0)  # nobody rates an answer that never came
            else:
                self._sides[execution.id] = side
                if len(self._sides) > _REMEMBERED:
                    self._sides.popitem(last=False)
            if self.state == "watching" and self._every is not None and self._calls >= self._every:
                self._search("due", f"{self._calls} calls since the last study")

    def _rated(self, execution_id: str, quality: float) -> None:
        with self._lock:
            side = self._sides.pop(execution_id, None)
            if side is not None:
                self._judge(side, quality)

    def _side_of(self, execution: Execution) -> Side | None:
        """Say whether a call ran with the values in force, as the canary, or is no affair of ours."""
        if execution.requirements.signature_key != self._signature_key:
            return None
        values = self._steady(execution.configuration)
        if self._has_changed(self._current):
            self._changed()
        if self.state == "canary" and values == self._steady(self._candidate):
            return "canary"
        return "live" if values == self._steady(self._current) else None

    def _steady(self, values: Configuration) -> Configuration:
        """Leave out what moves by itself."""
        return {name: value for name, value in values.items() if name not in self._registry.online}

    def _has_changed(self, since: Configuration) -> bool:
        return self._steady(self._registry.configuration) != self._steady(since)

    def _changed(self) -> None:
        """Somebody else wrote the registry: its level is to be learned anew, a canary was for the old values."""
        self._current = self._registry.configuration
        if self.state == "canary":
            self._end_canary()
            self._note("rejected", "the registry was written meanwhile", configuration=self._candidate)
        if self.state != "searching":
            self._watch_anew()

    # ── deciding ────────────────────────────────────────────────────────────────────────────────

    def _judge(self, side: Side, quality: float) -> None:
        fell = side == "live" and self._detector.add(quality)
        if self.state == "watching" and fell:
            self._search("fell", f"quality fell by {self._fall:g} or more")
        elif self.state == "probation":
            self._probe(has_fallen=fell)
        elif self.state == "canary":
            self._canary.add(side, quality)
            if self._canary.verdict == "passed":
                self._promote()
            elif self._canary.verdict == "worse":
                self._end_canary()
                why = f"the canary is worse: {self._compared()}"
                self._note("rolled_back", why, configuration=self._candidate)
                self._watch_anew()

    def _search(self, kind: TurnKind, why: str) -> None:
        self._round += 1
        name = f"{self.name}-{self._round}"
        self._note(kind, why, study=name)
        self._current = self._against = self._registry.configuration
        self.state = "searching"
        self._since = Since(self._metric, name)
        try:
            # A space and no registry: the calls go on meanwhile, and so may whoever writes.
            self.study = self._begin(
                space=self._registry.as_space(),
                trainset=self._check.searched,
                metric=self._since,
                optimizer=self._optimizer,
                budget=self._budget,
                name=name,
                seed=self._seed + self._round,
            )
        except Exception as error:  # noqa: BLE001  # whoever rated an answer did not ask for a study
            self._note("failed", f"{type(error).__name__}: {error}", study=name)
            self._watch_anew()

    def _searched_through(self, event: StudyFinished) -> None:
        """Check what a study found; on the study's own thread, which has nothing else to do."""
        with self._lock:
            study = self.study
            if self.state != "searching" or study is None or event.study != study.name:
                return
        try:
            turn = self._checked_turn(study)
        except CancelledError:
            return
        except Exception as error:  # noqa: BLE001  # nobody calls this: the history says what went wrong
            turn = self._turn("failed", f"{type(error).__name__}: {error}", study=study.name)
        with self._lock:
            if self.state == "searching":
                self._conclude(turn)

    def _checked_turn(self, study: Study) -> Turn:
        if study.state != "finished":
            return self._turn("failed", f"the study {study.state}: {study.reason}", study=study.name)
        candidate = self._registry.space.complete(study.best.configuration)
        found: dict[str, Any] = {"study": study.name, "configuration": candidate}
        if self._steady(candidate) == self._steady(self._against):
            return self._turn("rejected", "the values in force are the best found", **found)
        comparison = self._check.compare(candidate, self._against, self._since, study=study.name)
        found |= {"gain": comparison.difference, "low": comparison.low, "high": comparison.high}
        problem = self._check.problem_with(comparison)
        if problem is not None:
            return self._turn("rejected", problem, **found)
        why = f"{self._share:.0%} of the calls try what gains on {comparison.n} examples"
        return self._turn("canary", why, **found)

    def _conclude(self, turn: Turn) -> None:
        if turn.kind == "canary" and self._has_changed(self._against):
            turn = replace(turn, kind="rejected", why="the registry was written meanwhile")
        if turn.kind == "canary":
            try:
                self._end_canary = self._registry.divert(
                    turn.configuration, self._share, seed=self._seed + self._round
                )
            except DspexError as error:
                turn = replace(turn, kind="failed", why=error.message)
        self._turns.keep(turn)
        if turn.kind != "canary":
            self._watch_anew()
            return
        self._candidate = turn.configuration
        self._canary = CanaryTest(answers=self._answers)
        self._sides.clear()  # ratings of earlier calls, from when there was no canary beside them
        self.state = "canary"

    def _promote(self) -> None:
        self._end_canary()
        why = f"the canary passed: {self._compared()}"
        version = self._registry.version
        if self._has_changed(self._against):
            self._changed()
            return
        try:
            change = self._registry.set(self._steady(self._candidate), by=_BY, why=why, version=version)
        except DspexError as error:
            self._note("failed", error.message, configuration=self._candidate)
            self._watch_anew()
            return
        self._note("promoted", why, configuration=self._candidate, version=change.version)
        self._current, self._before = self._registry.configuration, version
        # What the old values were worth is the level that the new ones have to hold.
        self._watch_anew(known=self._canary.others)
        self.state = "probation"

    def _probe(self, *, has_fallen: bool) -> None:
        self._probed += 1
        if has_fallen:
            self._roll_back()
        elif self._probed >= self._warm_up:
            self._note("kept", f"as good as before in {self._probed} ratings", configuration=self._current)
            self._watch_anew()

    def _roll_back(self) -> None:
        given_up = self._current
        why = f"quality fell below what it was at version {self._before}"
        try:
            self._registry.rewind(self._before, by=_BY, why=why)
        except DspexError as error:
            self._note("failed", error.message, configuration=given_up)
        else:
            self._note("rolled_back", why, configuration=given_up, version=self._registry.version)
        self._current = self._registry.configuration
        self._watch_anew()

    # ── the parts ───────────────────────────────────────────────────────────────────────────────

    def _watch_anew(self, known: Sequence[float] = ()) -> None:
        self._detector = FallDetector(fall=self._fall, warm_up=self._warm_up, known=known)
        self._calls = self._probed = 0
        self._sides.clear()
        self.state = "watching"

    def _compared(self) -> str:
        return f"{self._canary.difference:+.3f} beside the others in {self._canary.n} ratings"

    def _turn(self, kind: TurnKind, why: str, **facts: Any) -> Turn:
        return Turn(self._clock(), kind, why, self._detector.recent, self._detector.level, **facts)

    def _note(self, kind: TurnKind, why: str, **facts: Any) -> None:
        self._turns.keep(self._turn(kind, why, **facts))


def _check_numbers(*, min_gain: Any, shares: dict[str, Any], counts: dict[str, Any]) -> None:
    """Refuse what is out of range, all at once."""
    rules = [
        *((name, n, "be a whole number > 0", type(n) is int and n > 0) for name, n in counts.items()),
        *(
            (name, x, "lie between 0 and 1", type(x) in {int, float} and 0 < x < 1)
            for name, x in shares.items()
        ),
        (
            "min_gain",
            min_gain,
            "be a number >= 0",
            type(min_gain) in {int, float} and 0 <= min_gain < math.inf,
        ),
    ]
    failures = [f"{name} must {rule}, got {value!r}" for name, value, rule, holds in rules if not holds]
    if failures:
        raise DataError("\n".join(["this cannot be watched:", *(f"  - {each}" for each in failures)]))
