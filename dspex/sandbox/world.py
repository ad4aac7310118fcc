"""The simulated world's constants, read from `world.toml`."""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dspex.errors import UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Mapping

Wire = Literal["chat", "json", "xml", "plain"]
"""The format that a prompt asks its answer in: one of DSPy's adapters, or none."""

PREFIX = "sandbox/"


@dataclass(frozen=True, slots=True)
class ModelConstants:
    """What one simulated model can do and costs; `world.toml` explains each number."""

    ability: float
    instruction: float
    capacity: int
    demo: float
    reasoning: float
    heat: float
    reflect: float
    input_usd: float
    output_usd: float
    typical_latency_s: float
    latency_sigma: float
    malformed: Mapping[str, float]
    malformed_heat: float
    affinity: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class SkillConstants:
    """How well a skill is known beforehand, in logits, and how much reasoning and demonstrations help it."""

    prior: float
    reasoning: float
    shown: float = 1.0


@dataclass(frozen=True, slots=True)
class TaskConstants:
    """A task's skills, and the deviation of its items' difficulty, in logits."""

    spread: float
    skills: Mapping[str, SkillConstants]


@dataclass(frozen=True, slots=True)
class World:
    """All constants; `world.toml` explains each number."""

    version: str
    default_temperature: float
    demo_scale: float
    demo_transfer: float
    calm_temperature: float
    calm_slip: float
    rigid_temperature: float
    rigid_slip: float
    drift_cold: float
    drift_hot: float
    tokens_per_answer: int
    induce: float
    models: Mapping[str, ModelConstants]
    tasks: Mapping[str, TaskConstants]


@functools.cache
def world() -> World:
    """Read the constants once."""
    table = tomllib.loads((Path(__file__).parent / "world.toml").read_text(encoding="utf-8"))
    models = {name: ModelConstants(**row) for name, row in table.pop("models").items()}
    tasks = {
        name: TaskConstants(
            row["spread"], {skill: SkillConstants(**numbers) for skill, numbers in row["skills"].items()}
        )
        for name, row in table.pop("tasks").items()
    }
    return World(**table, models=models, tasks=tasks)


MODELS = tuple(PREFIX + name for name in ("small", "medium", "large"))


def short_name(name: object) -> str:
    """Find a model by its short or full name.

    Examples
    --------
    >>> short_name("sandbox/small")
    'small'

    Raises
    ------
    UnknownNameError
        If there is no such simulated model.
    """
    short = str(name).removeprefix(PREFIX)
    if short not in world().models:
        raise UnknownNameError.among("sandbox model", name, MODELS)
    return short
