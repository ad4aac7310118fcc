"""A clock that a test moves by hand."""

from __future__ import annotations


class Clock:
    """Seconds since the Unix epoch, as long as nobody moves it."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
