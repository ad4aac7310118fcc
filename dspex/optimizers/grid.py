"""Exhaustive search: every configuration of a small space, once."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

from dspex.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dspex.records import Configuration, Value
    from dspex.variables.space import Space


class Grid:
    """Walks through every configuration, the default one first.

    Raises
    ------
    DataError
        If there is no end to them: a number has no steps.

    Examples
    --------
    >>> from dspex.variables.base import Choice
    >>> from dspex.variables.space import Space
    >>> search = Grid(Space(tone=Choice(["brief", "kind"]), form=Choice(["list", "text"])))
    >>> [search.ask() for _ in range(5)][-2:]
    [{'tone': 'kind', 'form': 'text'}, None]
    """

    def __init__(self, space: Space, *, seed: int = 0) -> None:
        if math.isinf(space.n_configurations):
            raise DataError(
                "grid walks through every configuration, and of these there is no end",
                hint="give each number a step: Float(0.0, 1.0, step=0.25); or optimizer='beacon'",
            )
        self._walk: Iterator[dict[str, Value]] = _walk(space)
        _ = seed  # the order is always the same

    def ask(self) -> dict[str, Value] | None:
        """Return the next configuration, None after the last."""
        return next(self._walk, None)

    def tell(self, configuration: Configuration, score: float) -> None:
        """Learn nothing: all are tried anyway."""


def _walk(space: Space) -> Iterator[dict[str, Value]]:
    first = space.default()
    rest = (each for each in space.configurations() if space.key_of(each) != space.key_of(first))
    return itertools.chain([first], rest)
