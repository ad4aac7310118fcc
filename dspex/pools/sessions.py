"""Sessions: state that is kept in a worker, and calls that find their way to it."""

from __future__ import annotations

import itertools
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from dspex.errors import DefinitionError, PoolSaturatedError, SessionLostError, UnknownNameError
from dspex.pools.shipping import pack

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Future

    from dspex.pools.pool import Pool

Affinity = Literal["hint", "strict_queue", "strict_fail_fast"]
OnLoss = Literal["rebuild", "fail"]
AFFINITIES = ("hint", "strict_queue", "strict_fail_fast")
_REMEMBERED = 64
_numbers = itertools.count(1)


class SessionStats(NamedTuple):
    """How a session is doing."""

    name: str
    worker: str | None
    calls: int
    errors: int
    lost: int
    """How often its worker died with its state."""
    idle_s: float
    mean_s: float
    trend: float
    """Mean duration of its last calls over that of the ones before; above 1 it gets slower."""


class Session:
    """State in a worker, and the calls that use it.

    Made by `Pool.session`. With a factory, every call gets the state as its first argument; without one, calls
    only meet in the same worker.
    """

    def __init__(
        self,
        pool: Pool,
        name: str,
        factory: Callable[[], Any] | None = None,
        *,
        affinity: Affinity | None = None,
        on_loss: OnLoss | None = None,
        rehydrate: Callable[[], Any] | None = None,
        defaults: Mapping[str, Any] | None = None,
        ttl_s: float,
    ) -> None:
        if affinity is not None and affinity not in AFFINITIES:
            raise UnknownNameError.among("affinity", affinity, AFFINITIES)
        if on_loss not in {None, "rebuild", "fail"}:
            raise UnknownNameError.among("on_loss", on_loss, ("rebuild", "fail"))
        if ttl_s <= 0:
            raise DefinitionError(f"ttl_s must be > 0, got {ttl_s}")
        self.name = name
        self.key = f"{name}#{next(_numbers)}"
        """What workers call it: a session of the same name that follows is another one."""
        self.affinity: Affinity = affinity or ("hint" if factory is None else "strict_queue")
        self.on_loss: OnLoss = on_loss or (
            "fail" if factory is None and self.affinity != "hint" else "rebuild"
        )
        self.ttl_s = ttl_s
        self.defaults = dict(defaults or {})
        """What its owner wants unless told otherwise; ``dx.execute(..., session=...)`` reads it."""
        self.slot: Any = None
        """Which worker has its state: a slot or a seat, as its engine has them."""
        self.calls = self.errors = self.lost = self.pending = 0
        self.is_lost = False
        self.used_at = time.monotonic()
        self._pool = pool
        self._factory = None if factory is None else pack("the factory", factory)
        self._rehydrate = self._factory if rehydrate is None else pack("rehydrate", rehydrate)
        self._seconds: deque[float] = deque(maxlen=_REMEMBERED)

    def __repr__(self) -> str:
        where = "nowhere yet" if self.slot is None else f"in {self.slot.name}"
        return f"<Session {self.name!r}: {where}, {self.calls} calls, {self.affinity}>"

    # ── used by its owner ───────────────────────────────────────────────────────────────────────

    def submit(self, function: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
        """Call a function with this session's state; as `Pool.submit`."""
        return self._pool.submit(function, *args, session=self.name, **options)

    def call(self, function: Callable[..., Any], /, *args: Any, **options: Any) -> Any:
        """Call a function with this session's state, and wait."""
        return self.submit(function, *args, **options).result()

    def touch(self) -> None:
        """Note that it is used, so that it does not expire."""
        self.used_at = time.monotonic()

    def renew(self) -> None:
        """Begin anew after the state was lost."""
        self.is_lost = False

    def close(self) -> None:
        """Forget the session and its state."""
        self._pool.close_session(self.name)

    @property
    def stats(self) -> SessionStats:
        """How it is doing."""
        return SessionStats(
            self.name,
            None if self.slot is None else self.slot.name,
            self.calls,
            self.errors,
            self.lost,
            time.monotonic() - self.used_at,
            sum(self._seconds) / len(self._seconds) if self._seconds else 0.0,
            self._trend(),
        )

    @property
    def history_s(self) -> tuple[float, ...]:
        """How long its last calls took, oldest first."""
        return tuple(self._seconds)

    def _trend(self) -> float:
        seconds = list(self._seconds)
        half = len(seconds) // 2
        before, after = sum(seconds[:half]), sum(seconds[-half:]) if half else 0.0
        return after / before if before else 1.0

    # ── used by its engine ──────────────────────────────────────────────────────────────────────

    @property
    def home(self) -> Any:
        """The worker that its calls must wait for."""
        return None if self.affinity == "hint" else self.slot

    @property
    def has_factory(self) -> bool:
        """Whether its calls get a state."""
        return self._factory is not None

    def shipped_factory(self, *, again: bool) -> bytes | None:
        """Return what makes the state in a worker that has not got it."""
        return self._rehydrate if again else self._factory

    def began(self, slot: Any) -> None:
        """Note which worker has the state."""
        if self.slot is None or self.affinity == "hint":
            self.slot = slot

    def ended(self, seconds: float | None, *, failed: bool) -> None:
        """Note how a call went."""
        self.calls += 1
        self.errors += failed
        self.used_at = time.monotonic()
        if seconds is not None:
            self._seconds.append(seconds)

    def lose(self) -> None:
        """Note that the worker is gone."""
        self.slot = None
        self.lost += 1
        self.is_lost = self.on_loss == "fail"

    def lost_error(self) -> SessionLostError:
        """Say that the state is gone."""
        return SessionLostError(
            f"the worker of session {self.name!r} is gone, and the session's state with it",
            hint="session.renew() begins anew; a session with a factory rebuilds its state by itself",
        )


class Sessions:
    """The sessions of a pool, by name."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._sessions: dict[str, Session] = {}

    def __iter__(self) -> Any:
        return iter(list(self._sessions.values()))

    def __len__(self) -> int:
        return len(self._sessions)

    def get(self, name: str) -> Session | None:
        """Return a session, or None."""
        return self._sessions.get(name)

    def add(self, session: Session) -> Session:
        """Keep a session.

        Raises
        ------
        PoolSaturatedError
            If there are too many.
        """
        if len(self._sessions) >= self._limit:
            raise PoolSaturatedError(
                f"this pool keeps {self._limit} sessions and no more",
                hint="close() sessions that are done with, or raise max_sessions",
            )
        return self._sessions.setdefault(session.name, session)

    def drop(self, name: str) -> Session | None:
        """Forget a session."""
        return self._sessions.pop(name, None)

    def expired(self, now: float) -> list[Session]:
        """Find the sessions that nobody has used for too long."""
        return [each for each in self if not each.pending and now - each.used_at > each.ttl_s]

    def of(self, slot: Any) -> list[Session]:
        """Find the sessions whose state one worker has."""
        return [each for each in self if each.slot is slot]
