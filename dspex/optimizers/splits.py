"""Which examples are learnt from or shown as demonstrations, and which ones score: never the same for both."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from dspex.bridge import examples as examples_bridge
from dspex.errors import DataError

if TYPE_CHECKING:
    import dspy

_DEMO_SHARE = 0.2
"""Share of the trainset that is kept for demos when there is no valset."""


def split(
    train: list[dspy.Example], val: list[dspy.Example] | None, *, wants_demos: bool, seed: int
) -> tuple[list[dspy.Example], list[dspy.Example]]:
    """Decide which examples may be shown and which are scored; never the same one for both."""
    pool = list(train)
    random.Random(seed).shuffle(pool)
    if val is not None:
        scored_keys = {examples_bridge.key_of(example) for example in val}
        return [example for example in pool if examples_bridge.key_of(example) not in scored_keys], val
    if not wants_demos:
        return [], train
    n_demos = max(1, round(_DEMO_SHARE * len(pool)))
    if n_demos >= len(pool):
        raise DataError(
            f"demos and scoring need different examples, the trainset has {len(train)}",
            hint="give more examples, a valset, or take demos out of the space",
        )
    return pool[:n_demos], pool[n_demos:]


def halves(
    train: list[dspy.Example], val: list[dspy.Example] | None, seed: int, notices: list[str]
) -> tuple[list[dspy.Example], list[dspy.Example]]:
    """Decide which examples are learnt from and which ones score, so that nobody is scored on what it shows."""
    if val is not None:
        return split(train, val, wants_demos=True, seed=seed)
    if len(train) < 2:  # noqa: PLR2004  # one to learn from, one to score
        raise DataError(
            f"several optimizers need examples to learn from and others to score, the trainset has {len(train)}",
            hint="give more examples, or a valset",
        )
    pool = list(train)
    random.Random(seed).shuffle(pool)
    half = len(pool) // 2
    notices.append(f"without a valset {half} examples are learnt from and the other {len(pool) - half} score")
    return pool[:half], pool[half:]
