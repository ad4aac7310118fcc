"""The guards of a session: one for each model, made when it is first asked for."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dspex.errors import DefinitionError
from dspex.reliability.breaker import BreakerSettings
from dspex.reliability.degrade import DEGRADED_AT, STRAINED_AT, Load, own_load
from dspex.reliability.guard import Guard
from dspex.reliability.hedging import HedgeAfter, checked
from dspex.reliability.limits import BackoffWindow
from dspex.reliability.retry import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspex.reliability.breaker import Transition
    from dspex.reliability.guard import Attempt

_SHORTEST_ATTEMPT_S = 60.0


@dataclass(frozen=True, slots=True)
class Reliability:
    """How a session deals with models that fail, are slow, or have enough to do.

    Examples
    --------
    >>> import dspex
    >>> runtime = dspex.configure(
    ...     ["sandbox/small", "sandbox/large"], store="memory", reliability=dspex.Reliability(timeout_s=20)
    ... )

    Raises
    ------
    DefinitionError
        If an option is out of range.
    """

    timeout_s: float | None = None
    """How long a call has, all attempts together; None for as long as it takes. `execute` may say otherwise."""
    attempts: int = 3
    """How often a model is asked while no other one is left. With others left it is asked once."""
    shortest_attempt_s: float = _SHORTEST_ATTEMPT_S
    """What one attempt gets at least, if its share of the time allows; at most it gets thrice what is predicted."""
    slots: int = 32
    """How many calls a model is given at once; a 429 halves that for a while."""
    breaker: BreakerSettings = field(default_factory=BreakerSettings)
    hedge_after_s: HedgeAfter | None = None
    """When a call has not been answered after so many seconds, another model is asked beside the first one, and the
    first good answer counts; ``p95``: when it takes longer than 95 % of such calls are predicted to. None: never.
    At most one call in ten is hedged, and the attempt that is not waited for is paid for all the same. It takes a
    second model that is well and has room, and a signature run by modules that call no tools; streams, pinned
    strategies and models that run in this process are not hedged."""
    load: Callable[[int], Load] = own_load
    """Measures the machine, given how many calls wait. The default leaves the processors out, since models are
    waited for and a search may well use them; `machine_load` counts them too."""
    strained_at: Load = STRAINED_AT
    """From here on optimization pauses."""
    degraded_at: Load = DEGRADED_AT
    """From here on complex reasoning pauses too."""
    calm_s: float = 10.0
    """How long the load must be well below before that ends."""
    patience_s: float = 600.0
    """How long a study waits for a model that answers nothing, before it ends and can be resumed."""

    def __post_init__(self) -> None:
        if self.timeout_s is not None and not self.timeout_s > 0:
            raise DefinitionError(f"timeout_s must be above 0, got {self.timeout_s}")
        if self.attempts < 1 or self.slots < 1:
            raise DefinitionError(
                f"attempts and slots must be at least 1, got attempts={self.attempts}, slots={self.slots}"
            )
        for name in ("shortest_attempt_s", "patience_s"):
            if not getattr(self, name) > 0:
                raise DefinitionError(f"{name} must be above 0, got {getattr(self, name)}")
        checked(self.hedge_after_s)


class Guards:
    """Finds the guard of a model.

    Parameters
    ----------
    on_turn
        Called with each change of a breaker's state.
    on_attempt
        Called with each attempt.
    clock, sleep
        Seconds that never go backwards, and how they are spent.

    Examples
    --------
    >>> guards = Guards(Reliability())
    >>> guards.of("openai/gpt-4o-mini") is guards.of("openai/gpt-4o-mini")
    True
    """

    def __init__(
        self,
        settings: Reliability,
        *,
        on_turn: Callable[[Transition], None] | None = None,
        on_attempt: Callable[[Attempt], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.sleep = sleep
        self._on_turn, self._on_attempt = on_turn, on_attempt
        self._guards: dict[str, Guard] = {}
        self._windows: dict[str, BackoffWindow] = {}

    def of(self, model: str, *, key: str | None = None, is_local: bool = False) -> Guard:
        """Return the guard of a model.

        Parameters
        ----------
        key
            What tells the provider who calls; those with the same one share its back-off window.
        is_local
            Whether it runs in this process and says the same when it is asked again at once.
        """
        found = self._guards.get(model)
        return found or self._guards.setdefault(model, self._made(model, key or model, is_local=is_local))

    def find(self, model: str) -> Guard | None:
        """Return the guard of a model, if it was asked before."""
        return self._guards.get(model)

    @property
    def waiting(self) -> int:
        """How many calls wait for a slot, of any model."""
        return sum(each.slots.waiting for each in tuple(self._guards.values()))

    def _made(self, model: str, key: str, *, is_local: bool) -> Guard:
        settings = self.settings
        guard = Guard.of(
            model,
            slots=settings.slots,
            retry=RetryPolicy(attempts=1 if is_local else settings.attempts),
            breaker=settings.breaker,
            window=self._windows.setdefault(key, BackoffWindow(key, clock=self.clock)),
            clock=self.clock,
        )
        guard.shortest_s, guard.sleep = settings.shortest_attempt_s, self.sleep
        guard.listen, guard.breaker.listen = self._on_attempt, self._on_turn
        return guard
