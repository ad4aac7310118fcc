"""Leases: who may write which variables, so that several optimizers share one space."""

from __future__ import annotations

import threading
import weakref
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from dspex.errors import CancelledError, DefinitionError, LeaseError, UnknownNameError
from dspex.redact import quiet_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType
    from typing import Self

    from dspex.records import Change, Configuration, Scalar

_log = quiet_logger("dspex.variables")

OnConflict = Literal["wait", "abort", "preempt"]
"""What to do when somebody else has a variable: queue, give up, or take it away."""

LeaseStatus = Literal["queued", "held", "released", "preempted", "expired", "abandoned"]

SWEEP_S = 0.1
"""How often those who wait look whether an owner is gone."""


class Lease:
    """The right to write some variables, alone. Made by ``registry.lease``; a context manager that waits for it.

    Attributes
    ----------
    names
        The variables.
    owner
        Who asked, as a name.
    since
        When it was granted, in seconds since the Unix epoch; None while it is queued.
    lost_to
        Who took it away, if it was preempted.
    """

    def __init__(
        self,
        leases: Leases,
        names: frozenset[str],
        owner: Any,
        *,
        write: Callable[..., Change],
        timeout_s: float | None = None,
        ttl_s: float | None = None,
        on_preempted: Callable[[Lease], object] | None = None,
    ) -> None:
        self.names = names
        self.owner = owner if isinstance(owner, str) else _name_of(owner)
        self.since: float | None = None
        self.lost_to: str | None = None
        self._leases = leases
        self._write = write
        self._timeout_s, self._ttl_s = timeout_s, ttl_s
        self._on_preempted = on_preempted
        # A text says nothing about life: it is the thread that asked which must live.
        anchor = threading.current_thread() if isinstance(owner, str) else owner
        self._owner_lives = _life_of(anchor)
        self._who = (self.owner, id(anchor))
        self._status: LeaseStatus = "queued"
        self._renewed_at = 0.0

    def __repr__(self) -> str:
        # Without the lock: who holds it may want to name a lease.
        return f"<Lease of {', '.join(sorted(self.names))} by {self.owner}: {self._status}>"

    @property
    def status(self) -> LeaseStatus:
        """Where it stands; it is held from the moment it says so."""
        with self._leases.changed:
            self._leases.sweep()
            return self._status

    def wait(self, timeout_s: float | None = None, *, stop: Callable[[], bool] | None = None) -> Lease:
        """Wait until it is held; when that does not come about it leaves the queue.

        Raises
        ------
        LeaseError
            If `timeout_s` pass, or it is lost meanwhile.
        CancelledError
            If `stop`, asked all the time, says yes.
        """
        self._leases.wait_for(self, self._timeout_s if timeout_s is None else timeout_s, stop)
        return self

    def set(self, values: Configuration, *, why: str = "") -> Change:
        """Write variables as the owner, all or none; it counts as a heartbeat.

        Raises
        ------
        LeaseError
            If the lease is no longer held, or another one holds a variable.
        VariableError
            If values do not fit.
        """
        return self._write(values, by=self.owner, why=why, lease=self)

    def __setitem__(self, name: str, value: Scalar) -> None:
        self.set({name: value})

    def heartbeat(self) -> None:
        """Say that the owner still works on it, so that its `ttl_s` begin anew.

        Raises
        ------
        LeaseError
            If it is no longer held.
        """
        with self._leases.changed:
            self._leases.renew(self)

    def release(self) -> None:
        """Give it back, or leave the queue. Releasing twice is fine."""
        with self._leases.changed:
            self._leases.drop(self, "released")

    def __enter__(self) -> Self:
        self.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.release()

    # ── for the table, under its lock ───────────────────────────────────────────────────────────

    @property
    def shown(self) -> str:
        """The owner, and since when."""
        if self.since is None:
            return self.owner
        since = datetime.fromtimestamp(self.since, UTC)
        return f"{self.owner} since {since:%Y-%m-%d %H:%M:%S} UTC"

    def grant(self, now: float) -> None:
        """Make it held."""
        self._status, self.since, self._renewed_at = "held", now, now

    def renew(self, now: float) -> None:
        """Begin its time anew."""
        self._renewed_at = now

    def end(self, status: LeaseStatus) -> None:
        """Make it invalid."""
        self._status = status

    def why_over(self, now: float) -> LeaseStatus | None:
        """Say why it must end, if it must."""
        if not self._owner_lives():
            return "abandoned"
        held_too_long = self._ttl_s is not None and now - self._renewed_at >= self._ttl_s
        return "expired" if self.is_held and held_too_long else None

    @property
    def is_held(self) -> bool:
        """Whether it is held, as far as was last looked."""
        return self._status == "held"

    @property
    def is_queued(self) -> bool:
        """Whether it waits, as far as was last looked."""
        return self._status == "queued"

    @property
    def who(self) -> tuple[str, int]:
        """What tells owners apart."""
        return self._who

    @property
    def problem(self) -> str | None:
        """Say why it gives no right to write, or None."""
        if self.is_held:
            return None
        what = f"{self.owner}'s lease of {', '.join(sorted(self.names))}"
        if self._status == "preempted":
            return f"{what} was preempted by {self.lost_to}"
        return f"{what} is {self._status}"

    def tell(self) -> None:
        """Tell the owner that it was taken away."""
        if self._on_preempted is None:
            return
        try:
            self._on_preempted(self)
        except Exception:  # noqa: BLE001  # the loser's failure must not cost the winner its lease
            _log.exception("%s could not be told that its lease was preempted", self.owner)


class Leases:
    """Every lease of one registry, held or queued, in the order they were asked for.

    A lease is granted whole or not at all, and never before an older one that wants one of its variables:
    so nobody holds a part while waiting for the rest, and nobody is overtaken. Who would wait for himself,
    over however many others, is refused at once.

    Parameters
    ----------
    lock
        The registry's: a write and a grant must never happen at once.
    clock
        Seconds since the Unix epoch.
    """

    def __init__(self, lock: threading.Lock, clock: Callable[[], float]) -> None:
        self.changed = threading.Condition(lock)
        self._clock = clock
        self._all: list[Lease] = []

    def ask(self, lease: Lease, on_conflict: OnConflict) -> Lease:
        """Enter a lease, and grant it if it can be."""
        if on_conflict not in {"wait", "abort", "preempt"}:
            raise UnknownNameError.among("way with conflicts", on_conflict, ["wait", "abort", "preempt"])
        losers: list[Lease] = []
        with self.changed:
            self.sweep()
            if on_conflict == "preempt":
                losers = self._preempt(lease)
            self._all.append(lease)
            self.sweep()
            if lease.is_queued and on_conflict == "abort":
                conflicts = self._conflicts(lease)
                self._all.remove(lease)
                raise LeaseError(
                    f"{lease.owner} cannot have {conflicts}",
                    hint="on_conflict='wait' queues for it, 'preempt' takes it away",
                )
            if lease.is_queued:
                self._refuse_circle(lease)
        for loser in losers:
            loser.tell()
        return lease

    def wait_for(self, lease: Lease, timeout_s: float | None, stop: Callable[[], bool] | None) -> None:
        """Wait until a lease is held."""
        deadline = None if timeout_s is None else self._clock() + timeout_s
        with self.changed:
            try:
                while not self._granted(lease):
                    self._check_patience(lease, timeout_s, deadline, stop)
                    self.changed.wait(SWEEP_S)
            except BaseException:
                self.drop(lease, "released")
                raise

    def held(self) -> list[Lease]:
        """Return the leases that are held now."""
        with self.changed:
            self.sweep()
            return [lease for lease in self._all if lease.is_held]

    # ── with the lock held ──────────────────────────────────────────────────────────────────────

    def sweep(self) -> None:
        """Drop the leases whose owner is gone or whose time is over, and grant what became free."""
        now = self._clock()
        for lease in [*self._all]:
            ended = lease.why_over(now)
            if ended is not None:
                self._all.remove(lease)
                lease.end(ended)
        taken = {name for lease in self._all if lease.is_held for name in lease.names}
        for lease in self._all:
            if lease.is_queued and taken.isdisjoint(lease.names):
                lease.grant(now)
                self.changed.notify_all()
            taken |= lease.names

    def check_write(self, names: Iterable[str], lease: Lease | None) -> None:
        """Refuse a write to what is leased, unless through the lease that holds it.

        Raises
        ------
        LeaseError
            If it is refused; every variable is listed with its owner.
        """
        self.sweep()
        if lease is not None:
            self.renew(lease)
        others = [each for each in self._all if each.is_held and each is not lease]
        leased = [
            f"{name} is leased by {each.shown}" for name in names for each in others if name in each.names
        ]
        if leased:
            raise LeaseError(
                "; ".join(leased), hint="write through that lease, or registry.lease([...]) waits for it"
            )

    def holder_of(self, name: str) -> Lease | None:
        """Return the lease that holds a variable now."""
        self.sweep()
        return next((each for each in self._all if each.is_held and name in each.names), None)

    def renew(self, lease: Lease) -> None:
        """Begin a lease's time anew."""
        self.sweep()
        if lease.problem is not None:
            raise LeaseError(lease.problem, hint="registry.lease([...]) asks for a new one")
        lease.renew(self._clock())

    def drop(self, lease: Lease, status: LeaseStatus) -> None:
        """End a lease, if it has not ended yet."""
        if lease in self._all:
            self._all.remove(lease)
            lease.end(status)
            self.sweep()

    def _granted(self, lease: Lease) -> bool:
        self.sweep()
        if lease.is_queued:
            return False
        if lease.problem is not None:
            raise LeaseError(lease.problem)
        return True

    def _check_patience(
        self, lease: Lease, timeout_s: float | None, deadline: float | None, stop: Callable[[], bool] | None
    ) -> None:
        if stop is not None and stop():
            raise CancelledError(f"waiting for {', '.join(sorted(lease.names))} was cancelled")
        if deadline is not None and self._clock() >= deadline:
            raise LeaseError(
                f"{lease.owner} waited {timeout_s:g} s in vain for {self._conflicts(lease)}",
                hint="wait longer, or on_conflict='preempt'",
            )

    def _preempt(self, lease: Lease) -> list[Lease]:
        losers = [each for each in self._all if not each.names.isdisjoint(lease.names)]
        held = [each for each in losers if each.is_held]
        for loser in held:
            self._all.remove(loser)
            loser.lost_to = lease.owner
            loser.end("preempted")
        lease.grant(self._clock())  # before those who are queued
        return held

    def _before(self, lease: Lease) -> list[Lease]:
        """Return what a queued lease waits for."""
        older = self._all[: self._all.index(lease)]
        held = [each for each in self._all if each.is_held]
        return [each for each in {*older, *held} if not each.names.isdisjoint(lease.names)]

    def _refuse_circle(self, lease: Lease) -> None:
        seen: set[Lease] = set()
        ahead = self._before(lease)
        while ahead:
            each = ahead.pop()
            if each in seen:
                continue
            seen.add(each)
            if each.who == lease.who and each.is_held:
                conflicts = self._conflicts(lease)
                self._all.remove(lease)
                raise LeaseError(
                    f"{lease.owner} would wait for itself: it holds {', '.join(sorted(each.names))} and asks for "
                    f"{conflicts}",
                    hint="ask for all variables in one lease, or release the first one before",
                )
            # What stands in the way goes on only when its owner does.
            ahead += [
                blocker
                for waiting in self._all
                if waiting.who == each.who and waiting.is_queued
                for blocker in self._before(waiting)
            ]

    def _conflicts(self, lease: Lease) -> str:
        return "; ".join(
            f"{', '.join(sorted(each.names & lease.names))}, {'leased' if each.is_held else 'asked for'} by {each.shown}"
            for each in sorted(self._before(lease), key=self._all.index)
        )


def _name_of(owner: Any) -> str:
    name = getattr(owner, "name", None)
    return name if isinstance(name, str) and name else type(owner).__name__


def _life_of(owner: Any) -> Callable[[], bool]:
    if isinstance(owner, threading.Thread):
        # A thread that has not begun has no ident, and is not dead.
        return lambda: owner.ident is None or owner.is_alive()
    try:
        reference = weakref.ref(owner)
    except TypeError as error:
        raise DefinitionError(
            f"an owner is a text, a thread or an object that can be watched, got {owner!r}",
            hint="give a name: owner='nightly study'",
        ) from error
    return lambda: reference() is not None
