"""The register: which configurations there are, and which examples each has seen or is about to see."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from dspex.records import Configuration, Value
    from dspex.variables.space import Space


class Register:
    """Numbers configurations and examples in the order in which they come.

    Parameters
    ----------
    examples
        Those that may be asked for; others that scores come for get a number too.
    """

    def __init__(self, space: Space, examples: Sequence[str]) -> None:
        self._space = space
        self._names = list(dict.fromkeys(examples))
        self._numbers = {name: k for k, name in enumerate(self._names)}
        self._index: dict[str, int] = {}
        self._unseen: list[list[int]] = []
        self._pending: list[set[int]] = []
        self.configurations: list[dict[str, Value]] = []
        self.n_told: list[int] = []

    @property
    def n_examples(self) -> int:
        """How many examples may be asked for."""
        return len(self._names)

    @property
    def scored(self) -> list[int]:
        """The configurations that have scores."""
        return [number for number, count in enumerate(self.n_told) if count]

    def number_of(self, configuration: Configuration) -> tuple[int, bool]:
        """Return a configuration's number, and whether it is new."""
        key = self._space.key_of(configuration)
        is_new = key not in self._index
        if is_new:
            self._index[key] = len(self.configurations)
            self.configurations.append(dict(configuration))
            self._unseen.append([*range(len(self._names))])
            self._pending.append(set())
            self.n_told.append(0)
        return self._index[key], is_new

    def is_open(self, configuration: Configuration) -> bool:
        """Whether there are examples that a configuration has not seen."""
        number = self._index.get(self._space.key_of(configuration))
        return number is None or bool(self._unseen[number])

    def n_unseen(self, number: int) -> int:
        """Return how many examples a configuration has not seen."""
        return len(self._unseen[number])

    def set_aside(self, number: int, count: int, rng: random.Random) -> tuple[str, ...]:
        """Choose unseen examples at random for a configuration, and expect their scores."""
        chosen = rng.sample(self._unseen[number], count)
        self._unseen[number] = [k for k in self._unseen[number] if k not in chosen]
        self._pending[number].update(chosen)
        return tuple(self._names[k] for k in chosen)

    def tell(self, number: int, example: str) -> tuple[int, bool]:
        """Note a score; return the example's number, and whether the score was expected."""
        k = self._numbers.setdefault(example, len(self._numbers))
        self.n_told[number] += 1
        was_pending = k in self._pending[number]
        self._pending[number].discard(k)
        if k in self._unseen[number]:
            self._unseen[number].remove(k)
        return k, was_pending
