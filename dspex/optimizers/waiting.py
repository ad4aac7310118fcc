"""Waiting for models that do not answer: for whom a study waits, how long, and when it gives up."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dspex.errors import (
    AuthenticationError,
    BillingError,
    CancelledError,
    CircuitOpenError,
    ModelNotFoundError,
    ProviderError,
    RateLimitedError,
    UnavailableError,
    UnreadableAnswerError,
)
from dspex.events import Event, StudyPaused, StudyWentOn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from dspex.reliability import Guards

_TRIES = 10
"""An example on which a model has failed so often, while it answered others, is a failure of its own."""
_FINAL = (AuthenticationError, BillingError, ModelNotFoundError)
"""What nobody but the user can mend."""


@dataclass
class _Trouble:
    """A model that has answered nothing since."""

    since: float
    last: str
    """What it did last, in words."""
    pause: str | None = None
    """Why it is not asked at the moment, if that was announced."""


class Waiting:
    """What a study does about models whose providers fail.

    A run that its provider failed, and that may go well another time, is measured again: after a random
    while that doubles, at the slowest pace once the retry budget is spent, and not while the guard refuses.

    Parameters
    ----------
    guards
        The session's; what `dspex.execute` learns of a model holds here, and the other way round.
    study
        Its name.
    models
        All that it may ask: when none of them takes a request any more, it ends.
    seconds
        When it ends, whether they answer or not; None for as long as there is patience.
    publish
        Where is announced that it waits, and that it goes on.
    """

    def __init__(
        self,
        guards: Guards,
        study: str,
        models: Iterable[str],
        *,
        seconds: float | None = None,
        publish: Callable[[Event], None],
    ) -> None:
        self.guards = guards
        self.out_of_time: str | None = None
        """Why the study ended, if that was while it waited."""
        self._study, self._models = study, frozenset(models)
        self._seconds = seconds
        self._publish = publish
        self._patience_s = guards.settings.patience_s
        self._lock = threading.Lock()
        self._troubles: dict[str, _Trouble] = {}
        self._answered: dict[str, float] = {}
        self._refused: set[str] = set()
        self._waited: dict[str, float] = {}
        self._began = time.monotonic()

    def begin(self) -> None:
        """Note that the study begins: its seconds count from here."""
        self._began = time.monotonic()

    # ── what is known ───────────────────────────────────────────────────────────────────────────

    @property
    def now(self) -> str | None:
        """For whom the study waits at the moment, and why; None if for nobody."""
        troubles = [(name, each.pause) for name, each in list(self._troubles.items()) if each.pause]
        return "; ".join(f"waits for {name}: {pause}" for name, pause in troubles) or None

    @property
    def notices(self) -> list[str]:
        """For whom it has waited, and how long, in sentences."""
        return [f"waited {seconds:.1f} s for {name}" for name, seconds in list(self._waited.items())]

    def answered(self, models: Iterable[str]) -> None:
        """Note that these models are well."""
        now = self.guards.clock()
        for name in models:
            self._answered[name] = now
            if name in self._troubles:
                self._recovered(name, now)

    def _recovered(self, model: str, now: float) -> None:
        with self._lock:
            trouble = self._troubles.pop(model, None)
            if trouble is None or trouble.pause is None:
                return
            self._waited[model] = self._waited.get(model, 0.0) + now - trouble.since
        self._publish(StudyWentOn(self._study, model, now - trouble.since))

    # ── after a failure ─────────────────────────────────────────────────────────────────────────

    def delay_s(self, failure: ProviderError, *, tries: int, since: float) -> float | None:
        """Say in how many seconds a run is to be measured again, or None if its score stands.

        Parameters
        ----------
        tries
            How often it was asked so far.
        since
            When that was for the first time.

        Raises
        ------
        ProviderError
            If the provider takes no request, now or ever, and the study has no other model.
        """
        name = failure.provider or ""
        if isinstance(failure, _FINAL):
            self._refuse(name, failure)
        if not failure.retryable or isinstance(failure, UnreadableAnswerError):
            return None
        is_refused = self._note(name, failure)
        is_limited = isinstance(failure, RateLimitedError)
        if tries >= _TRIES and not is_limited and self._answered.get(name, -math.inf) > since:
            return None
        if is_refused and not is_limited:
            return 0.0  # its breaker says when
        policy = self.guards.of(name).retry
        delay = policy.backoff.delay_s(tries - 1, rng=policy.rng, retry_after_s=failure.retry_after_s)
        return delay if policy.budget.allows_retry else max(delay, policy.backoff.longest_s)

    def _refuse(self, model: str, failure: ProviderError) -> None:
        self._refused.add(model)
        if self._models <= self._refused:
            raise type(failure)(
                failure.message,
                provider=model,
                hint=f"{failure.hint or 'mend that'}; then resume=True goes on with {self._study!r}",
            ) from failure

    def _note(self, model: str, failure: ProviderError) -> bool:
        """Note that a model is in trouble, announce it once nobody may ask it, and say whether that is so."""
        refusal = self.guards.of(model).refusal()
        with self._lock:
            trouble = self._troubles.setdefault(model, _Trouble(self.guards.clock(), failure.message))
            if not isinstance(failure, CircuitOpenError):
                trouble.last = failure.message
            is_new = refusal is not None and trouble.pause is None
            trouble.pause = refusal or trouble.pause
        if is_new and refusal is not None:
            self._publish(StudyPaused(self._study, model, refusal))
        return refusal is not None

    # ── while it waits ──────────────────────────────────────────────────────────────────────────

    def may_ask(self, model: str) -> bool:
        """Whether a model's guard would let a call through."""
        return self.guards.of(model).refusal() is None

    def check(self, held: Iterable[tuple[str, float]]) -> None:
        """End the study if it has waited long enough.

        Parameters
        ----------
        held
            For each run that is to be measured again, the model that failed it and since when.

        Raises
        ------
        UnavailableError
            If a model has answered nothing for too long, or wants to be left alone for longer.
        CancelledError
            If the study's time is over; `out_of_time` says so.
        """
        since: dict[str, float] = {}
        for name, at in held:
            since[name] = min(at, since.get(name, at))
        if since and self._seconds is not None and time.monotonic() - self._began >= self._seconds:
            waited_for = self.now or f"waits for {', '.join(sorted(since))}"
            self.out_of_time = f"{self._seconds:g} s are over; it {waited_for}"
            raise CancelledError(self.out_of_time)
        for name, at in since.items():
            self.check_patience(name, at)

    def check_patience(self, model: str, since: float) -> None:
        """Raise if a model has answered nothing for too long, as `check` does."""
        waited_s = self.guards.clock() - max(since, self._answered.get(model, -math.inf))
        ahead_s = self.guards.of(model).retry_after_s
        if waited_s + ahead_s <= self._patience_s:
            return
        trouble = self._troubles.get(model)
        more = f" and is not to be asked for another {ahead_s:.0f} s" if ahead_s else ""
        last = f"; the last it did: {trouble.last}" if trouble is not None else ""
        raise UnavailableError(
            f"{model} has answered nothing for {waited_s:.0f} s{more}, and a study waits for "
            f"{self._patience_s:g} s{last}",
            provider=model,
            hint=f"nothing is lost: dspex.optimize(..., name={self._study!r}, resume=True) goes on once it is "
            "well; Reliability(patience_s=...) waits longer",
        )
