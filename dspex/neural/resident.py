"""Residents: models that live in a pool's worker, loaded when they are first needed and again when it was lost."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any

from dspex import pools
from dspex.errors import UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspex.pools.pool import Pool
    from dspex.pools.sessions import Session
    from dspex.pools.streams import Stream
    from dspex.pools.task import TaskFuture

_lock = threading.Lock()


def known(pool: str) -> None:
    """Check that there is a pool of that name.

    Raises
    ------
    UnknownNameError
        If there is not.
    """
    if pool not in pools.names():
        raise UnknownNameError.among("pool", pool, pools.names())


class Resident:
    """State that a pool's worker keeps for everyone who names it alike.

    Parameters
    ----------
    load
        Makes the state, in the worker.
    pool
        The pool's name.
    replicas
        In how many workers it may live at once.
    timeout_s
        How long one task may take, loading included.
    """

    def __init__(
        self, name: str, load: Callable[[], Any], *, pool: str, replicas: int, timeout_s: float | None
    ) -> None:
        self.name = name if replicas == 1 else f"{name} x{replicas}"
        self.pool = pool
        self.replicas = replicas
        self._load = load
        self._timeout_s = timeout_s

    def submit(self, function: Callable[..., Any], /, *args: Any) -> TaskFuture:
        """Call a function with the state first."""
        pool, session = self._home()
        return pool.submit(function, *args, session=session, timeout_s=self._timeout_s)

    def stream(self, function: Callable[..., Any], /, *args: Any) -> Stream:
        """Call a generator function with the state first."""
        pool, session = self._home()
        return pool.stream(function, *args, session=session, timeout_s=self._timeout_s)

    def sender(self, function: Callable[..., Any]) -> Callable[[list[Any]], TaskFuture]:
        """Return what sends lists to a function, for `Batched`."""
        return partial(self.submit, function)

    def _home(self) -> tuple[Pool, Session]:
        """Find the session, or begin it: a pool that was closed begins anew, and so may this."""
        pool = pools.get(self.pool)
        with _lock:
            known = pool.sessions.get(self.name)
            # One worker keeps it, or whichever of several are free: each of those loads it once.
            affinity: Any = "strict_queue" if self.replicas == 1 else "hint"
            return pool, known or pool.session(self.name, self._load, affinity=affinity)
