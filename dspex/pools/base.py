"""What a pool is: somewhere to submit a function to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from dspex.errors import UnknownNameError
from dspex.pools.inline import InlinePool

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

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


def make_pool(kind: str, workers: int) -> Pool:
    """Make a pool by its name.

    Raises
    ------
    UnknownNameError
        If there is no such pool.
    """
    if kind not in KINDS:
        raise UnknownNameError.among("pool", kind, KINDS)
    return InlinePool(workers)
