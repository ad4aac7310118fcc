"""The registry: the values of a space that everybody shares, with versions, history, watchers and leases."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from dspex.errors import StaleVersionError, UnknownNameError, VariableError
from dspex.records import Change, Configuration, Execution, Label, Objective, Value
from dspex.variables import using
from dspex.variables.diversion import Diversion
from dspex.variables.leases import Lease, Leases, OnConflict
from dspex.variables.online import Learner, Online
from dspex.variables.watching import Watchers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import dspy
    import pandas as pd

    from dspex.optimizers.study import Study
    from dspex.variables.space import Space


_NOTHING = object()
"""Stands for "does not exist": None is a value that a variable may have."""


class _Now(NamedTuple):
    """What readers see: replaced whole, so that they need no lock."""

    version: int
    configuration: Configuration


class Registry(Mapping[str, Value]):
    """The live values of a space: one place that programs, studies and people read and write.

    Every write is a version with who, why and when. Safe to use from any number of threads.

    Parameters
    ----------
    space
        What may vary.
    configuration
        The values to begin with, where they differ from the space's defaults.
    demos
        The examples that a variable called `demos` shows the first so many of.
    clock
        Seconds since the Unix epoch.

    Examples
    --------
    >>> from dspex.variables.base import Choice, Float
    >>> from dspex.variables.space import Space
    >>> registry = Registry(Space(temperature=Float(0.0, 1.5, default=0.7), tone=Choice(["brief", "kind"])))
    >>> registry["temperature"] = 0.2
    >>> registry.set({"temperature": 0.4, "tone": "kind"}, by="me", why="too dry").version
    2
    >>> registry.rewind(1)["temperature"], registry
    (0.2, <Registry version 3: temperature=0.2, tone='brief'>)
    """

    def __init__(
        self,
        space: Space,
        configuration: Configuration | None = None,
        *,
        demos: Iterable[Any] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        first = space.complete(configuration or {})
        self.space = space
        self.demos: Sequence[Any] = tuple(demos)
        self._clock = clock
        self._lock = threading.Lock()
        self._now = _Now(0, MappingProxyType(first))
        self._history: list[Change] = []
        self._watchers = Watchers()
        self._leases = Leases(self._lock, clock)
        self._learners = {
            name: Learner(variable) for name, variable in space.items() if isinstance(variable, Online)
        }
        self._diversion: Diversion | None = None

    # ── reading ─────────────────────────────────────────────────────────────────────────────────

    @property
    def version(self) -> int:
        """How many writes there were."""
        return self._now.version

    @property
    def configuration(self) -> Configuration:
        """The values now: a snapshot that does not change."""
        return self._now.configuration

    @property
    def history(self) -> tuple[Change, ...]:
        """Every write, oldest first."""
        with self._lock:
            return tuple(self._history)

    @property
    def history_frame(self) -> pd.DataFrame:
        """One row for each variable that a write changed: version, at, by, why, variable, before, after.

        None stands where a variable did not exist.
        """
        import pandas as pd

        columns = ["version", "at", "by", "why", "variable", "before", "after"]
        rows = [
            (change.version, at, change.by, change.why, name, change.before.get(name), change.after.get(name))
            for change in self.history
            for at in [pd.Timestamp(change.at, unit="s", tz="UTC")]
            for name in dict.fromkeys([*change.after, *change.before])
            if change.before.get(name, _NOTHING) != change.after.get(name, _NOTHING)
        ]
        return pd.DataFrame(rows, columns=columns)

    def at(self, version: int) -> Configuration:
        """Return the values that the registry had at a version.

        Raises
        ------
        VariableError
            If there is no such version.
        """
        with self._lock:
            return MappingProxyType(self._at(version))

    def __getitem__(self, name: str) -> Value:
        values = self.configuration
        if name not in values:
            raise UnknownNameError.among("variable", name, values)
        return values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.configuration)

    def __len__(self) -> int:
        return len(self.configuration)

    def __repr__(self) -> str:
        now = self._now
        values = ", ".join(f"{name}={value!r}" for name, value in now.configuration.items())
        leased = "".join(
            f"; {', '.join(sorted(lease.names))} leased by {lease.owner}" for lease in self._leases.held()
        )
        return f"<Registry version {now.version}: {values}{leased}>"

    # ── writing ─────────────────────────────────────────────────────────────────────────────────

    def set(
        self, values: Configuration, *, by: str = "user", why: str = "", version: int | None = None
    ) -> Change:
        """Write variables, all or none.

        Parameters
        ----------
        values
            Variable → value.
        by, why
            Who writes and for what reason; the history keeps both.
        version
            Write only if this is still the registry's version.

        Raises
        ------
        VariableError
            If variables are unknown or values out of range; every failure is listed.
        StaleVersionError
            If the registry has moved on from `version`; it holds the values of now.
        LeaseError
            If a variable is leased by somebody else.
        """
        return self._write(values, by=by, why=why, version=version)

    def __setitem__(self, name: str, value: Value) -> None:
        self.set({name: value})

    def rewind(self, version: int, *, by: str = "user", why: str = "") -> Configuration:
        """Write back, as a new version, exactly the values of an old one; returns them.

        Raises
        ------
        VariableError
            If there is no such version.
        LeaseError
            If a variable that differs is leased by somebody else.
        """
        with self._lock:
            old, now = self._at(version), self._now.configuration
            differing = [
                name for name, value in old.items() if name in now and repr(value) != repr(now[name])
            ]
            self._commit(old, differing, by, why or f"rewound to version {version}")
        self._watchers.deliver()
        return MappingProxyType(old)

    def adopt(self, study: Study) -> Change:
        """Write a study's best configuration: by the study, because of its score.

        Raises
        ------
        ExecutionError
            If no trial has finished yet, or the study still holds its lease.
        """
        best, baseline = study.best, study.baseline
        was = "" if baseline is None else f", the default {baseline.score:.3f}"
        return self._write(best.configuration, by=study.name, why=f"scored {best.score:.3f}{was}")

    def watch(
        self, callback: Callable[[Change], object], names: Iterable[str] | None = None
    ) -> Callable[[], None]:
        """Call `callback` with every change from now on, or every one to `names`; returns what ends it.

        Changes come one at a time, in the order of their versions, none left out, on the thread of somebody
        who writes. A callback may write too: it is called with that change after it has returned. One that
        raises is logged the first time, and stops nobody.
        """
        return self._watchers.add(callback, None if names is None else self._known(names))

    def lease(
        self,
        names: Iterable[str],
        owner: Any,
        *,
        on_conflict: OnConflict = "wait",
        timeout_s: float | None = None,
        ttl_s: float | None = None,
        on_preempted: Callable[[Lease], object] | None = None,
    ) -> Lease:
        """Ask for the right to write some variables, alone. As a context manager it waits for it.

        Parameters
        ----------
        names
            The variables; all are granted at once, first come, first served.
        owner
            Who asks: a name, a thread, or an object. The lease ends when the thread has ended or the object
            is gone; of a name, when the thread that asked has ended.
        on_conflict
            If somebody has one of them: ``wait`` in the queue, ``abort``, or ``preempt``, which takes it away.
        timeout_s
            How long to wait.
        ttl_s
            After how long without a write or a ``heartbeat()`` the lease ends.
        on_preempted
            Called with the lease when it is taken away.

        Raises
        ------
        LeaseError
            If ``abort`` finds a conflict, or the owner would wait for itself.

        Examples
        --------
        >>> from dspex.variables.base import Float
        >>> from dspex.variables.space import Space
        >>> registry = Registry(Space(temperature=Float(0.0, 1.5)))
        >>> with registry.lease(["temperature"], "nightly") as lease:
        ...     lease.set({"temperature": 0.3}, why="seems calmer").by
        'nightly'
        """
        lease = Lease(
            self._leases,
            self._known(names),
            owner,
            write=self._write,
            timeout_s=timeout_s,
            ttl_s=ttl_s,
            on_preempted=on_preempted,
        )
        return self._leases.ask(lease, on_conflict)

    # ── using ───────────────────────────────────────────────────────────────────────────────────

    def apply(self, program: dspy.Module, *, lm: Callable[[Any], dspy.BaseLM] | None = None) -> dspy.Module:
        """Return a copy of a DSPy program that runs with the values of now.

        Parameters
        ----------
        program
            What to run; it is left alone.
        lm
            Finds a model by its name, such as `dspex.lm`.

        Raises
        ------
        VariableError
            If the program has no such variable, or there are no demos to show.
        """
        values = using.values_of(self.space, self.configuration, lm)
        return using.bound(self.space, program, values, examples=self.demos)

    def as_space(self) -> Space:
        """Return the space with the values of now as its defaults, for a search that begins with them."""
        return self.space.starting_at(self.configuration)

    @property
    def online(self) -> Mapping[str, Learner]:
        """What each online variable has learned and spent."""
        return MappingProxyType(self._learners)

    def use(self) -> Configuration:
        """Return the values for one more use; online variables may move before it."""
        if self._learners:
            with self._lock:
                for name, learner in self._learners.items():
                    self._move(name, learner)
            self._watchers.deliver()
        diversion = self._diversion
        return self.configuration if diversion is None else diversion.next(self.configuration)

    def divert(self, values: Configuration, share: float, *, seed: int = 0) -> Callable[[], None]:
        """Let a share of the uses run with other values, which are not written; returns what ends it.

        Raises
        ------
        VariableError
            If the values do not fit the space, `share` is not in (0, 1), or another diversion has not ended.
        """
        diversion = Diversion(MappingProxyType(self.space.complete(values)), share, seed=seed)
        with self._lock:
            if self._diversion is not None:
                raise VariableError(
                    f"one diversion at a time, {dict(self._diversion.values)} has not ended",
                    hint="call what divert(...) returned",
                )
            self._diversion = diversion

        def end() -> None:
            with self._lock:
                if self._diversion is diversion:
                    self._diversion = None

        return end

    def learn(self, record: Execution | Label, objective: Objective) -> None:
        """Teach the online variables how a use went, or how it was rated."""
        with self._lock:
            for name, learner in self._learners.items():
                if isinstance(record, Label):
                    learner.rate(record)
                elif name in record.configuration:
                    learner.learn(record, record.configuration[name], objective)

    # ── with the lock held ──────────────────────────────────────────────────────────────────────

    def _write(
        self,
        values: Configuration,
        *,
        by: str,
        why: str,
        version: int | None = None,
        lease: Lease | None = None,
    ) -> Change:
        with self._lock:
            now = self._now
            if version is not None and version != now.version:
                raise _stale(version, now, values, self._history)
            change = self._commit(self._settled(now.configuration, values), values, by, why, lease)
        self._watchers.deliver()
        return change

    def _settled(self, now: Configuration, values: Configuration) -> Configuration:
        """Put the new values together: what comes into existence begins at its default."""
        settled = self.space.settle(lambda name, each: values.get(name, now.get(name, each.default)))
        self.space.check({**settled, **values})
        return {name: self.space[name].canonical(value) for name, value in settled.items()}

    def _commit(
        self, after: Configuration, asked: Iterable[str], by: str, why: str, lease: Lease | None = None
    ) -> Change:
        """Make `after` the values of now. What changes is what was asked for, and what that brings or ends."""
        version, now = self._now
        changed = dict.fromkeys([*asked, *sorted(now.keys() ^ after.keys())])
        self._leases.check_write(changed, lease)
        at = self._clock()
        before = {name: now[name] for name in changed if name in now}
        change = Change(
            version + 1, at, by, why, before, {name: after[name] for name in changed if name in after}
        )
        self._now = _Now(change.version, MappingProxyType(dict(after)))
        self._history.append(change)
        for name, learner in self._learners.items():
            if name in changed:
                learner.switched(at)
        self._watchers.put(change)
        return change

    def _move(self, name: str, learner: Learner) -> None:
        """Let an online variable choose, unless somebody has leased it."""
        now = self._now.configuration
        if name not in now or self._leases.holder_of(name) is not None:
            return
        value, why = learner.choose(now[name], self._clock())
        if value != now[name]:
            self._commit(self._settled(now, {name: value}), [name], "online", why)

    def _at(self, version: int) -> dict[str, Value]:
        if not 0 <= version <= self._now.version:
            raise VariableError(f"a version is in [0, {self._now.version}], got {version}")
        values = dict(self._now.configuration)
        for change in reversed(self._history[version:]):
            values = {name: value for name, value in values.items() if name not in change.after}
            values.update(change.before)
        return values

    def _known(self, names: Iterable[str]) -> frozenset[str]:
        asked = frozenset([names] if isinstance(names, str) else names)
        if not asked:
            raise VariableError("at least one variable must be named, got none")
        for name in sorted(asked):
            if name not in self.space:
                raise UnknownNameError.among("variable", name, self.space)
        return asked


def _stale(version: int, now: _Now, values: Configuration, history: Sequence[Change]) -> StaleVersionError:
    current = ", ".join(f"{name}={now.configuration[name]!r}" for name in values if name in now.configuration)
    writer = f", last written by {history[-1].by}" if history else ""
    return StaleVersionError(
        f"version {version} is stale: the registry is at version {now.version}{writer}; now {current}",
        version=now.version,
        configuration=now.configuration,
        hint="read the values again and decide anew",
    )
