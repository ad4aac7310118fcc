"""A pool, as its users see it: submit, map, stream, sessions, and what it has done."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from concurrent.futures import Executor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dspex.errors import CircuitOpenError, DefinitionError, UnknownNameError
from dspex.pools import mapping
from dspex.pools.batching import Batched
from dspex.pools.refusals import closed
from dspex.pools.sessions import Session
from dspex.pools.streams import END, Stream
from dspex.pools.task import Task, TaskFuture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from dspex.pools.base import Engine
    from dspex.pools.breaker import PoolBreaker
    from dspex.pools.counters import PoolStats
    from dspex.pools.sessions import Affinity, OnLoss
    from dspex.pools.spec import PoolSpec

_UNSET: Any = object()
_AHEAD = 64
"""How many tasks a worker `map` submits before the first of them is asked for."""


class Pool(Executor):
    """Workers that run functions, as a `concurrent.futures.Executor` with more to it.

    Made by `dx.pools.define`; `dx.pools.general` is one that is always there. Its workers are started when they
    are first needed.
    """

    def __init__(self, name: str, spec: PoolSpec, engine: Engine, breaker: PoolBreaker | None = None) -> None:
        self.name = name
        self.spec = spec
        self._engine = engine
        self._breaker = breaker
        self._is_shut = False

    def __repr__(self) -> str:
        stats = self.stats()
        state = "" if stats.breaker == "closed" else f"; breaker {stats.breaker}"
        return (
            f"<Pool {self.name!r}: {len(stats.workers)} of {self.spec.workers} workers, "
            f"{stats.running} tasks run, {stats.queued} wait{state}>"
        )

    @property
    def workers(self) -> int:
        """How many tasks can run at once."""
        return self.spec.workers

    # ── work ────────────────────────────────────────────────────────────────────────────────────

    def submit(  # type: ignore[override]  # with options of its own
        self,
        function: Callable[..., Any],
        /,
        *args: Any,
        session: str | Session | None = None,
        timeout_s: float | None = _UNSET,
        deadline_s: float | None = None,
        idempotent: bool = True,
        priority: int = 0,
        **kwargs: Any,
    ) -> TaskFuture:
        """Run a function in a worker.

        Parameters
        ----------
        function, *args, **kwargs
            What to call. All of it is written down now: later changes are not seen. Large arrays go by shared
            memory, and cannot be written to where they arrive; `dx.pools.sharing` writes them only once.
        session
            Run it in the worker of that session; if the session has a factory, the state comes first.
        timeout_s
            How long it may run; None for as long as it likes. By default the pool's.
        deadline_s
            By when, from now, it must be done, waiting included.
        idempotent
            Whether it may be run again if its worker dies.
        priority
            Higher ones run first.

        Raises
        ------
        ShippingError
            If a part of the call cannot travel to another process.
        PoolSaturatedError
            If too many tasks wait already.
        CircuitOpenError
            If the pool's last tasks failed by the pool's own fault.
        """
        task = self._task(function, args, kwargs, session, timeout_s, deadline_s, idempotent, priority)
        self._accept(task)
        return task.future

    def submit_exempt(self, function: Callable[..., Any], /, *args: Any) -> TaskFuture:
        """Run a function without a time limit, however many tasks wait: for callers with limits of their own.

        That the pool is broken is said by the future, as such callers submit where nobody would catch it.
        """
        task = self._task(function, args, {}, **{**_OPTIONS, "timeout_s": None})
        task.is_exempt = True
        try:
            self._accept(task)
        except CircuitOpenError as error:
            task.future.set_exception(error)
        return task.future

    def _accept(self, task: Task) -> None:
        """Have the engine take a task on, unless the pool is known to be unable to do it."""
        if self._breaker is not None:
            self._breaker.admit(task)
        try:
            self._engine.accept(task)
        except BaseException as error:
            task.future.tell(error)
            raise

    def _task(  # a call's options, in one place
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        session: str | Session | None,
        timeout_s: float | None,
        deadline_s: float | None,
        idempotent: bool,
        priority: int,
    ) -> Task:
        if self._is_shut:
            raise closed(self.name)
        if not callable(function):
            raise DefinitionError(
                f"a pool runs functions, got {function!r}", hint="pool.submit(function, *arguments)"
            )
        timeout_s = self.spec.timeout_s if timeout_s is _UNSET else timeout_s
        for name, value in (("timeout_s", timeout_s), ("deadline_s", deadline_s)):
            if value is not None and value <= 0:
                raise DefinitionError(f"{name} must be > 0 or None, got {value!r}")
        packed, arguments = self._engine.write(function, args, kwargs)
        return Task(
            packed,
            arguments,
            TaskFuture(self._engine.stop),
            None if session is None else self._session(session),
            timeout_s,
            None if deadline_s is None else time.monotonic() + deadline_s,
            idempotent,
            priority,
        )

    def map(  # type: ignore[override]  # with options of its own
        self,
        function: Callable[..., Any],
        /,
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        **options: Any,
    ) -> Iterator[Any]:
        """Call a function with each of the items, and give the results in their order.

        However many items there are, only so many are submitted ahead of what has been asked for. If the caller
        stops, or is interrupted, the rest is stopped too.

        Parameters
        ----------
        timeout
            Seconds from now by which each result must be there.
        chunksize
            How many items one task takes; more than one pays for short calls.
        **options
            As for `submit`.
        """
        if chunksize < 1:
            raise DefinitionError(f"chunksize must be > 0, got {chunksize}")
        calls = mapping.chunks(zip(*iterables, strict=False), chunksize)
        ends_at = None if timeout is None else time.monotonic() + timeout
        window = min(_AHEAD * self.workers, self.spec.queue_limit)
        submitted = (mapping.promised(self.submit, mapping.each, function, call, **options) for call in calls)
        return mapping.results(submitted, window, ends_at)

    async def asubmit(self, function: Callable[..., Any], /, *args: Any, **options: Any) -> Any:
        """Run a function in a worker and await its result; if the awaiting task is cancelled, so is this one."""
        future = self.submit(function, *args, **options)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            future.stop()
            raise

    def stream(self, function: Callable[..., Iterable[Any]], /, *args: Any, **options: Any) -> Stream:
        """Run a generator function in a worker, and give what it yields as it comes.

        The worker waits when it is a hundred chunks ahead, and stops when the stream is closed or dropped.

        Parameters
        ----------
        **options
            As for `submit`.
        """
        given, kwargs = _sorted_out(options)
        task = self._task(function, args, kwargs, **given)
        chunks: queue.SimpleQueue[Any] = queue.SimpleQueue()
        task.stream = chunks.put
        self._accept(task)
        task.future.add_done_callback(lambda _: chunks.put(END))
        return Stream(task.future, chunks, self._engine.read, lambda taken: self._engine.credit(task, taken))

    def batched(
        self,
        function: Callable[..., Sequence[Any]],
        *,
        max_batch: int = 32,
        at_once: int = 1,
        queue_limit: int = 4096,
        **options: Any,
    ) -> Batched:
        """Make a function of many items one of single items, whose concurrent calls go to a worker together.

        A worker that is idle gets a call at once; what comes while it is busy waits and goes together. If a list
        fails, it is tried again in halves, so that one item's failure is its own.

        Parameters
        ----------
        function
            Takes a list of items, after the state if there is a session; returns a list with a result for each.
        max_batch
            How many items go together at most.
        at_once
            How many lists may be under way.
        queue_limit
            How many items may wait.
        **options
            As for `submit`.
        """
        if not callable(function):
            raise DefinitionError(
                f"a pool runs functions, got {function!r}", hint="pool.batched(function, max_batch=32)"
            )
        return Batched(
            lambda items: self.submit(function, items, **options),
            resend=lambda items: self._submit_part(function, items, options),
            max_batch=max_batch,
            at_once=at_once,
            queue_limit=queue_limit,
        )

    def _submit_part(
        self, function: Callable[..., Any], items: list[Any], options: dict[str, Any]
    ) -> TaskFuture:
        """Run a part of a list that failed; as its callers were taken on before, it counts against nothing."""
        given, kwargs = _sorted_out(options)
        task = self._task(function, (items,), kwargs, **given)
        task.is_exempt = True
        self._accept(task)
        return task.future

    # ── sessions ────────────────────────────────────────────────────────────────────────────────

    def session(
        self,
        name: str,
        factory: Callable[[], Any] | None = None,
        *,
        affinity: Affinity | None = None,
        on_loss: OnLoss | None = None,
        rehydrate: Callable[[], Any] | None = None,
        defaults: Mapping[str, Any] | None = None,
        ttl_s: float | None = None,
    ) -> Session:
        """Make a session: state that is built once in a worker, and stays there for the calls that use it.

        Parameters
        ----------
        name
            What it is called; a session that is there already is returned as it is.
        factory
            Builds the state, in the worker. Every call gets it as its first argument.
        affinity
            ``hint`` prefers the worker; ``strict_queue`` waits for it; ``strict_fail_fast`` fails when it is busy.
            By default sessions with a factory wait.
        on_loss
            If the worker dies: ``rebuild`` the state in another, or ``fail`` until `Session.renew`. By default
            what a factory can rebuild is rebuilt.
        rehydrate
            Builds the state after a loss, once for each; by default the factory.
        defaults
            What its owner wants of ``dx.execute(..., session=...)``: a model, a module, a temperature, ….
        ttl_s
            How long it is kept unused.

        Raises
        ------
        PoolSaturatedError
            If there are too many.
        """
        known = self._engine.sessions.get(name)
        if known is not None:
            if factory is not None or defaults is not None:
                raise DefinitionError(
                    f"pool {self.name!r} has a session {name!r} already",
                    hint="close() it first, or choose another name",
                )
            return known
        made = Session(
            self,
            name,
            factory,
            affinity=affinity,
            on_loss=on_loss,
            rehydrate=rehydrate,
            defaults=defaults,
            ttl_s=self.spec.session_ttl_s if ttl_s is None else ttl_s,
        )
        return self._engine.sessions.add(made)

    def _session(self, given: str | Session) -> Session:
        name = given if isinstance(given, str) else given.name
        return self._engine.sessions.get(name) or self.session(name)

    @property
    def sessions(self) -> dict[str, Session]:
        """The sessions that there are."""
        return {each.name: each for each in self._engine.sessions}

    def close_session(self, name: str) -> None:
        """Forget a session and its state."""
        if self._engine.sessions.get(name) is None:
            raise UnknownNameError.among("session", name, self.sessions)
        self._engine.forget(name, "closed")

    # ── looking and ending ──────────────────────────────────────────────────────────────────────

    def warm(self, workers: int | None = None) -> None:
        """Start workers before they are needed; returns at once."""
        self._engine.warm(workers)

    def stats(self) -> PoolStats:
        """Return what the pool has done and how its workers are."""
        stats, breaker = self._engine.stats(), self._breaker
        return stats if breaker is None else replace(stats, breaker=str(breaker), refused=breaker.refused)

    def stop_owned(self, owner: str) -> int:
        """Stop every task that was submitted under this `owner`; returns how many there were."""
        return self._engine.stop_owned(owner)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the pool, as `concurrent.futures.Executor.shutdown` does: what was taken on is done first.

        Parameters
        ----------
        wait
            Whether to return only then.
        cancel_futures
            Whether what has not begun is cancelled instead.
        """
        self._is_shut = True
        if wait:
            self._engine.close(wait=True, cancel=cancel_futures)
            return
        options = {"wait": True, "cancel": cancel_futures}
        threading.Thread(
            target=self._engine.close, kwargs=options, name=f"dspex-{self.name}-end", daemon=True
        ).start()

    def close(self) -> None:
        """End the pool now; what waits and runs is cancelled."""
        self._engine.close(wait=False, cancel=True)


_OPTIONS: dict[str, Any] = {
    "session": None,
    "timeout_s": _UNSET,
    "deadline_s": None,
    "idempotent": True,
    "priority": 0,
}


def _sorted_out(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tell a task's options from what its function is called with."""
    given = {name: options.get(name, usual) for name, usual in _OPTIONS.items()}
    return given, {name: value for name, value in options.items() if name not in _OPTIONS}
