"""The context in which simulated models note their chances instead of drawing."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_current: ContextVar[Measurement | None] = ContextVar("dspex_sandbox_measurement", default=None)


@dataclass(slots=True)
class Measurement:
    """The chances of success that the calls to simulated models had, in their order."""

    chances: list[float] = field(default_factory=list)


@contextmanager
def measured() -> Iterator[Measurement]:
    """Make simulated models answer right in this context, and note how likely that was."""
    measurement = Measurement()
    token = _current.set(measurement)
    try:
        yield measurement
    finally:
        _current.reset(token)


def current() -> Measurement | None:
    """Return the measurement in charge, if there is one."""
    return _current.get()
