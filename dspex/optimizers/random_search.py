"""Random search: the baseline that every other optimizer has to beat."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from dspex.optimizers.search import unseen

if TYPE_CHECKING:
    from dspex.records import Configuration, Value
    from dspex.variables.space import Space


class RandomSearch:
    """Draws configurations uniformly, each on its variables' own scales.

    References
    ----------
    Bergstra and Bengio (2012), "Random search for hyper-parameter optimization".
    """

    def __init__(self, space: Space, *, seed: int = 0) -> None:
        self._space = space
        self._rng = random.Random(seed)
        self._seen: set[str] = set()

    def ask(self) -> dict[str, Value] | None:
        """Return the next configuration, the default one first."""
        configuration = unseen(self._space, self._seen, self._rng) if self._seen else self._space.default()
        if configuration is not None:
            self._seen.add(self._space.key_of(configuration))
        return configuration

    def tell(self, configuration: Configuration, score: float) -> None:
        """Learn nothing: that is the point of it."""
