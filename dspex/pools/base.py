"""What a pool is to those who only submit work, and what is behind one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from dspex.errors import UnknownNameError
from dspex.pools.inline import InlinePool

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from dspex.pools.counters import PoolStats
    from dspex.pools.sessions import Sessions
    from dspex.pools.spec import PoolSpec
    from dspex.pools.task import Task

KINDS = ("inline",)


class Pool(Protocol):
    """Runs functions and hands back `concurrent.futures.Future` objects."""

    name: str
    workers: int

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run a function as soon as a worker is free."""
        ...

    def close(self) -> None:
        """Take no more work. What is running is left to end by itself."""
        ...


class Engine(Protocol):
    """What runs a pool's tasks: processes of this machine, threads, or a cluster.

    Each passes ``tests/pools/conformance.py``.
    """

    sessions: Sessions
    spec: PoolSpec

    def write(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, Any]:
        """Write a call down the way this engine's tasks hold it."""
        ...

    def read(self, chunk: Any) -> Any:
        """Read a chunk of a stream."""
        ...

    def accept(self, task: Task) -> None:
        """Take a task on, or raise why not."""
        ...

    def stop(self, future: Any) -> bool:
        """Interrupt a running task; returns whether there was anything to interrupt."""
        ...

    def stop_owned(self, owner: str) -> int:
        """Stop what one owner submitted."""
        ...

    def credit(self, task: Task, taken: int) -> None:
        """Say how many chunks of a stream have been read."""
        ...

    def forget(self, name: str, reason: str) -> None:
        """Forget a session and its state."""
        ...

    def warm(self, workers: int | None = None) -> None:
        """Start workers before they are needed."""
        ...

    def stats(self) -> PoolStats:
        """Return what has been done."""
        ...

    def close(self, *, wait: bool, cancel: bool) -> None:
        """End."""
        ...


def make_pool(kind: str, workers: int) -> Pool:
    """Make the pool that executions and studies run on, by its name.

    Raises
    ------
    UnknownNameError
        If there is no such pool.
    """
    if kind not in KINDS:
        raise UnknownNameError.among("pool", kind, KINDS, hint=_why_not(kind))
    return InlinePool(workers)


def _why_not(kind: str) -> str | None:
    """Tell apart a pool that is not known from one that is for other work."""
    from dspex.pools import named

    if kind not in named.names():
        return None
    return (
        'executions and studies run on threads of this process (pool="inline"), as they wait for models; '
        f"dx.pools.{kind}.submit(function, ...) runs functions of your own, and dx.optimize(..., pool={kind!r}) "
        "scores a study's examples in worker processes"
    )
