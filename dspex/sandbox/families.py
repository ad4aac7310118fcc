"""All families of tasks, and how a text finds its own."""

from __future__ import annotations

import functools
import re
from random import Random
from typing import TYPE_CHECKING

from dspex.sandbox import arithmetic, extraction, triage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dspex.sandbox.items import Family, Item

FAMILIES: Mapping[str, Family] = {
    family.name: family for family in (triage.FAMILY, arithmetic.FAMILY, extraction.FAMILY)
}

# A word problem or a report may mention a parcel; only what nobody else understands is triaged.
_ORDER = (extraction.FAMILY, arithmetic.FAMILY, triage.FAMILY)
_PIECE = re.compile(r"\n|\\n|\\?\"|': '|', '|': |\{'|'\}")
_FIELD_NAME = re.compile(r"^\w+: ")
_SHORTEST = 12
_REACH = 6


def recognise(inputs: Mapping[str, str]) -> Item | None:
    """Find the item that inputs stand for, in whichever family understands them."""
    return _recognised(tuple(inputs.items()))


@functools.lru_cache(maxsize=16384)
def _recognised(inputs: tuple[tuple[str, str], ...]) -> Item | None:
    for family in _ORDER:
        item = family.solve(dict(inputs))
        if item is not None:
            return item
    return None


def sightings(text: str) -> list[Item]:
    """Find the items that somebody quotes in a longer text, such as an optimizer's evidence.

    Items are found as lines, as JSON strings, and in the repr of DSPy's examples.
    """
    pieces = [_FIELD_NAME.sub("", piece.strip()) for piece in _PIECE.split(text)]
    pieces = [piece for piece in pieces if len(piece) > _SHORTEST]
    return list({item.key: item for item in _seen(pieces)}.values())


def _seen(pieces: list[str]) -> Iterator[Item]:
    asked: set[int] = set()
    for index, piece in enumerate(pieces):
        pair = _with_question(pieces, index)
        if pair is not None:
            asked.add(pair[0])
            yield pair[1]
        elif index not in asked and (item := recognise({"text": piece})) is not None:
            yield item


def _with_question(pieces: list[str], index: int) -> tuple[int, Item] | None:
    """Find the question about a passage shortly after it."""
    for other in range(index + 1, min(index + _REACH, len(pieces))):
        if pieces[other].endswith("?"):
            item = recognise({"passage": pieces[index], "question": pieces[other]})
            if item is not None:
                return other, item
    return None


def drawn(family: Family, seed: int, start: int, count: int) -> list[dict[str, str]]:
    """Draw the inputs of `count` different items, from the `start`-th on.

    Every item stands for itself: the same seed and number give the same one, and none comes twice.
    """
    rng = Random(f"{family.name} {seed}")
    seen: dict[tuple[str, ...], dict[str, str]] = {}
    while len(seen) < start + count:
        inputs = family.draw(rng, len(seen))
        seen.setdefault(tuple(inputs.values()), inputs)
    return list(seen.values())[start:]
