"""Single flight: equal requests that are made at the same time are made once."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from dspex.errors import TimedOutError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

Value = TypeVar("Value")


class _Abandoned(Exception):  # noqa: N818  # never leaves this room
    """Whoever did the work was stopped; somebody else must do it."""


class _Flight(Generic[Value]):
    def __init__(self) -> None:
        self.result: Future[Value] = Future()
        self.waiting = 1
        self.task: asyncio.Task[None] | None = None


class SingleFlight(Generic[Value]):
    """Shares one execution among all who ask for the same at the same time, threads and tasks alike.

    An error is shared like a value. Who is cancelled leaves alone: the work goes on for the others, and
    only when nobody waits for it any more is it cancelled too. A thread that is interrupted while it works
    for others hands the work to one of them.

    Examples
    --------
    >>> flights = SingleFlight()
    >>> flights.do("key", lambda: 42)
    42
    """

    def __init__(self) -> None:
        self._flights: dict[Hashable, _Flight[Value]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._flights)

    def do(self, key: Hashable, work: Callable[[], Value], *, timeout_s: float | None = None) -> Value:
        """Do the work in this thread, or wait for whoever is doing it.

        Parameters
        ----------
        timeout_s
            How long to wait for another's work; one's own is not interrupted.

        Raises
        ------
        TimedOutError
            If another's work took longer.
        """
        while True:
            flight, is_first = self._board(key)
            if is_first:
                return self._lead(key, flight, work)
            try:
                return flight.result.result(timeout_s)
            except _Abandoned:
                continue
            except TimeoutError as error:
                if flight.result.done():
                    raise  # the work's own
                raise _took_too_long(timeout_s) from error
            finally:
                self._leave(key, flight)

    async def ado(self, key: Hashable, work: Callable[[], Awaitable[Value]]) -> Value:
        """Do the work in a task of its own, or wait for whoever is doing it."""
        while True:
            flight, is_first = self._board(key)
            if is_first:
                flight.task = asyncio.get_running_loop().create_task(
                    self._fly(key, flight, work), context=contextvars.copy_context()
                )
            try:
                # The shield keeps one waiter's cancellation from everybody's result.
                return await asyncio.shield(asyncio.wrap_future(flight.result))
            except _Abandoned:
                continue
            finally:
                self._leave(key, flight)

    def _board(self, key: Hashable) -> tuple[_Flight[Value], bool]:
        with self._lock:
            flight = self._flights.get(key)
            if flight is not None:
                flight.waiting += 1
                return flight, False
            flight = self._flights[key] = _Flight()
            return flight, True

    def _lead(self, key: Hashable, flight: _Flight[Value], work: Callable[[], Value]) -> Value:
        try:
            value = work()
        except Exception as error:
            self._land(key, flight, error=error)
            raise
        except BaseException:
            self._land(key, flight, error=_Abandoned())
            raise
        self._land(key, flight, value=value)
        return value

    async def _fly(self, key: Hashable, flight: _Flight[Value], work: Callable[[], Awaitable[Value]]) -> None:
        try:
            value = await work()
        except Exception as error:  # noqa: BLE001  # everybody who waits for it raises it
            self._land(key, flight, error=error)
        except BaseException:
            self._land(key, flight, error=_Abandoned())
            raise
        else:
            self._land(key, flight, value=value)

    def _land(
        self, key: Hashable, flight: _Flight[Value], *, value: Any = None, error: BaseException | None = None
    ) -> None:
        # Off the board first: who comes now starts anew.
        with self._lock:
            if self._flights.get(key) is flight:
                del self._flights[key]
        if error is None:
            flight.result.set_result(value)
        else:
            flight.result.set_exception(error)

    def _leave(self, key: Hashable, flight: _Flight[Value]) -> None:
        with self._lock:
            flight.waiting -= 1
            is_forsaken = flight.waiting == 0 and not flight.result.done() and flight.task is not None
            if is_forsaken and self._flights.get(key) is flight:
                del self._flights[key]
        if is_forsaken and flight.task is not None:
            flight.task.get_loop().call_soon_threadsafe(flight.task.cancel)


def _took_too_long(timeout_s: float | None) -> TimedOutError:
    return TimedOutError(
        f"the same request, already on its way, was not answered within {timeout_s:g} s",
        hint="give it more time",
    )
