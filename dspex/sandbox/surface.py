"""The response surface: how likely a simulated model is right, exactly."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dspex.sandbox.chance import gauss, logistic
from dspex.sandbox.families import FAMILIES
from dspex.sandbox.items import Item, sentences
from dspex.sandbox.world import Wire, world

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_WORST_SLIP = 0.95
_WORST_FORMAT = 0.5


@dataclass(frozen=True, slots=True)
class Traits:
    """What a prompt gives a model to work with."""

    temperature: float
    reasoning: bool = False
    """Whether it may think before it answers."""
    stated: frozenset[str] = frozenset()
    """The skills that the instructions put into words."""
    statements: int = 0
    """How many sentences the instructions have."""
    coverage: Mapping[str, float] = field(default_factory=dict)
    """Skill → right demonstrations of it, less the wrong ones."""
    wire: Wire = "chat"


def chance_of_right(model: str, traits: Traits, item: Item) -> float:
    """Say how likely a model's answer is right, if it can be read at all.

    Parameters
    ----------
    model
        A short name, such as "small".

    Returns
    -------
    The product of the chances of every needed skill, times that of no slip from heat.
    """
    chances = chances_of_needs(model, traits, item)
    return math.prod(chances) * (1 - slip_rate(model, traits.temperature, traits.reasoning))


def chances_of_needs(model: str, traits: Traits, item: Item) -> list[float]:
    """Say how likely a model masters each skill that an item needs, in their order."""
    constants, task = world().models[model], world().tasks[item.family]
    base = constants.ability + constants.affinity[item.family] - task.spread * _difficulty(item.key)
    told = constants.instruction * min(1.0, constants.capacity / max(traits.statements, 1))
    chances = []
    for need in item.needs:
        numbers = task.skills[need.skill]
        shown = numbers.shown * _saturated(traits.coverage.get(need.skill, 0.0))
        logits = base + numbers.prior + constants.demo * shown
        if need.skill in traits.stated:
            logits += told
        if traits.reasoning:
            logits += constants.reasoning * numbers.reasoning
        chances.append(logistic(logits))
    return chances


def slip_rate(model: str, temperature: float, reasoning: bool) -> float:
    """Say how often heat, or reasoning without any, spoils an answer that would be right."""
    constants = world()
    rate = constants.calm_slip * temperature
    rate += constants.models[model].heat * max(0.0, temperature - constants.calm_temperature) ** 2
    if reasoning:
        rate += constants.rigid_slip * max(0.0, 1 - temperature / constants.rigid_temperature) ** 2
    return min(rate, _WORST_SLIP)


def chance_of_malformed(model: str, wire: Wire, temperature: float) -> float:
    """Say how often an answer cannot be read in its format."""
    if wire == "plain":
        return 0.0
    constants = world().models[model]
    heat = max(0.0, temperature - world().calm_temperature) ** 2
    return min(constants.malformed[wire] + constants.malformed_heat * heat, _WORST_FORMAT)


def chance_of_success(model: str, traits: Traits, item: Item) -> float:
    """Say how likely a DSPy call ends with the right answer, its second attempt included.

    An answer in the chat or XML format that cannot be read makes DSPy ask once more, in JSON, with the
    same chance of being right; a JSON answer that cannot be read is an error.
    """
    unreadable = chance_of_malformed(model, traits.wire, traits.temperature)
    if traits.wire in ("chat", "xml"):
        unreadable *= chance_of_malformed(model, "json", traits.temperature)
    return chance_of_right(model, traits, item) * (1 - unreadable)


def coverage_of(demos: Iterable[tuple[Item, bool]], family: str) -> dict[str, float]:
    """Count how often demonstrations of a family show each of its skills, rightly or wrongly."""
    coverage = dict.fromkeys(world().tasks[family].skills, 0.0)
    for item, right in demos:
        if item.family != family:
            continue
        shown = {need.skill for need in item.needs}
        for name in coverage:
            if name in shown:
                coverage[name] += 1 if right else -1
            elif right:
                coverage[name] += world().demo_transfer
    return coverage


@functools.lru_cache(maxsize=1024)
def stated_in(instructions: str, family: str) -> tuple[frozenset[str], int]:
    """Find which of a family's skills a text puts into words, and count its sentences."""
    parts = sentences(instructions)
    stated = {
        skill.name
        for skill in FAMILIES[family].skills
        if skill.cues and any(all(cue.search(part) for cue in skill.cues) for part in parts)
    }
    return frozenset(stated), len(parts)


@functools.lru_cache(maxsize=16384)
def _difficulty(key: str) -> float:
    return gauss("difficulty", key)


def _saturated(coverage: float) -> float:
    gain = 1 - math.exp(-abs(coverage) / world().demo_scale)
    return math.copysign(gain, coverage)
