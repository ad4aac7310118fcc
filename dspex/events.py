"""What happened, as typed facts, and the bus that hands them on."""

from __future__ import annotations

import threading
import uuid
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dspex.redact import quiet_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dspex.records import (
        Configuration,
        Decision,
        Execution,
        Label,
        Score,
        Stint,
        Strategy,
        Trial,
        TrialPhase,
        Turn,
    )

_log = quiet_logger("dspex.events")

correlation_id: ContextVar[str | None] = ContextVar("dspex_correlation_id", default=None)
"""Names the piece of work that runs just now, such as a call; a task finds it set in its worker as in its caller."""


@contextmanager
def correlated() -> Iterator[str]:
    """Give a piece of work its `correlation_id`; within another one it keeps that one's."""
    if (name := correlation_id.get()) is not None:
        yield name
        return
    name = uuid.uuid4().hex
    token = correlation_id.set(name)
    try:
        yield name
    finally:
        correlation_id.reset(token)


@dataclass(frozen=True, slots=True)
class DecisionMade:
    """The orchestrator chose a strategy."""

    decision: Decision


@dataclass(frozen=True, slots=True)
class ExecutionFinished:
    """An attempt ended, well or not."""

    execution: Execution


@dataclass(frozen=True, slots=True)
class AttemptFailed:
    """A model was asked and failed; it may be asked again, or another one is."""

    model: str
    number: int
    """Of the attempts of one call, from 0."""
    error: str
    possibly_billed: bool


@dataclass(frozen=True, slots=True)
class HedgeBegun:
    """An attempt had not answered for a while, so another model is asked beside it."""

    execution_id: str
    """Of the slow attempt, which is the other one's `parent_id`."""
    slow: Strategy
    hedge: Strategy
    after_s: float


@dataclass(frozen=True, slots=True)
class BreakerTurned:
    """A circuit breaker opened, is being probed, or closed."""

    model: str
    before: str
    after: str
    reason: str
    open_s: float
    """How long nobody is admitted; 0 unless it opened."""


@dataclass(frozen=True, slots=True)
class LoadLevelChanged:
    """The machine has too much to do, or no longer: some kinds of work pause or go on."""

    before: str
    after: str
    reason: str


@dataclass(frozen=True, slots=True)
class LabelGiven:
    """Somebody judged an answer."""

    label: Label


@dataclass(frozen=True, slots=True)
class StudyStarted:
    """A study began; `planned_trials` counts its search trials."""

    study: str
    planned_trials: int


@dataclass(frozen=True, slots=True)
class TrialStarted:
    """A configuration is about to be evaluated; again, with the same number, when further examples are to come."""

    study: str
    number: int
    configuration: Configuration
    n_examples: int
    """Of this time, those included that need not be paid for."""
    phase: TrialPhase = "search"


@dataclass(frozen=True, slots=True)
class ExampleScored:
    """One example of a running trial was scored."""

    study: str
    number: int
    score: Score


@dataclass(frozen=True, slots=True)
class TrialFinished:
    """A trial was evaluated and is safe in the store; the newest of one number holds all that is known of it."""

    study: str
    trial: Trial


@dataclass(frozen=True, slots=True)
class StintStarted:
    """One of several optimizers begins its turn."""

    study: str
    optimizer: str
    round: int


@dataclass(frozen=True, slots=True)
class StintFinished:
    """One of several optimizers has ended its turn; its gain is known."""

    study: str
    stint: Stint


@dataclass(frozen=True, slots=True)
class StudyPaused:
    """A study waits for a model that is not to be asked at the moment; `reason` says why."""

    study: str
    model: str
    reason: str


@dataclass(frozen=True, slots=True)
class StudyWentOn:
    """The model that a study waited for answers again."""

    study: str
    model: str
    waited_s: float
    """Since it failed first."""


@dataclass(frozen=True, slots=True)
class StudyFinished:
    """A study ended. `reason` says why; `error` is set when it failed."""

    study: str
    reason: str
    error: str | None = None


@dataclass(frozen=True, slots=True)
class StudyAwaited:
    """Somebody waited for a study and it has ended; published on the thread that waited."""

    study: str


@dataclass(frozen=True, slots=True)
class WorkerStarted:
    """A worker of a pool is there and can work."""

    pool: str
    worker: str
    pid: int


@dataclass(frozen=True, slots=True)
class WorkerDied:
    """A worker of a pool is gone. `kind` says how; `expected` whether the pool wanted it to go."""

    pool: str
    worker: str
    pid: int
    kind: str
    exit_code: int | None
    expected: bool


@dataclass(frozen=True, slots=True)
class WorkerRecycled:
    """A worker was replaced in time: `reason` is ``age``, ``tasks``, ``memory`` or ``idle``."""

    pool: str
    worker: str
    reason: str


@dataclass(frozen=True, slots=True)
class TaskRetried:
    """A task lost its worker and is given to another one."""

    pool: str
    task: int
    kind: str
    correlation_id: str | None = None


@dataclass(frozen=True, slots=True)
class TaskStopped:
    """A running task was told to stop: `reason` is ``timeout``, ``deadline`` or ``cancelled``."""

    pool: str
    task: int
    reason: str
    correlation_id: str | None = None


@dataclass(frozen=True, slots=True)
class TaskFinished:
    """A task of a pool is over: `how` is ``done``, ``failed``, ``cancelled`` and so on, as `PoolStats` counts them."""

    pool: str
    task: int
    how: str
    seconds: float | None
    """How long it ran in its worker; None if it did not get so far."""
    correlation_id: str | None = None


@dataclass(frozen=True, slots=True)
class PoolOverloaded:
    """A pool's queue was full; `policy` says what became of the task that was one too many."""

    pool: str
    queued: int
    policy: str


@dataclass(frozen=True, slots=True)
class PoolDegraded:
    """A pool works worse than it was meant to, and `reason` says why."""

    pool: str
    reason: str


@dataclass(frozen=True, slots=True)
class PoolBreakerTurned:
    """A pool's circuit breaker opened, lets one task find out whether the pool is well again, or closed."""

    pool: str
    before: str
    after: str
    reason: str
    open_s: float
    """How long the pool takes no tasks; 0 unless it opened."""


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """A session's state is gone: `reason` is ``lost``, ``expired`` or ``closed``."""

    pool: str
    session: str
    reason: str


@dataclass(frozen=True, slots=True)
class TurnTaken:
    """A continuous optimizer took a step."""

    watch: str
    turn: Turn


Event = (
    DecisionMade
    | ExecutionFinished
    | AttemptFailed
    | HedgeBegun
    | BreakerTurned
    | LoadLevelChanged
    | LabelGiven
    | StudyStarted
    | TrialStarted
    | ExampleScored
    | TrialFinished
    | StintStarted
    | StintFinished
    | StudyPaused
    | StudyWentOn
    | StudyFinished
    | StudyAwaited
    | WorkerStarted
    | WorkerDied
    | WorkerRecycled
    | TaskRetried
    | TaskStopped
    | TaskFinished
    | PoolOverloaded
    | PoolDegraded
    | PoolBreakerTurned
    | SessionEnded
    | TurnTaken
)


class EventBus:
    """Hands each event to every subscriber, in order, on the publisher's thread.

    A subscriber that raises is logged and stops nobody.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._subscribers: tuple[Callable[[Event], None], ...] = ()

    def subscribe(self, subscriber: Callable[[Event], None]) -> Callable[[], None]:
        """Call `subscriber` with every event from now on; returns the function that stops it."""

        def subscription(event: Event) -> None:  # one of its own, so that only it is taken back
            subscriber(event)

        with self._lock:
            self._subscribers = (*self._subscribers, subscription)

        def unsubscribe() -> None:
            with self._lock:
                self._subscribers = tuple(each for each in self._subscribers if each is not subscription)

        return unsubscribe

    def publish(self, event: Event) -> None:
        """Hand an event on; never raises."""
        for subscriber in self._subscribers + everywhere._subscribers:
            try:
                subscriber(event)
            except Exception:  # noqa: BLE001  # a subscriber may be anybody's; it must not stop the others
                _log.exception("a subscriber to dspex events failed on %s", type(event).__name__)


everywhere = EventBus()
"""Whoever subscribes here hears what any bus of this process hands on."""
