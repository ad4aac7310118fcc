"""How the best of a study compares with where it began, and studies with each other: paired by example."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from dspex.bridge import examples as examples_bridge
from dspex.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    import pandas as pd

    from dspex.optimizers.experiment import Experiment

On = Literal["holdout", "search"]
_FEWEST = 2
_LEVEL = 0.05


@dataclass(frozen=True, slots=True)
class Difference:
    """What two programs scored on the same examples, and what may be concluded from it.

    Attributes
    ----------
    on
        ``holdout``: examples that no search saw; ``search``: those that the best was chosen by, where it is
        flattered.
    difference
        Mean of the paired differences, with a 95 % interval from `low` to `high`; positive if the first is
        better.
    p_value
        Two-sided, by permutation.
    effect
        Cohen's d of the paired differences.
    cliff
        How much more often the first is better than worse, in [-1, 1].
    observed, corrected
        What the best of all configurations scored in the search, and without the luck of the winner; None
        where too few were scored on the same examples.
    """

    first: str
    second: str
    on: On
    n: int
    first_score: float
    second_score: float
    difference: float
    low: float
    high: float
    p_value: float
    effect: float
    cliff: float
    observed: float | None = None
    corrected: float | None = None

    @property
    def winner(self) -> str | None:
        """The one that is better, if the interval excludes no difference and so does the test."""
        if self.p_value >= _LEVEL or self.low <= 0 <= self.high:
            return None
        return self.first if self.difference > 0 else self.second

    def __str__(self) -> str:
        place = "held-out examples" if self.on == "holdout" else "examples of the search itself"
        text = (
            f"{self.first} {self.first_score:.3f}, {self.second} {self.second_score:.3f} on {self.n} {place}: "
            f"{self.difference:+.3f} [{self.low:+.3f}, {self.high:+.3f}], p = {self.p_value:.3g}, d = {self.effect:.2f}; "
        )
        return text + ("no difference is shown" if self.winner is None else f"{self.winner} is better")


def between(
    first: Mapping[str, float], second: Mapping[str, float], *, names: tuple[str, str], on: On
) -> Difference:
    """Compare scores by example, over the examples that both have.

    Raises
    ------
    DataError
        If they share fewer than two.

    Examples
    --------
    >>> right = {f"example {k}": 1.0 for k in range(10)}
    >>> wrong = dict.fromkeys(right, 0.0) | {"example 0": 1.0}
    >>> print(between(right, wrong, names=("new", "old"), on="holdout"))
    new 1.000, old 0.100 on 10 held-out examples: +0.900 [+0.800, +1.031], p = 0.00391, d = 2.85; new is better
    """
    from dspex.optimizers import stats

    shared = sorted(set(first) & set(second))
    if len(shared) < _FEWEST:
        raise DataError(
            f"{names[0]} and {names[1]} share {len(shared)} scored examples, a comparison needs {_FEWEST}",
            hint="score both on the same valset or holdout",
        )
    a, b = [first[key] for key in shared], [second[key] for key in shared]
    found = stats.compare(a, b)
    return Difference(
        *names, on, found.n, sum(a) / len(a), sum(b) / len(b), found.difference, found.low, found.high,
        found.p_value, found.effect, found.cliff,
    )  # fmt: skip


def with_default(study: Experiment) -> Difference:
    """Compare a study's best with its default: on the holdout if it was scored, else where the search was."""
    from dataclasses import replace

    best, default = _best_scores(study), study.example_scores(study.default_program())
    on, kept = _place(held_out(study), best, default)
    found = between(_only(best, kept), _only(default, kept), names=("best", "default"), on=on)
    optimism = _optimism(study)
    if optimism is None:
        return found
    observed = study.best.score
    return replace(found, observed=observed, corrected=observed - optimism)


def with_others(studies: Sequence[Experiment]) -> pd.DataFrame:
    """Compare the best of each study with the best of each other one: a row a pair.

    ``p_adjusted`` is Holm's: that any row below a level is there by luck has at most that probability.

    Raises
    ------
    DataError
        If there are fewer than two studies, or they are scored by different metrics.
    """
    import pandas as pd

    if len(studies) < _FEWEST:
        raise DataError(
            f"a comparison needs two studies, got {len(studies)}", hint="dspex.compare(one, other)"
        )
    pairs = [of_two(one, other) for one, other in itertools.combinations(studies, 2)]
    adjusted = _holm([each.p_value for each in pairs])
    columns = (
        "first",
        "second",
        "on",
        "n",
        "first_score",
        "second_score",
        "difference",
        "low",
        "high",
        "p_value",
    )
    rows = [
        {name: getattr(each, name) for name in columns} | {"p_adjusted": p, "effect": each.effect}
        for each, p in zip(pairs, adjusted, strict=True)
    ]
    return pd.DataFrame(rows).set_index(["first", "second"])


def of_two(one: Experiment, other: Experiment) -> Difference:
    """Compare the best of two studies, on the holdout if they share one."""
    if one.definition.metric_key != other.definition.metric_key:
        raise DataError(
            f"{one.name} and {other.name} are scored by different metrics: "
            f"{one.definition.identity['metric']} and {other.definition.identity['metric']}",
            hint="the same function must score both",
        )
    first, second = _best_scores(one), _best_scores(other)
    on, kept = _place(held_out(one) & held_out(other), first, second)
    return between(_only(first, kept), _only(second, kept), names=(one.name, other.name), on=on)


def held_out(study: Experiment) -> set[str]:
    """Return the keys of a study's holdout."""
    return {examples_bridge.key_of(each) for each in study.definition.holdout}


def _best_scores(study: Experiment) -> dict[str, float]:
    return study.example_scores(study.best_program())


def _place(
    held: set[str], first: Mapping[str, float], second: Mapping[str, float]
) -> tuple[On, Collection[str]]:
    scored = held & set(first) & set(second)
    if len(scored) >= _FEWEST:
        return "holdout", scored
    return "search", (set(first) & set(second)) - held


def _only(scores: Mapping[str, float], kept: Collection[str]) -> dict[str, float]:
    return {key: score for key, score in scores.items() if key in kept}


def _optimism(study: Experiment) -> float | None:
    """Return by how much the best of a search is flattered, if enough was scored on the same examples."""
    import numpy as np

    from dspex.optimizers import stats, views

    scores = views.heatmap(study).scores
    seen = np.isfinite(scores)
    if min(scores.shape) < _FEWEST:
        return None
    # A search may score most on few examples: the table is of those that half of them have in common.
    common = scores[:, seen.mean(axis=0) > 0.5]  # noqa: PLR2004  # half
    table = common[np.isfinite(common).all(axis=1)]
    if min(table.shape) < _FEWEST:
        return None
    return stats.best_corrected(table).optimism


def _holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p values for their number (Holm, 1979).

    Examples
    --------
    >>> _holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, k in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[k]))
        adjusted[k] = largest
    return adjusted
