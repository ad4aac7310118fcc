"""What a search is: it is asked for configurations and told their scores; it never runs anything itself."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import random

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
