"""BEACON: searches configurations by small batches of examples, and says how sure it is of what it recommends."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Literal

import numpy as np

from dspex.errors import DataError, ExecutionError, UnknownNameError
from dspex.optimizers.beacon import acquire
from dspex.optimizers.beacon.ability import Ability
from dspex.optimizers.beacon.encode import Encoder
from dspex.optimizers.beacon.goal import Goal, front, oriented
from dspex.optimizers.beacon.register import Register
from dspex.optimizers.beacon.work import Recommendation, Row, Work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from dspex.optimizers.beacon.ability import Likelihood
    from dspex.records import Configuration, Value
    from dspex.variables.space import Space

    FloatArray = NDArray[np.float64]

Acquisition = Literal["auto", "thompson", "ei", "ucb", "pi", "ucbe"]
ACQUISITIONS = ("auto", "ei", "pi", "thompson", "ucb", "ucbe")

_RANDOM = 400
"""Fresh random candidates per ask."""
_TOP = 6
"""Leaders whose neighbours are candidates."""
_WALKED = 512
"""Finite spaces up to this size are candidates as a whole."""
_DRAWN = 200
"""Candidates that joint draws are made of: those that may well be good."""
_CAUTION = 0.3
_BATCH = 8
_FIRST = 2
"""Examples of a configuration's first batch: many are seen to be poor at once."""
_CHEAP = 6
"""Thompson winners among which the cheaper is preferred."""
_HOPE = 2.5
_FADING = 10.0
"""How fast a prior counts less, in configurations."""
_BALANCES = 16
"""Balances of several objectives that promising candidates are kept for."""
_SECOND_LOOK = 6
"""With ``"ucbe"``, one proposal of so many is Thompson's."""
_EAGERNESS = 0.8
"""How far joint draws go, as a share of what is believed: batches run in parallel, and explore enough."""
_CERTAIN = 500
"""Joint draws behind a certificate."""


class Beacon:
    """Proposes work, is told scores, and recommends; it never runs anything itself.

    Parameters
    ----------
    space
        What may vary.
    examples
        Names of the examples that score a configuration.
    seed
        Of every draw.
    batch
        Most examples per proposal: 8, or 1 with ``"ucbe"``, if left out. A configuration's first batch has
        2, so that many are seen to be poor for few calls.
    acquisition
        ``"thompson"`` (top-two, on joint draws), ``"ei"``, ``"ucb"``, ``"pi"``, or ``"ucbe"``, a bandit that
        looks at means and counts alone; ``"auto"`` takes that one for a small pool of unrelated
        configurations (one variable of labels), and Thompson's else.
    likelihood
        ``"logit"`` for scores in [0, 1], ``"gaussian"`` for any; ``"auto"`` looks at the scores.
    goal
        What is wanted beside quality: see `Goal`.
    cost_aware
        Prefer the cheaper among proposals that seem equally good.
    prior
        How promising a configuration is thought to be, any positive number; it counts less the more is known.
    refit_every
        Asks between two fits of the surrogate's settings.

    References
    ----------
    Russo (2020), top-two sampling; Rasch (1960), ability and difficulty; Hvarfner et al. (2022), "piBO:
    augmenting acquisition functions with user beliefs".

    Examples
    --------
    >>> from dspex.variables.base import Choice
    >>> from dspex.variables.space import Space
    >>> right = {"curt": 0.2, "kind": 0.9, "vague": 0.4}
    >>> beacon, luck = (
    ...     Beacon(Space(tone=Choice(list(right))), examples=[f"e{k}" for k in range(60)]),
    ...     random.Random(0),
    ... )
    >>> for _ in range(4):
    ...     for work in beacon.ask(3):
    ...         tone = work.configuration["tone"]
    ...         beacon.tell(
    ...             Row(work.configuration, e, float(luck.random() < right[tone])) for e in work.examples
    ...         )
    >>> beacon.recommend().configuration
    {'tone': 'kind'}
    """

    def __init__(
        self,
        space: Space,
        *,
        examples: Sequence[str],
        seed: int = 0,
        batch: int | None = None,
        acquisition: Acquisition = "auto",
        likelihood: Likelihood = "auto",
        goal: Goal | None = None,
        cost_aware: bool = False,
        prior: Callable[[Configuration], float] | None = None,
        refit_every: int = 12,
    ) -> None:
        if acquisition not in ACQUISITIONS:
            raise UnknownNameError.among("acquisition", acquisition, ACQUISITIONS)
        if not examples or (batch is not None and batch < 1):
            raise DataError(f"examples and batch must be at least 1, got {len(examples)} and {batch}")
        if acquisition == "auto":
            # Where nothing tells of likeness, every configuration speaks for itself alone.
            is_pool = len(space) == 1 and space.n_configurations <= _WALKED
            is_plain = goal in {None, Goal()} and not cost_aware and prior is None
            acquisition = "ucbe" if is_pool and is_plain else "thompson"
        if acquisition != "thompson" and goal not in {None, Goal()}:
            raise DataError(
                f"{acquisition!r} knows quality alone, got {goal}",
                hint="acquisition='thompson' serves any goal",
            )
        self._space, self._acquisition = space, acquisition
        self._batch = batch or (1 if acquisition == "ucbe" else _BATCH)
        self._goal, self._cost_aware, self._prior = goal or Goal(), cost_aware, prior
        self._refit_every = refit_every
        self._encoder = Encoder(space)
        self._random, self._rng = random.Random(seed), np.random.default_rng(seed)
        self._register = Register(space, examples)
        is_label = self._encoder.is_label
        self._ability = Ability(is_label, likelihood=likelihood)
        self._costs = {
            name: Ability(is_label, likelihood="gaussian")
            for name in ("cost_usd", "latency_s")
            if name in self._goal.needs or (cost_aware and name == "cost_usd")
        }
        self._asked, self._refit_at, self._is_stale = 0, 2, True
        self._default_asked = False
        self._walked = self._walk()

    # ── what to evaluate ────────────────────────────────────────────────────────────────────────

    def ask(self, n: int = 1) -> list[Work]:
        """Return up to `n` proposals to be evaluated in parallel; fewer, or none, when all is evaluated.

        The default configuration is the first of all.
        """
        is_first = not self._default_asked
        asked = [self._work(self._space.default())] if is_first else []
        self._default_asked = True
        if self._acquisition != "ucbe":
            self._asked += n
            self._update()
        if len(asked) < n:
            asked += [self._work(each) for each in self._chosen(n - len(asked))]
        return [work for work in asked if work.examples]

    def _work(self, configuration: Configuration) -> Work:
        """Set examples aside that the configuration has not seen."""
        number = self._known(configuration)
        examples = self._register.set_aside(number, self._size(number), self._random)
        self._ability.await_scores(number, len(examples))
        return Work(self._register.configurations[number], self._space.key_of(configuration), examples)

    def _known(self, configuration: Configuration) -> int:
        """Return a configuration's number; the models hear of new ones."""
        number, is_new = self._register.number_of(configuration)
        if is_new:
            row = self._encoder.rows([configuration])[0]
            for model in (self._ability, *self._costs.values()):
                model.add(row)
        return number

    def _walk(self) -> list[dict[str, Value]] | None:
        if self._space.n_configurations > _WALKED:
            return None
        return list(self._space.candidates(_WALKED))

    def _candidates(self) -> list[dict[str, Value]]:
        """Gather what may be tried: everything, or what was tried, what is beside the leaders, and fresh samples."""
        if self._walked is not None:
            return self._walked
        found = list(self._register.configurations)
        for number in self._leaders()[:_TOP]:
            found.extend(self._encoder.neighbours(self._register.configurations[number], self._random))
        found.extend(self._space.sample(self._random) for _ in range(_RANDOM))
        return found

    def _leaders(self) -> list[int]:
        mean, sd = self._ability.mean_sd(self._ability.rows)
        return [int(k) for k in np.argsort(_CAUTION * sd - mean, kind="stable")]

    def _chosen(self, count: int) -> list[dict[str, Value]]:
        candidates = [each for each in self._candidates() if self._register.is_open(each)]
        if not candidates:
            return []
        rows = self._encoder.rows(candidates)
        n_drawn = count if self._acquisition == "thompson" else 0
        if self._acquisition == "ucbe":
            # A bandit by counts never returns to an arm that had bad luck twice; draws do.
            n_drawn = (self._asked + count) // _SECOND_LOOK - self._asked // _SECOND_LOOK
            self._asked += count
        chosen = self._by_thompson(candidates, rows, n_drawn) if n_drawn else []
        return [candidates[k] for k in [*chosen, *self._one_by_one(candidates, rows, count - n_drawn)]]

    def _by_thompson(self, candidates: list[dict[str, Value]], rows: FloatArray, count: int) -> list[int]:
        """Choose winners of joint draws; among several winners, those cheaper or thought more promising."""
        self._update()
        promising = self._promising(rows)
        choices = _CHEAP if self._cost_aware or self._prior is not None else 1
        worth = self._goal.worth(self._draws(rows[promising], 2 * choices * count), self._rng)
        winners = promising[acquire.top_two(worth, choices * count, self._rng)]
        if choices == 1:
            return [int(k) for k in winners]
        chosen = []
        for group in winners.reshape(count, choices):
            weights = self._weights([candidates[k] for k in group], rows[group])
            chosen.append(int(self._rng.choice(group, p=weights / weights.sum())))
        return chosen

    def _promising(self, rows: FloatArray) -> NDArray[np.int_]:
        """Keep the candidates that may well be good: joint draws of all would take most of the time."""
        if len(rows) <= _DRAWN:
            return np.arange(len(rows))
        # Bounds may be met by what is hoped for and not by what is believed: both are looked at.
        sides = (_HOPE, -_CAUTION) if self._goal.bounds else (_HOPE,)
        balances = 1 if len(self._goal.objectives) == 1 else _BALANCES
        most = _DRAWN // (balances * len(sides))
        kept = [
            np.argsort(-self._hoped(rows, side, balances), axis=1, kind="stable")[:, :most] for side in sides
        ]
        return np.unique(np.concatenate(kept))

    def _hoped(self, rows: FloatArray, side: float, balances: int) -> FloatArray:
        """Return worths some standard deviations to the good side, shape ``(balances, n)``."""
        mean, sd = self._ability.mean_sd(rows)
        hopes = {"quality": self._in_units(self._ability, mean + side * sd)}
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
        return model.score_of(abilities, self._register.n_examples)

    def _draws(self, rows: FloatArray, count: int) -> dict[str, FloatArray]:
        """Draw everything that the goal needs."""
        drawn = {"quality": self._drawn(self._ability, rows, count)}
        for name in self._goal.needs:
            if name in self._costs:
                drawn[name] = np.exp(self._drawn(self._costs[name], rows, count))
        return drawn

    def _drawn(self, model: Ability, rows: FloatArray, count: int) -> FloatArray:
        belief = model.believe(rows)
        abilities = belief.draws(count, self._rng, eagerness=_EAGERNESS)
        if self._goal.bounds:
            # Of many candidates one always meets the bounds by luck: half of the draws go by what is believed.
            abilities[::2] = belief.mean - _CAUTION * belief.sd
        return self._in_units(model, abilities)

    def _weights(self, candidates: Sequence[Configuration], rows: FloatArray) -> FloatArray:
        """Weigh candidates by what they cost and by what was thought of them beforehand."""
        weights = np.ones(len(candidates))
        if self._cost_aware and self._costs["cost_usd"].n_scores:
            model = self._costs["cost_usd"]
            logs = model.score_of(model.mean_sd(rows)[0], self._register.n_examples)
            weights *= np.exp(logs.min() - logs)
        if self._prior is not None:
            fading = _FADING / (1 + len(self._register.configurations))
            weights *= np.array([max(self._prior(each), 1e-12) for each in candidates]) ** fading
        return weights

    def _one_by_one(self, candidates: list[dict[str, Value]], rows: FloatArray, count: int) -> list[int]:
        """Choose the largest acquisition, and again as if that one were under way, so that the next is another."""
        chosen: list[int] = []
        weights = self._weights(candidates, rows)
        awaited: list[tuple[int, int]] = []
        for _ in range(count):
            values = self._acquired(candidates, rows)
            values = (values - values.min()) / max(float(np.ptp(values)), 1e-12) * weights
            chosen.append(int(np.argmax(values)))
            number = self._known(candidates[chosen[-1]])
            awaited.append((number, self._size(number)))
            self._ability.await_scores(*awaited[-1])
        for number, size in awaited:
            self._ability.await_scores(number, -size)
        return chosen

    def _size(self, number: int) -> int:
        """Return how many examples a configuration's next batch has: few at first, many once it seems good."""
        return min(self._batch, max(_FIRST, self._register.n_told[number]), self._register.n_unseen(number))

    def _acquired(self, candidates: list[dict[str, Value]], rows: FloatArray) -> FloatArray:
        if self._acquisition == "ucbe":
            numbers = [self._known(each) for each in candidates]
            return acquire.upper_bound_by_count(*self._ability.tallies(numbers), rng=self._rng)
        mean, sd = self._ability.mean_sd(rows)
        if self._acquisition == "ucb":
            return acquire.upper_confidence_bound(mean, sd)
        told = self._ability.mean_sd(self._ability.rows)[0]
        best = float(told.max()) if len(told) else 0.0
        if self._acquisition == "pi":
            return acquire.probability_of_improvement(mean, sd, best)
        return acquire.expected_improvement(mean, sd, best)

    # ── what came of it ─────────────────────────────────────────────────────────────────────────

    def tell(self, rows: Iterable[Row]) -> None:
        """Take in scores, whether they were asked for or come from elsewhere."""
        for row in rows:
            number = self._known(row.configuration)
            example, was_pending = self._register.tell(number, row.example)
            self._ability.observe(number, example, row.score)
            if was_pending:
                self._ability.await_scores(number, -1)
            for name, model in self._costs.items():
                value = row.cost_usd if name == "cost_usd" else row.latency_s
                if value is not None:
                    model.observe(number, example, float(np.log(max(value, 1e-9))))
            self._is_stale = True

    def _update(self) -> None:
        """Draw the conclusions from what was told, and now and then learn the settings anew."""
        if not self._is_stale:
            return
        models = (self._ability, *self._costs.values())
        known = max(self._asked, self._ability.n_scores // _BATCH)
        if known >= self._refit_at:
            # The more is known, the less a dozen more proposals can change the settings.
            self._refit_at = known + max(self._refit_every, known // 10)
            for model in models:
                model.refit()
        else:
            for model in models:
                model.fit()
        self._is_stale = False

    # ── what to use ─────────────────────────────────────────────────────────────────────────────

    def recommend(self) -> Recommendation:
        """Return the configuration that is best as far as is known, preferring what is known well.

        Raises
        ------
        ExecutionError
            If nothing was scored yet, or nothing that was scored meets the goal's bounds.
        """
        return self._certified(self._best())

    def best(self) -> dict[str, Value]:
        """Return what `recommend` would, without saying how sure it is: cheaper while searching."""
        return self._register.configurations[self._best()]

    def _best(self) -> int:
        scored = self._scored()
        values = self._cautious(scored)
        missed = self._goal.missed(values)[0]
        if (missed > 0).all():
            nearest = self._register.configurations[scored[int(np.argmin(missed))]]
            raise ExecutionError(
                f"none of {len(scored)} configurations is known to meet {self._goal.bounds}",
                hint=f"search on, or lower the bounds; the nearest is {nearest}",
            )
        return scored[int(np.argmax(self._goal.worth(values)))]

    def pareto(self) -> list[dict[str, Value]]:
        """Return the scored configurations that no other beats in every objective, as far as is known."""
        scored = self._scored()
        values = self._cautious(scored)
        kept = np.flatnonzero(self._goal.missed(values)[0] == 0)
        sides = [oriented(name, values[name][0]) for name in self._goal.objectives]
        return [self._register.configurations[scored[kept[k]]] for k in front(np.stack(sides, axis=1)[kept])]

    def is_settled(self, *, regret: float = 0.01, delta: float = 0.05) -> bool:
        """Whether the best is better than the recommended one by more than `regret` with at most probability `delta`."""
        if not self._register.scored:
            return False
        self._update()
        return float((self._regrets(self._best()) > regret).mean()) < delta

    def importances(self) -> dict[tuple[str, ...], float]:
        """Return which shares of the spread in ability are due to each variable and each pair, largest first.

        They are the surrogate's own terms, evaluated at what it believes of fresh samples.
        """
        self._update()
        rows = self._encoder.rows([self._space.sample(self._random) for _ in range(_CERTAIN)])
        names = [column.name for column in self._encoder.columns]
        parts = {
            tuple(names[d] for d in term): float(np.var(mean))
            for term, mean in self._ability.effects(rows).items()
        }
        total = sum(parts.values()) or 1.0
        return dict(sorted(((k, v / total) for k, v in parts.items()), key=lambda pair: -pair[1]))

    def _scored(self) -> list[int]:
        scored = self._register.scored
        if not scored:
            raise ExecutionError("nothing was scored yet", hint="tell() what asked work scored")
        return scored

    def _cautious(self, numbers: Sequence[int]) -> dict[str, FloatArray]:
        """Return what each configuration will at least show, shape ``(1, n)`` per objective."""
        rows = self._ability.rows[numbers]
        if self._acquisition == "ucbe":
            values = {"quality": self._ability.tallies(list(numbers)).means[None]}
        else:
            self._update()
            mean, sd = self._ability.mean_sd(rows)
            values = {
                "quality": self._ability.score_of(mean - _CAUTION * sd, self._register.n_examples)[None]
            }
        if self._costs:
            self._update()
        for name, model in self._costs.items():
            logs = model.score_of(model.mean_sd(rows)[0], self._register.n_examples)
            values[name] = np.exp(logs)[None]
        return values

    def _certified(self, number: int) -> Recommendation:
        self._update()
        regrets = self._regrets(number)
        mean, sd = self._ability.mean_sd(self._ability.rows[[number]])
        ends = self._ability.score_of(
            np.array([mean[0] - sd[0], mean[0], mean[0] + sd[0]]), self._register.n_examples
        )
        return Recommendation(
            configuration=self._register.configurations[number],
            mean=float(ends[1]),
            sd=float(ends[2] - ends[0]) / 2,
            probability_best=float((regrets <= 0).mean()),
            regret_bound=float(np.quantile(regrets, 0.95)),
            n_scores=self._ability.n_scores,
        )

    def _regrets(self, number: int) -> FloatArray:
        """Draw how much quality is lost by using one configuration instead of the best candidate."""
        candidates = self._candidates()
        rows = self._encoder.rows([self._register.configurations[number], *candidates])
        rows = rows[np.append(0, 1 + self._promising(rows[1:]))]
        draws = self._ability.believe(rows).draws(_CERTAIN, self._rng)
        scores = self._ability.score_of(draws, self._register.n_examples)
        lost: FloatArray = scores.max(axis=1) - scores[:, 0]
        return lost
