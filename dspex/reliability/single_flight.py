"""Single flight: equal requests that are made at the same time are made once."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from dspex.errors import TimedOutError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

Value = TypeVar("Value")


class _Abandoned(Exception):  # noqa: N818  # never leaves this room
    """Whoever did the work was stopped; somebody else must do it."""


class SingleFlight(Generic[Value]):
    """Shares one execution among all threads that ask for the same at the same time.

    An error is shared like a value. Who gives up waiting leaves alone: the work goes on for the others. A
    thread that is interrupted while it works for others hands the work to one of them.

    Examples
    --------
    >>> flights = SingleFlight()
    >>> flights.do("key", lambda: 42)
    42
    """

    def __init__(self) -> None:
        self._flights: dict[Hashable, Future[Value]] = {}
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
                return flight.result(timeout_s)
            except _Abandoned:
                continue
            except TimeoutError as error:
                if flight.done():
                    raise  # the work's own
                raise _took_too_long(timeout_s) from error

    def _board(self, key: Hashable) -> tuple[Future[Value], bool]:
        with self._lock:
            flight = self._flights.get(key)
            if flight is not None:
                return flight, False
            flight = self._flights[key] = Future()
            return flight, True

    def _lead(self, key: Hashable, flight: Future[Value], work: Callable[[], Value]) -> Value:
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

    def _land(
        self, key: Hashable, flight: Future[Value], *, value: Any = None, error: BaseException | None = None
    ) -> None:
        # Off the board first: who comes now starts anew.
        with self._lock:
            del self._flights[key]
        if error is None:
            flight.set_result(value)
        else:
            flight.set_exception(error)


def _took_too_long(timeout_s: float | None) -> TimedOutError:
    return TimedOutError(
        f"the same request, already on its way, was not answered within {timeout_s:g} s",
        hint="give it more time",
    )
