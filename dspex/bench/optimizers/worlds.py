"""Worlds with a known truth, in which every call is counted: programs scored example by example."""

from __future__ import annotations

import math
import zlib
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from dspex.errors import DataError
from dspex.variables.base import Choice, Float, Int
from dspex.variables.space import Space

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from dspex.records import Configuration

    FloatArray = NDArray[np.float64]

_EXAMPLES = 300
_AXES = 2
"""Configurations and examples; at least as many of each."""


class World(Protocol):
    """Something to search, whose best is known."""

    space: Space
    n_examples: int

    @property
    def calls(self) -> int:
        """How many (configuration, example) pairs were paid for; each is free from then on."""
        ...

    def score(self, configuration: Configuration, examples: Sequence[int]) -> list[float]:
        """Return the scores of a configuration on some examples."""
        ...

    def regret(self, configuration: Configuration) -> float:
        """Return how far a configuration's expected score is below the best."""
        ...


class Simulated:
    """A program whose chance of being right follows from its parts, their interplay, and the example.

    The logarithm of the odds is a sum: an effect of each part, effects of pairs, one of the whole
    combination, less the example's difficulty. Scores are drawn once for each pair.

    Parameters
    ----------
    sizes
        How many labels each part has.
    numbers
        How many numeric settings there are, each with its best place and width.
    """

    def __init__(self, sizes: dict[str, int], numbers: Sequence[str], seed: int) -> None:
        rng = np.random.default_rng(seed)
        self._seed = seed
        self._sizes = sizes
        self._effects = {name: rng.normal(0, 0.8, size) for name, size in sizes.items()}
        names = list(sizes)
        self._pairs = {
            (a, b): rng.normal(0, 0.35, (sizes[a], sizes[b]))
            for k, a in enumerate(names)
            for b in names[k + 1 :]
        }
        self._own = rng.normal(0, 0.25, tuple(sizes.values()))
        self._tops = {
            name: (rng.uniform(0.1, 0.9), rng.uniform(0.5, 2.0), rng.normal(0, 0.15, sizes[names[0]]))
            for name in numbers
        }
        self._level = rng.normal(-0.3, 0.5)
        self._difficulty = rng.normal(0, 1.5, _EXAMPLES)
        self._told: dict[tuple[str, int], float] = {}
        self.n_examples = _EXAMPLES
        self.space = self._space()
        self._best = self._expected(self._ability_of_best())

    @property
    def calls(self) -> int:
        """How many pairs were paid for."""
        return len(self._told)

    def _space(self) -> Space:
        labels = {name: Choice([*range(size)]) for name, size in self._sizes.items()}
        numbers: dict[str, Float | Int] = {name: Float(0.0, 1.0) for name in self._tops if name != "demos"}
        if "demos" in self._tops:
            numbers["demos"] = Int(0, 8)
        return Space({**labels, **numbers})

    def score(self, configuration: Configuration, examples: Sequence[int]) -> list[float]:
        """Return right or wrong per example."""
        key = self.space.key_of(configuration)
        ability = self._ability(configuration)
        scores = []
        for k in examples:
            if (key, k) not in self._told:
                luck = zlib.crc32(f"{self._seed}/{key}/{k}".encode()) / 2**32
                chance = 1 / (1 + math.exp(self._difficulty[k] - ability))
                self._told[key, k] = float(luck < chance)
            scores.append(self._told[key, k])
        return scores

    def regret(self, configuration: Configuration) -> float:
        """Return how far a configuration's expected share of right answers is below the best."""
        return max(0.0, self._best - self._expected(self._ability(configuration)))

    def _ability(self, configuration: Configuration) -> float:
        labels = {name: _code(configuration[name]) for name in self._sizes}
        total = self._level + sum(self._effects[name][k] for name, k in labels.items())
        total += sum(table[labels[a], labels[b]] for (a, b), table in self._pairs.items())
        total += self._own[tuple(labels.values())]
        first = next(iter(labels.values()))
        for name, (top, height, shifts) in self._tops.items():
            value = _number(configuration[name]) / (8 if name == "demos" else 1)
            total -= height * (value - top - shifts[first]) ** 2 / 0.15
        return float(total)

    def _ability_of_best(self) -> float:
        """Walk through every combination of labels; each number's best place follows from the first label."""
        shape = tuple(self._sizes.values())
        total = self._level + self._own.copy()
        for k, name in enumerate(self._sizes):
            total += self._effects[name].reshape([-1 if j == k else 1 for j in range(len(shape))])
        names = list(self._sizes)
        for (a, b), table in self._pairs.items():
            i, j = names.index(a), names.index(b)
            total += table.reshape([shape[k] if k in {i, j} else 1 for k in range(len(shape))])
        for name, (top, height, shifts) in self._tops.items():
            places = np.linspace(0, 1, 9 if name == "demos" else 1001)
            least = ((places[:, None] - top - shifts) ** 2).min(axis=0)
            total -= (height * least / 0.15).reshape([-1, *[1] * (len(shape) - 1)])
        return float(total.max())

    def _expected(self, ability: float) -> float:
        return float((1 / (1 + np.exp(self._difficulty - ability))).mean())


def mixed(seed: int) -> Simulated:
    """Return a joint space: model, module, adapter, instruction, temperature and demos."""
    return Simulated(
        {"model": 4, "module": 3, "adapter": 2, "instruction": 8}, ["temperature", "demos"], seed
    )


def prompt(seed: int) -> Simulated:
    """Return a space as MIPROv2 searches it: 12 instructions, 12 sets of demos."""
    return Simulated({"instruction": 12, "demo_set": 12}, [], seed)


class Matrix:
    """A table of scores that were measured once: configurations by examples, in a seeded order.

    Parameters
    ----------
    scores
        Shape ``(n_configurations, n_examples)``, larger is better.
    """

    def __init__(self, scores: FloatArray, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.scores = scores[rng.permutation(len(scores))][:, rng.permutation(scores.shape[1])]
        self.n_examples = scores.shape[1]
        self.space = Space(configuration=Choice([*range(len(scores))]))
        self._told: set[tuple[int, int]] = set()
        self._means = self.scores.mean(axis=1)

    @property
    def calls(self) -> int:
        """How many scores were looked up."""
        return len(self._told)

    def score(self, configuration: Configuration, examples: Sequence[int]) -> list[float]:
        """Look scores up."""
        row = _code(configuration["configuration"])
        self._told.update((row, k) for k in examples)
        return [float(self.scores[row, k]) for k in examples]

    def regret(self, configuration: Configuration) -> float:
        """Return how far a configuration's mean is below the best mean."""
        return float(self._means.max() - self._means[_code(configuration["configuration"])])


def _code(value: Any) -> int:
    return int(value)


def _number(value: Any) -> float:
    return float(value)


def load(path: Path) -> FloatArray:
    """Read the first array of an ``.npz`` or ``.npy`` file as a table of scores.

    Raises
    ------
    DataError
        If there is no such file, or no table of finite numbers in it.
    """
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}", hint="numpy.savez(path, scores=table)") from error
    table = found if isinstance(found, np.ndarray) else found[found.files[0]]
    if table.ndim != _AXES or min(table.shape) < _AXES or not np.isfinite(table).all():
        raise DataError(
            f"a score matrix is a finite table of configurations by examples, got shape {table.shape}"
        )
    return np.asarray(table, dtype=float)


def unstructured(seed: int, n_configurations: int = 40, n_examples: int = 400) -> FloatArray:
    """Make an unstructured table: right or wrong, by ability, difficulty and a discrimination per example."""
    rng = np.random.default_rng(seed)
    ability = rng.normal(0, 1.0, n_configurations)
    difficulty, sharpness = rng.normal(0, 1.5, n_examples), rng.lognormal(0, 0.4, n_examples)
    chance = 1 / (1 + np.exp(-sharpness * (ability[:, None] - difficulty)))
    return (rng.random(chance.shape) < chance).astype(float)


FAMILIES = {"mixed": mixed, "prompt": prompt}
