"""A continuous optimizer's steps: kept in order, and announced."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from dspex.events import EventBus, TurnTaken

if TYPE_CHECKING:
    import pandas as pd

    from dspex.records import Turn

_COLUMNS = ("at", "kind", "why", "quality", "level", "study", "gain", "low", "high", "version")


class Turns:
    """Every step so far; those that nobody has heard of yet wait for `announce`."""

    def __init__(self, watch: str, events: EventBus) -> None:
        self._watch, self._events = watch, events
        self._lock = threading.Lock()
        self._unsaid: list[Turn] = []
        self.all: tuple[Turn, ...] = ()

    def keep(self, turn: Turn) -> None:
        """Take in a step."""
        with self._lock:
            self.all = (*self.all, turn)
            self._unsaid.append(turn)

    def announce(self) -> None:
        """Publish what is new: called without any lock held, for a subscriber may be anybody's."""
        with self._lock:
            unsaid, self._unsaid = self._unsaid, []
        for turn in unsaid:
            self._events.publish(TurnTaken(self._watch, turn))

    def frame(self) -> pd.DataFrame:
        """Return one row a step."""
        import pandas as pd

        rows = [
            {
                **{name: getattr(turn, name) for name in _COLUMNS},
                "at": pd.Timestamp(turn.at, unit="s", tz="UTC"),
                "configuration": dict(turn.configuration),
            }
            for turn in self.all
        ]
        return pd.DataFrame(rows, columns=[*_COLUMNS, "configuration"])
