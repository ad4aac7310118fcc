"""Watchers: callbacks that see every change of a registry, in order."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

from dspex.redact import quiet_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from dspex.records import Change

_log = quiet_logger("dspex.variables")


class Watchers:
    """Hands changes on to those who watch. `put` runs under the registry's lock, `deliver` outside it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watchers: tuple[_Watcher, ...] = ()

    def add(self, callback: Callable[[Change], object], names: Iterable[str] | None) -> Callable[[], None]:
        """Begin to watch; returns the function that ends it."""
        watcher = _Watcher(callback, None if names is None else frozenset(names))
        with self._lock:
            self._watchers = (*self._watchers, watcher)

        def unwatch() -> None:
            with self._lock:
                self._watchers = tuple(each for each in self._watchers if each is not watcher)
            watcher.end()

        return unwatch

    def put(self, change: Change) -> None:
        """Line a change up for everybody it concerns."""
        for watcher in self._watchers:
            watcher.put(change)

    def deliver(self) -> None:
        """Call everybody who has changes waiting and is not being called already."""
        for watcher in self._watchers:
            watcher.deliver()


class _Watcher:
    """One callback and what it has not seen yet.

    Whoever writes while it runs leaves the change to the thread that is calling it: so it sees changes one
    at a time and in order, and may write itself.
    """

    def __init__(self, callback: Callable[[Change], object], names: frozenset[str] | None) -> None:
        self._callback = callback
        self._names = names
        self._lock = threading.Lock()
        self._waiting: deque[Change] = deque()
        self._is_running = False
        self._has_failed = False
        self._is_over = False

    def put(self, change: Change) -> None:
        if self._names is None or not self._names.isdisjoint(change.after):
            self._waiting.append(change)

    def end(self) -> None:
        self._is_over = True
        self._waiting.clear()

    def deliver(self) -> None:
        with self._lock:
            if self._is_running:
                return
            self._is_running = True
        try:
            while (change := self._next()) is not None:
                self._call(change)
        except BaseException:  # such as an interrupt: the next write goes on from here
            self._is_running = False
            raise

    def _next(self) -> Change | None:
        """Take the next change; None, and the turn given back, when there is none."""
        with self._lock:
            if self._waiting and not self._is_over:
                return self._waiting.popleft()
            self._is_running = False
            return None

    def _call(self, change: Change) -> None:
        try:
            self._callback(change)
        except Exception:  # noqa: BLE001  # a watcher may be anybody's; it must not stop the others
            if not self._has_failed:
                _log.exception(
                    "a watcher failed on version %d; later failures are not logged", change.version
                )
            self._has_failed = True
