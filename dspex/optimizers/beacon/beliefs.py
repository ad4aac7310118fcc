"""What is believed of quality, cost and latency together: what may well be good, draws of it, and what is safe to say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dspex.optimizers.beacon.ability import Ability

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dspex.optimizers.beacon.ability import Likelihood
    from dspex.optimizers.beacon.goal import Goal
    from dspex.optimizers.beacon.work import Row

    FloatArray = NDArray[np.float64]

CAUTION = 0.3
"""Standard deviations below what is believed: what is known well is preferred."""
_DRAWN = 200
"""Candidates that joint draws are made of: those that may well be good."""
_HOPE = 2.5
_BALANCES = 16
"""Balances of several objectives that promising candidates are kept for."""
_EAGERNESS = 0.8
"""How far joint draws go, as a share of what is believed: batches run in parallel, and explore enough."""
_SCORES = 8
"""So many scores count as one proposal where none was asked for."""


class Beliefs:
    """A model of quality, and one of the logarithm of each cost that matters.

    Parameters
    ----------
    is_label
        Which columns of a row are labels.
    goal
        What is wanted.
    likelihood
        Of quality.
    cost_aware
        Whether dollars matter though the goal does not name them.
    n_examples
        That a configuration can be scored on.
    refit_every
        Proposals between two fits of the models' settings.
    rng
        Of every draw.
    """

    def __init__(
        self,
        is_label: NDArray[np.bool_],
        goal: Goal,
        *,
        likelihood: Likelihood,
        cost_aware: bool,
        n_examples: int,
        refit_every: int,
        rng: np.random.Generator,
    ) -> None:
        self._goal, self._n_examples, self._refit_every, self._rng = goal, n_examples, refit_every, rng
        self.ability = Ability(is_label, likelihood=likelihood)
        self._costs = {
            name: Ability(is_label, likelihood="gaussian")
            for name in ("cost_usd", "latency_s")
            if name in goal.needs or (cost_aware and name == "cost_usd")
        }
        self._refit_at, self._is_stale = 2, True

    # ── what is told ────────────────────────────────────────────────────────────────────────────

    def add(self, row: FloatArray) -> None:
        """Hear of a configuration."""
        for model in (self.ability, *self._costs.values()):
            model.add(row)

    def observe(self, number: int, example: int, row: Row) -> None:
        """Take in a score, and what it cost."""
        self.ability.observe(number, example, row.score)
        for name, model in self._costs.items():
            value = row.cost_usd if name == "cost_usd" else row.latency_s
            if value is not None:
                model.observe(number, example, float(np.log(max(value, 1e-9))))
        self._is_stale = True

    def update(self, n_asked: int) -> None:
        """Draw the conclusions from what was told, and now and then learn the settings anew."""
        if not self._is_stale:
            return
        models = (self.ability, *self._costs.values())
        known = max(n_asked, self.ability.n_scores // _SCORES)
        if known >= self._refit_at:
            # The more is known, the less a dozen more proposals can change the settings.
            self._refit_at = known + max(self._refit_every, known // 10)
            for model in models:
                model.refit()
        else:
            for model in models:
                model.fit()
        self._is_stale = False

    # ── what follows ────────────────────────────────────────────────────────────────────────────

    def promising(self, rows: FloatArray) -> NDArray[np.int_]:
        """Keep the candidates that may well be good: joint draws of all would take most of the time."""
        if len(rows) <= _DRAWN:
            return np.arange(len(rows))
        # Bounds may be met by what is hoped for and not by what is believed: both are looked at.
        sides = (_HOPE, -CAUTION) if self._goal.bounds else (_HOPE,)
        balances = 1 if len(self._goal.objectives) == 1 else _BALANCES
        most = _DRAWN // (balances * len(sides))
        kept = [
            np.argsort(-self._hoped(rows, side, balances), axis=1, kind="stable")[:, :most] for side in sides
        ]
        return np.unique(np.concatenate(kept))

    def _hoped(self, rows: FloatArray, side: float, balances: int) -> FloatArray:
        """Return worths some standard deviations to the good side, shape ``(balances, n)``."""
        mean, sd = self.ability.mean_sd(rows)
        hopes = {"quality": self._in_units(self.ability, mean + side * sd)}
        for name, model in self._costs.items():
            mean, sd = model.mean_sd(rows)
            hopes[name] = np.exp(self._in_units(model, mean - side * sd))
        return self._goal.worth(
            {name: np.tile(hope, (balances, 1)) for name, hope in hopes.items()}, self._rng
        )

    def _in_units(self, model: Ability, abilities: FloatArray) -> FloatArray:
        """Translate abilities into what is scored; for quality alone their order is enough."""
        if self._goal.needs == ("quality",):
            return abilities
        return model.score_of(abilities, self._n_examples)

    def draws(self, rows: FloatArray, count: int) -> dict[str, FloatArray]:
        """Draw everything that the goal needs."""
        drawn = {"quality": self._drawn(self.ability, rows, count)}
        for name in self._goal.needs:
            if name in self._costs:
                drawn[name] = np.exp(self._drawn(self._costs[name], rows, count))
        return drawn

    def _drawn(self, model: Ability, rows: FloatArray, count: int) -> FloatArray:
        belief = model.believe(rows)
        abilities = belief.draws(count, self._rng, eagerness=_EAGERNESS)
        if self._goal.bounds:
            # Of many candidates one always meets the bounds by luck: half of the draws go by what is believed.
            abilities[::2] = belief.mean - CAUTION * belief.sd
        return self._in_units(model, abilities)

    def cautious(self, rows: FloatArray, quality: FloatArray | None = None) -> dict[str, FloatArray]:
        """Return what each configuration will at least show, shape ``(1, n)`` per objective.

        Parameters
        ----------
        quality
            In place of what is believed of it, shape ``(n,)``.
        """
        if quality is None:
            mean, sd = self.ability.mean_sd(rows)
            quality = self.ability.score_of(mean - CAUTION * sd, self._n_examples)
        values = {"quality": quality[None]}
        for name, model in self._costs.items():
            logs = model.score_of(model.mean_sd(rows)[0], self._n_examples)
            values[name] = np.exp(logs)[None]
        return values

    def cheapness(self, rows: FloatArray) -> FloatArray:
        """Return how cheap candidates are, the cheapest 1; all alike while no cost is known."""
        model = self._costs["cost_usd"]
        if not model.n_scores:
            return np.ones(len(rows))
        logs = model.score_of(model.mean_sd(rows)[0], self._n_examples)
        return np.asarray(np.exp(logs.min() - logs))

    def spread_of(self, row: FloatArray) -> tuple[float, float]:
        """Return the score that is expected of one configuration, and its standard deviation."""
        mean, sd = self.ability.mean_sd(row)
        ends = self.ability.score_of(np.array([mean[0] - sd[0], mean[0], mean[0] + sd[0]]), self._n_examples)
        return float(ends[1]), float(ends[2] - ends[0]) / 2

    def scores(self, rows: FloatArray, count: int) -> FloatArray:
        """Draw scores jointly, shape ``(count, n)``."""
        return self.ability.score_of(self.ability.believe(rows).draws(count, self._rng), self._n_examples)
