"""Telemetry: what happens, as lines of Python's `logging`, for whole calls at a time."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import textwrap
import threading
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Literal, get_args

from dspex import events
from dspex.errors import DefinitionError, UnknownNameError
from dspex.redact import quiet_logger

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from dspex.events import Event

Level = Literal["debug", "info", "warning"]
LOGGER = "dspex.telemetry"
_WIDEST = 300
"""Characters of a line."""
_NUMBERS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING}

_OF_CALLS_AND_STUDIES = (
    events.ExecutionFinished,
    events.HedgeBegun,
    events.LabelGiven,
    events.StudyStarted,
    events.TrialFinished,
    events.StintStarted,
    events.StintFinished,
    events.StudyWentOn,
    events.StudyFinished,
    events.SessionEnded,
    events.TurnTaken,
)
_OF_TROUBLE = (
    events.AttemptFailed,
    events.BreakerTurned,
    events.LoadLevelChanged,
    events.StudyPaused,
    events.WorkerDied,
    events.TaskRetried,
    events.TaskStopped,
    events.PoolOverloaded,
    events.PoolDegraded,
    events.PoolBreakerTurned,
)
_LEVELS: dict[type, int] = {
    **dict.fromkeys(get_args(events.Event), logging.DEBUG),
    **dict.fromkeys(_OF_CALLS_AND_STUDIES, logging.INFO),
    **dict.fromkeys(_OF_TROUBLE, logging.WARNING),
}

_open: list[EventLog] = []
"""The log that is open: one, or every line would be written twice."""
_lock = threading.Lock()


class EventLog:
    """Writes the events of all sessions, studies and pools of this process to the logger ``dspex.telemetry``.

    Each line ends in the `correlation_id` of its call. Where nobody has set logging up, lines go to stderr.

    Attributes
    ----------
    level
        What is left out is less than this. Another one holds from the next event on.
    sample
        The share of calls that are written, in (0, 1]. All events of a call are written, or none, in every process
        the same; trouble, and what belongs to no call, always is.
    """

    def __init__(self, level: Level = "info", sample: float = 1.0) -> None:
        self._log = quiet_logger(LOGGER)
        self._counts: defaultdict[str, float] = defaultdict(float)
        self._lock = threading.Lock()
        self._handler: logging.Handler | None = None
        self._unsubscribe: Callable[[], None] = _nothing
        self.level = level
        self.sample = sample

    def open(self) -> Self:
        """Write from now on; a log that is open goes on."""
        self.close()
        if not self._log.hasHandlers():
            self._handler = logging.StreamHandler()
            self._handler.setFormatter(
                logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")
            )
            self._log.addHandler(self._handler)
        self._log.setLevel(
            logging.DEBUG
        )  # what is left out is left out here, whatever the root logger's level
        self._unsubscribe = events.everywhere.subscribe(self._hear)
        return self

    def __repr__(self) -> str:
        share = "" if self.sample == 1 else f", {self.sample:.3g} of the calls"
        heard = (
            ", ".join(f"{count:,.0f} {kind}" for kind, count in sorted(self.counts.items())) or "nothing yet"
        )
        return f"<EventLog at {self.level}{share}: {heard}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def level(self) -> Level:
        """What is written at least."""
        return self._level

    @level.setter
    def level(self, level: Level) -> None:
        if level not in _NUMBERS:
            raise UnknownNameError.among("level", level, _NUMBERS)
        self._level, self._number = level, _NUMBERS[level]

    @property
    def sample(self) -> float:
        """Which share of the calls is written."""
        return self._sample

    @sample.setter
    def sample(self, sample: float) -> None:
        if isinstance(sample, bool) or not isinstance(sample, int | float) or not 0 < sample <= 1:
            raise DefinitionError(
                f"a log's sample is a share of calls in (0, 1], got {sample!r}",
                hint="0.01 writes one call in a hundred",
            )
        self._sample = sample

    @property
    def counts(self) -> dict[str, float]:
        """How many events of each kind there were at this level: each written call stands for ``1 / sample`` of them."""
        with self._lock:
            return dict(self._counts)

    def close(self) -> None:
        """Write no more."""
        self._unsubscribe()
        self._unsubscribe = _nothing
        if self._handler is not None:
            self._log.removeHandler(self._handler)
            self._handler = None

    def _hear(self, event: Event) -> None:
        level = _level_of(event)
        if level < self._number:
            return
        name = getattr(event, "correlation_id", None) or events.correlation_id.get()
        sample = 1.0 if name is None or level >= logging.WARNING else self._sample
        if sample < 1 and _place(name or "") >= sample:
            return
        kind = type(event).__name__
        with self._lock:
            self._counts[kind] += 1 / sample
        self._log.log(level, "%s%s", line(event), "" if name is None else f" [{name}]")


def log_events(level: Level = "info", *, sample: float = 1.0) -> EventLog:
    """Write what happens to Python's logger ``dspex.telemetry``; a log that was open is closed.

    Parameters
    ----------
    level
        ``warning`` is trouble alone: failed attempts, breakers, lost workers. ``info`` adds each execution, trial
        and study, ``debug`` each decision, scored example and task of a pool.
    sample
        The share of calls that are written, in (0, 1].

    Returns
    -------
    EventLog
        To change `level` and `sample` while it runs, to look at `counts`, and to `close`.

    Raises
    ------
    UnknownNameError, DefinitionError
        If there is no such level, or a sample is no share.

    Examples
    --------
    >>> with log_events("warning", sample=0.1) as log:
    ...     log
    <EventLog at warning, 0.1 of the calls: nothing yet>
    """
    with _lock:
        log = EventLog(level, sample)
        while _open:
            _open.pop().close()
        _open.append(log.open())
        return log


def _nothing() -> None:
    """End a log that is not open."""


def _level_of(event: Event) -> int:
    if isinstance(event, events.WorkerDied) and event.expected:
        return logging.DEBUG
    return _LEVELS[type(event)]


# ── lines ───────────────────────────────────────────────────────────────────────────────────────


def line(event: Event) -> str:
    """Tell an event in a line."""
    told = _TOLD.get(type(event), _fields)(event)
    return textwrap.shorten(f"{type(event).__name__} {told}", _WIDEST, placeholder=" …")


def _fields(event: Any) -> str:
    named = ((each.name, getattr(event, each.name)) for each in dataclasses.fields(event))
    return ", ".join(
        f"{name}={value}" for name, value in named if name != "correlation_id" and value is not None
    )


def _decision(event: events.DecisionMade) -> str:
    return f"{event.decision.strategy} ({event.decision.role}): {event.decision.reason}"


def _execution(event: events.ExecutionFinished) -> str:
    done = event.execution
    how = "ok" if done.ok else f"failed: {done.error}"
    return f"{done.strategy} ({done.role}) {done.usage.latency_s:.3f} s, ${done.usage.cost_usd:.6f}, {how}"


def _label(event: events.LabelGiven) -> str:
    return f"{event.label.execution_id}: {event.label.quality:g}"


def _example(event: events.ExampleScored) -> str:
    failed = "" if event.score.error is None else f", failed: {event.score.error}"
    return f"{event.study}, trial {event.number}: {event.score.score:g}{failed}"


def _trial(event: events.TrialFinished) -> str:
    trial = event.trial
    of = f"{trial.n_examples} examples" + (f", {trial.n_failed} failed" if trial.n_failed else "")
    return f"{event.study}, trial {trial.number} ({trial.phase}): {trial.score:.3f} on {of}, ${trial.usage.cost_usd:.6f}"


def _stint(event: events.StintFinished) -> str:
    stint = event.stint
    return f"{event.study}, round {stint.round} of {stint.optimizer}: {stint.before:.3f} → {stint.after:.3f}, {stint.reason}"


def _turn(event: events.TurnTaken) -> str:
    return f"{event.watch}: {event.turn.kind}, {event.turn.why}"


_TOLD: dict[type, Callable[[Any], str]] = {
    events.DecisionMade: _decision,
    events.ExecutionFinished: _execution,
    events.LabelGiven: _label,
    events.ExampleScored: _example,
    events.TrialFinished: _trial,
    events.StintFinished: _stint,
    events.TurnTaken: _turn,
}


def _place(name: str) -> float:
    """Put a name where it always is, evenly in [0, 1)."""
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64
