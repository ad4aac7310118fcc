"""Which optimizer fits: chosen from the space, the budget, the noise and the data, with the reason in a sentence."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from dspex.optimizers.budget import SEARCH_TRIALS
from dspex.optimizers.coordinate import Coordinate
from dspex.variables import using

if TYPE_CHECKING:
    from dspex.optimizers.budget import Budget
    from dspex.variables.space import Space

_BATCH = 32
"""Examples of SIMBA's mini-batch."""
_RUNS = 20
"""So many runs of a batch SIMBA needs at least, before a step of it pays."""


class Chosen(NamedTuple):
    """An optimizer and why it was chosen."""

    optimizer: str | Coordinate
    reason: str


def choose(
    space: Space | None, budget: Budget | None, n_examples: int, *, temperature: float | None = None
) -> Chosen:
    """Choose an optimizer.

    Where texts alone vary, SIMBA writes them if the program is noisy and there are examples and calls for
    its batches: it learns from where draws differ. Otherwise demonstrations are bootstrapped. A space that
    the budget lets be walked through is walked through; a larger one is BEACON's, and where it has texts
    too, BEACON takes turns with whoever writes them.

    Parameters
    ----------
    space
        What may vary.
    budget
        When the study stops.
    n_examples
        Of the trainset.
    temperature
        Of the model; None is the provider's own.

    Examples
    --------
    >>> from dspex.variables.base import Choice, Float
    >>> from dspex.variables.space import Space
    >>> choose(Space(tone=Choice(["brief", "kind"])), None, 20)
    Chosen(optimizer='grid', reason='grid was chosen: the budget lets all 2 configurations be tried')
    >>> choose(Space(temperature=Float(0.0, 1.0)), None, 20).optimizer
    'beacon'
    """
    writer, why = _writer(budget, n_examples, is_noisy=temperature is None or temperature > 0)
    texts = [] if space is None else [name for name in space if _is_text(name)]
    if space is None or len(texts) == len(space):
        return Chosen(writer, f"{writer} was chosen: texts alone vary, and {why}")
    if texts and _has_room(budget, n_examples):
        both = Coordinate(["beacon", writer], schedule="alternating")
        reason = f"{', '.join(texts)} can be written anew while the rest is searched, and {why}"
        return Chosen(both, f"beacon and {writer} were chosen: {reason}")
    n_trials, size = _affordable_trials(budget, n_examples), space.n_configurations
    if size <= n_trials:
        return Chosen("grid", f"grid was chosen: the budget lets all {int(size)} configurations be tried")
    many = "endlessly many" if math.isinf(size) else str(int(size))
    return Chosen("beacon", f"beacon was chosen: there are {many} configurations and {n_trials} trials")


def _writer(budget: Budget | None, n_examples: int, *, is_noisy: bool) -> tuple[str, str]:
    """Return who writes texts, and why."""
    calls = None if budget is None else budget.calls
    if n_examples < _BATCH:
        return "bootstrap", f"{n_examples} examples are too few for SIMBA's batches of {_BATCH}"
    if calls is not None and calls < _BATCH * _RUNS:
        return "bootstrap", f"{calls} calls are too few for SIMBA's batches of {_BATCH}"
    if not is_noisy:
        return "bootstrap", "at temperature 0 there is no noise for SIMBA to learn from"
    return "simba", f"the program is noisy and {n_examples} examples suffice for batches of {_BATCH}"


def _is_text(name: str) -> bool:
    return using.what_of(name) in {"demos", "instructions"}


def _has_room(budget: Budget | None, n_examples: int) -> bool:
    """Whether somebody can write texts beside a search: it must be scored a few times."""
    limits = budget is not None and budget.calls is not None
    return not limits or _affordable_trials(budget, n_examples) >= SEARCH_TRIALS // 2


def _affordable_trials(budget: Budget | None, n_examples: int) -> int:
    trials = SEARCH_TRIALS if budget is None or budget.trials is None else budget.trials
    if budget is None or budget.calls is None:
        return trials
    return min(trials, budget.calls // max(n_examples, 1))
