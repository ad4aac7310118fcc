"""The holdout: examples that no search ever sees, on which the best and the default are scored once it is over."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from dspex.bridge import examples as examples_bridge
from dspex.errors import DataError
from dspex.records import Usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import dspy

    from dspex.optimizers.experiment import Runnable
    from dspex.optimizers.trials import Workshop

    Holdout = float | Iterable[dspy.Example | dict[str, Any]]

_FEWEST = 2
"""Examples on each side: a spread needs two."""


def set_aside(
    train: list[dspy.Example],
    val: list[dspy.Example] | None,
    holdout: Holdout | None,
    *,
    inputs: Sequence[str],
    seed: int,
) -> tuple[list[dspy.Example], list[dspy.Example] | None, list[dspy.Example]]:
    """Return what a study may learn from, what it may score with, and what it never sees.

    Parameters
    ----------
    holdout
        A share of the examples that are scored, or examples of their own.

    Raises
    ------
    DataError
        If the share leaves too few on either side, or the study has an example's inputs elsewhere too.
    """
    if holdout is None:
        return train, val, []
    if isinstance(holdout, (bool, int, float)):
        held = _drawn(train if val is None else val, holdout, seed)
        # The same question must not come back from the other set.
        return _without(train, held), None if val is None else _without(val, held), held
    held = _unique(examples_bridge.checked(holdout, what="holdout", inputs=inputs))
    rest = [*train, *(val or ())]
    n_shared = len(rest) - len(_without(rest, held))
    if n_shared:
        raise DataError(
            f"the holdout must hold examples that are nowhere else, {n_shared} of the others have inputs that it has too",
            hint="holdout=0.2 sets a fifth aside",
        )
    return train, val, held


def score(shop: Workshop, programs: Iterable[Runnable]) -> None:
    """Score programs on the holdout; what is known is not paid for again."""
    evaluator = shop.evaluator_beside()
    for each in programs:
        evaluator.evaluate(each.program, each.lm, each.configuration_key, shop.definition.holdout)


def usage(shop: Workshop) -> Usage:
    """Return what scoring the holdout has taken."""
    keys = {examples_bridge.key_of(each) for each in shop.definition.holdout}
    return sum((row.usage for row in shop.ledger.rows() if row.example_key in keys), Usage())


def _drawn(pool: list[dspy.Example], share: float, seed: int) -> list[dspy.Example]:
    if isinstance(share, bool) or not 0 < share < 1:
        raise DataError(
            f"holdout must be a share > 0 and < 1, or examples, got {share!r}", hint="holdout=0.2"
        )
    unique = _unique(pool)
    n_held = round(share * len(unique))
    if n_held < _FEWEST or len(unique) - n_held < _FEWEST:
        raise DataError(
            f"holdout={share:g} of {len(unique)} different examples leaves {n_held} to hold out and "
            f"{len(unique) - n_held} to search with; each side needs {_FEWEST}",
            hint="give more examples, or another share",
        )
    return random.Random(f"holdout-{seed}").sample(unique, n_held)


def _without(examples: list[dspy.Example], held: Iterable[dspy.Example]) -> list[dspy.Example]:
    asked = {_asked(each) for each in held}
    return [each for each in examples if _asked(each) not in asked]


def _unique(examples: Iterable[dspy.Example]) -> list[dspy.Example]:
    return list({_asked(each): each for each in examples}.values())


def _asked(example: dspy.Example) -> str:
    """Name an example by its inputs: another label would make it no other question."""
    return examples_bridge.key_of(example.inputs())
