"""What a search is: it is asked for configurations and told their scores; it never runs anything itself."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

from dspex.optimizers.beacon.work import Work

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable, Sequence

    from dspex.optimizers.beacon.work import Row
    from dspex.records import Configuration, Value
    from dspex.variables.space import Space

_PATIENCE = 30


class Search(Protocol):
    """Proposes configurations, the default one first and never one twice."""

    def ask(self) -> dict[str, Value] | None:
        """Return the next configuration to evaluate, or None when there is no other."""
        ...

    def tell(self, configuration: Configuration, score: float) -> None:
        """Take in the score of a configuration that was asked for; larger is better."""
        ...


class Batches(Protocol):
    """Proposes work, several pieces at a time, and is told rows: what a study runs."""

    def ask(self, n: int = 1) -> list[Work]:
        """Return up to `n` pieces of work; none when everything was tried."""
        ...

    def tell(self, rows: Iterable[Row]) -> None:
        """Take in scores, whether they were asked for or not."""
        ...


class OneByOne:
    """Lets a search that scores whole configurations be asked for work and told rows, as a study does.

    Parameters
    ----------
    search
        What proposes.
    space
        Names configurations.
    example_keys
        The examples that every configuration is scored on.
    """

    def __init__(self, search: Search, space: Space, example_keys: Sequence[str]) -> None:
        self._search = search
        self._space = space
        self._example_keys = tuple(example_keys)

    def ask(self, n: int = 1) -> list[Work]:
        """Return up to `n` pieces of work; none when everything was tried."""
        found: list[Work] = []
        while len(found) < n and (configuration := self._search.ask()) is not None:
            found.append(Work(configuration, self._space.key_of(configuration), self._example_keys))
        return found

    def tell(self, rows: Iterable[Row]) -> None:
        """Take in the rows of configurations that were asked for; the mean is their score."""
        scores: dict[str, list[float]] = {}
        configurations: dict[str, Configuration] = {}
        for row in rows:
            key = self._space.key_of(row.configuration)
            configurations[key] = row.configuration
            scores.setdefault(key, []).append(row.score)
        for key, configuration in configurations.items():
            self._search.tell(configuration, sum(scores[key]) / len(scores[key]))


def unseen(space: Space, seen: set[str], rng: random.Random) -> dict[str, Value] | None:
    """Draw a configuration that was not seen before, or None when there is none."""
    for _ in range(_PATIENCE):
        configuration = space.sample(rng)
        if space.key_of(configuration) not in seen:
            return configuration
    if len(seen) >= space.n_configurations:
        return None
    # Few are left: walking through a finite space finds one for certain.
    walk = space.candidates() if math.isinf(space.n_configurations) else space.configurations()
    return next((each for each in walk if space.key_of(each) not in seen), None)
