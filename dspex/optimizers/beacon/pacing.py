"""BEACON within a study: at most so many configurations, and new ones no faster than scores come in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dspex.optimizers.beacon.search import Beacon

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dspex.optimizers.beacon.work import Row, Work
    from dspex.records import Value
    from dspex.variables.space import Space

_STARTUP = 8
"""Configurations that are begun before any pace is kept."""
_PACE = 12
"""Scores that a further configuration waits for: who begins a budget's last one at once has learnt nothing before."""


class Paced(Beacon):
    """A search that tries no more than so many configurations, and spends the rest on telling them apart.

    Parameters
    ----------
    space, examples, **options
        As for `Beacon`.
    most
        Configurations; None for no limit, and then no pace is kept either.
    """

    def __init__(self, space: Space, *, examples: Sequence[str], most: int | None, **options: Any) -> None:
        super().__init__(space, examples=examples, **options)
        self._most = most
        self._is_closed = False
        self._n_given, self._n_given_scores = 0, 0

    def tell_earlier(self, rows: Iterable[Row]) -> None:
        """Take in what earlier studies have scored; it is not counted."""
        self.tell(rows)
        self._n_given, self._n_given_scores = len(self._register.configurations), sum(self._register.n_told)

    @property
    def n_tried(self) -> int:
        """How many configurations have scores, or are about to."""
        return len(self._register.configurations) - self._n_given

    def ask(self, n: int = 1) -> list[Work]:
        """Return up to `n` proposals; once there are configurations enough, among those alone."""
        room = n if self._most is None else min(n, self._room(self._most))
        self._is_closed = room < 1
        count = n if self._is_closed else room
        # The first of all is the default, of which nothing may be left to score: then another one.
        found = super().ask(count) or super().ask(count)
        if found or not self._is_closed or self.n_tried >= (self._most or 0):
            return found
        self._is_closed = False  # all that was begun is scored on everything
        return super().ask(1)

    def _room(self, most: int) -> int:
        n_scores = sum(self._register.n_told) - self._n_given_scores
        return min(most, _STARTUP + n_scores // _PACE) - self.n_tried

    def _candidates(self) -> list[dict[str, Value]]:
        return list(self._register.configurations) if self._is_closed else super()._candidates()
