"""What a task is made of: items, the skills they need, and families that draw and solve them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from random import Random

Answer = str | int


@dataclass(frozen=True, slots=True)
class Need:
    """A skill without which an item is answered wrongly."""

    skill: str
    slip: Answer
    """The answer of somebody who lacks it here."""
    reason: str
    """The thought that it takes, as a sentence."""


@dataclass(frozen=True, slots=True)
class Item:
    """A text that a family's solver understood. It is simulated, and so is its truth."""

    family: str
    key: str
    """The inputs, joined: luck and difficulty depend on it."""
    answer: Answer
    needs: tuple[Need, ...]


@dataclass(frozen=True, slots=True)
class Skill:
    """Something to know or to be able to do, and how it is put into words."""

    name: str
    statement: str = ""
    """The skill as an instruction; empty if it cannot be stated."""
    cues: tuple[re.Pattern[str], ...] = ()
    """A sentence in which all of them are found states the skill."""


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of simulated task."""

    name: str
    description: str
    signature: str
    instructions: str
    inputs: tuple[str, ...]
    output: str
    skills: tuple[Skill, ...]
    draw: Callable[[Random, int], dict[str, str]]
    """Write the inputs of the n-th item."""
    solve: Callable[[Mapping[str, str]], Item | None]
    """Understand inputs, or say None. Only the solver decides what is right."""


def skill(name: str, statement: str = "", *cues: str) -> Skill:
    """Make a skill from regular expressions, which ignore case."""
    return Skill(name, statement, tuple(re.compile(cue, re.IGNORECASE) for cue in cues))


def pick(rng: Random, choices: tuple[str, ...]) -> str:
    """Choose one text."""
    return rng.choice(choices)


_SENTENCE_END = re.compile(r"(?<=[.!?;])\s+|\n+")


def sentences(text: str) -> list[str]:
    """Split a text where a sentence or a line ends."""
    return [part for part in _SENTENCE_END.split(text.strip()) if part]
