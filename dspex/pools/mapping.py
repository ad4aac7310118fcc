"""A map over a pool: so many calls ahead of what was asked for, and their results in order."""

from __future__ import annotations

import time
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any

from dspex.errors import CircuitOpenError
from dspex.pools.task import TaskFuture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_Call = tuple[Any, ...]


def chunks(items: Iterable[_Call], size: int) -> Iterator[tuple[_Call, ...]]:
    """Group calls, so many to a task.

    Examples
    --------
    >>> list(chunks([(1,), (2,), (3,)], 2))
    [((1,), (2,)), ((3,),)]
    """
    calls = iter(items)
    return iter(lambda: tuple(islice(calls, size)), ())


def results(submitted: Iterator[TaskFuture], window: int, ends_at: float | None) -> Iterator[Any]:
    """Give what tasks return, each a list, in their order; the first of them are submitted now.

    Parameters
    ----------
    submitted
        Submits one more task each time it is asked.
    window
        How many are submitted ahead.
    ends_at
        By when, on `time.monotonic`, each result must be there.
    """
    return _taken(deque(islice(submitted, window)), submitted, ends_at)


def _taken(futures: deque[TaskFuture], more: Iterator[TaskFuture], ends_at: float | None) -> Iterator[Any]:
    try:
        while futures:
            left = None if ends_at is None else ends_at - time.monotonic()
            yield from futures.popleft().result(left)
            futures.extend(islice(more, 1))
    finally:
        for future in futures:
            future.stop()


def promised(submit: Callable[..., TaskFuture], *call: Any, **options: Any) -> TaskFuture:
    """Submit; that the pool is broken is said in its turn, after the results that come before."""
    try:
        return submit(*call, **options)
    except CircuitOpenError as error:
        refused = TaskFuture()
        refused.set_exception(error)
        return refused


def each(function: Callable[..., Any], calls: tuple[_Call, ...]) -> list[Any]:
    """Call a function so many times, in the worker."""
    return [function(*args) for args in calls]
