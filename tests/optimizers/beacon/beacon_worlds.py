"""Small worlds with a known truth, that BEACON is tried in."""

from __future__ import annotations

import numpy as np

import dspex as dx
from dspex.optimizers.beacon import Beacon, Row

EXAMPLES = [f"e{k}" for k in range(120)]


class World:
    """Right or wrong by model, tone and temperature; the best is model 2, tone "kind", 0.7."""

    space = dx.Space(
        model=dx.Choice(list("abcd")),
        tone=dx.Choice(["brief", "kind", "vague"]),
        temperature=dx.Float(0.0, 1.0),
    )

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.difficulty = self.rng.normal(0, 1.5, len(EXAMPLES))

    def expected(self, configuration) -> float:
        ability = {"a": -1.0, "b": 0.0, "c": 1.5, "d": 0.3}[configuration["model"]]
        ability += {"brief": 0.0, "kind": 0.8, "vague": -0.8}[configuration["tone"]]
        ability -= 4 * (configuration["temperature"] - 0.7) ** 2
        return float((1 / (1 + np.exp(self.difficulty - ability))).mean())

    @property
    def best(self) -> float:
        return self.expected({"model": "c", "tone": "kind", "temperature": 0.7})

    def rows(self, work) -> list[Row]:
        ability = np.log(self.expected(work.configuration) / (1 - self.expected(work.configuration)))
        numbers = [EXAMPLES.index(name) for name in work.examples]
        chance = 1 / (1 + np.exp(self.difficulty[numbers] - ability))
        scores = (self.rng.random(len(numbers)) < chance).astype(float)
        price = {"a": 1.0, "b": 2.0, "c": 8.0, "d": 3.0}[work.configuration["model"]] * 1e-3
        return [
            Row(work.configuration, name, score, price * self.rng.lognormal(0, 0.1), 0.5)
            for name, score in zip(work.examples, scores, strict=True)
        ]


def searched(seed: int, rounds: int, n: int = 8, **options) -> tuple[World, Beacon]:
    """Let BEACON search the world for some rounds."""
    world = World(seed)
    beacon = Beacon(World.space, examples=EXAMPLES, seed=seed, **options)
    for _ in range(rounds):
        for work in beacon.ask(n):
            beacon.tell(world.rows(work))
    return world, beacon
