"""The surrogate: how able each configuration is, learnt together with how difficult each example is.

A score of configuration ``c`` on example ``i`` is modelled as right with probability ``sigmoid(f(c) - b_i)``
when scores lie in [0, 1], and as ``f(c) - b_i`` plus noise otherwise. Abilities ``f`` are a Gaussian process over
configurations, so that what one configuration shows is evidence about those like it; difficulties ``b``
are independent. Because difficulties are known apart, two configurations can be compared though they
have seen different examples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from dspex.errors import DataError
from dspex.optimizers.beacon.algebra import algebra
from dspex.optimizers.beacon.evidence import Evidence, Within
from dspex.optimizers.beacon.kernel import Kernel, Prior
from dspex.optimizers.beacon.newton import minimum

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

Likelihood = Literal["auto", "logit", "gaussian"]

_DIFFICULTY_SPREAD = 1.5
_ROUNDS = 10
_SETTLED = 0.02
_LONGEST = 3.0
_MOST_REFIT = 150
"""Configurations that settings are learnt from: those observed most."""
_GRID = np.linspace(-9.0, 9.0, 73)


class Belief(NamedTuple):
    """What is believed of several abilities at once: their means and their covariance."""

    mean: FloatArray
    covariance: FloatArray

    @property
    def sd(self) -> FloatArray:
        """The standard deviation of each."""
        return np.sqrt(np.maximum(np.diag(self.covariance), 1e-18))

    def draws(self, count: int, rng: np.random.Generator, *, eagerness: float = 1.0) -> FloatArray:
        """Draw all of them together, shape ``(count, n)``, `eagerness` times as far from the mean as believed."""
        root = algebra(len(self.mean)).cholesky(self.covariance + 1e-9 * np.eye(len(self.mean)))
        return self.mean + eagerness * (rng.standard_normal((count, len(self.mean))) @ root.T)


class Tallies(NamedTuple):
    """Counts and plain means of some configurations, and how wide the range of scores is."""

    counts: FloatArray
    means: FloatArray
    span: float


class Ability:
    """Abilities of configurations and difficulties of examples, given the scores so far.

    Parameters
    ----------
    is_label
        Which columns of a configuration's row are labels.
    likelihood
        ``"logit"`` for scores in [0, 1], ``"gaussian"`` for any; ``"auto"`` looks at the scores.
    smooth
        Whether scores follow from the columns alone, as those of a mathematical function do.
    noise
        Standard deviation of a score beyond its configuration and example, as a share of the scores' own;
        learnt if left out.

    References
    ----------
    Rasmussen and Williams (2006), "Gaussian processes for machine learning", algorithms 3.1 and 3.2; Rasch
    (1960), "Probabilistic models for some intelligence and attainment tests".
    """

    def __init__(
        self,
        is_label: NDArray[np.bool_],
        *,
        likelihood: Likelihood = "auto",
        smooth: bool = False,
        noise: float | None = None,
    ) -> None:
        self._is_label = is_label
        self._likelihood = likelihood
        self._fixed_noise = noise
        self._prior = Prior.of(is_label, smooth=smooth)
        self._log_noise = float(np.log(0.3 if noise is None else noise))
        self._kernel = Kernel(self._prior.mean.copy(), is_label)
        self._difficulty_spread = _DIFFICULTY_SPREAD
        self._rows = np.empty((0, len(is_label)))
        self._matrix = np.empty((0, 0))
        self._who: list[int] = []
        self._what: list[int] = []
        self._scores: list[float] = []
        self._pending = np.zeros(0)
        self.mean, self.spread = 0.0, 1.0
        self.abilities, self.difficulties = np.zeros(0), np.zeros(0)
        self._difficulty_variance = np.zeros(0)
        self._pull, self._weight = np.zeros(0), np.zeros(0)
        self._dispersion = 1.0
        self._known: FloatArray | None = None
        self._told = np.empty((0, 0))

    @property
    def n_configurations(self) -> int:
        """How many configurations are known, observed or pending."""
        return len(self._rows)

    @property
    def n_scores(self) -> int:
        """How many scores have been observed."""
        return len(self._scores)

    @property
    def rows(self) -> FloatArray:
        """The rows of the known configurations, shape ``(n_configurations, n_columns)``."""
        return self._rows

    @property
    def is_logit(self) -> bool:
        """Whether scores are taken for shares of right answers."""
        if self._likelihood != "auto":
            return self._likelihood == "logit"
        return not self._scores or (min(self._scores) >= 0 and max(self._scores) <= 1)

    def add(self, row: FloatArray) -> int:
        """Take in a configuration, and return its number."""
        self._rows = np.vstack([self._rows, row])
        self._pending = np.append(self._pending, 0)
        self._known = None
        self.abilities = np.append(self.abilities, 0.0)
        return len(self._rows) - 1

    def observe(self, configuration: int, example: int, score: float) -> None:
        """Take in a score; `fit` draws the conclusions."""
        if not np.isfinite(score):
            raise DataError(f"a score must be a finite number, got {score!r}")
        if self._likelihood == "logit" and not 0 <= score <= 1:
            raise DataError(f"a score must be in [0, 1], got {score!r}", hint="likelihood='gaussian'")
        self._who.append(configuration)
        self._what.append(example)
        self._scores.append(score)

    def await_scores(self, configuration: int, count: int) -> None:
        """Expect `count` more scores of a configuration: its spread narrows, its mean stays."""
        self._known = None
        self._pending[configuration] = max(0.0, self._pending[configuration] + count)

    def tallies(self, numbers: list[int]) -> Tallies:
        """Return counts (pending ones too) and plain means of some configurations, and the scores' span."""
        n, who = len(self._rows), np.array(self._who, dtype=int)
        counts = np.bincount(who, minlength=n)
        means = np.bincount(who, self._scores, n) / np.maximum(counts, 1)
        span = 1.0 if self.is_logit else max(self._scores) - min(self._scores) or 1.0
        return Tallies((counts + self._pending)[numbers], means[numbers], span)

    # ── drawing the conclusions ─────────────────────────────────────────────────────────────────

    def fit(self) -> None:
        """Find the most probable abilities and difficulties under the present settings."""
        self._grow()
        self._known = None
        who, what = np.array(self._who, dtype=int), np.array(self._what, dtype=int)
        n_examples = int(what.max()) + 1 if len(what) else 0
        scores = self._standardised()
        known = min(len(self.difficulties), n_examples)
        self.difficulties = np.append(self.difficulties[:known], np.zeros(n_examples - known))
        for _ in range(_ROUNDS):
            before = self.abilities
            self._step(who, what, scores)
            if len(before) == 0 or np.abs(self.abilities - before).max() < _SETTLED:
                break
        self._measure_dispersion(who, what, scores)

    def _standardised(self) -> FloatArray:
        scores = np.array(self._scores)
        if self.is_logit or not len(scores):
            self.mean, self.spread = 0.0, 1.0
            return scores
        self.mean, self.spread = float(scores.mean()), float(scores.std()) or 1.0
        return (scores - self.mean) / self.spread

    def _grow(self) -> None:
        """Extend the covariance by the configurations that are new to it."""
        old, n = len(self._matrix), len(self._rows)
        if old == n:
            return
        block = self._kernel.between(self._rows, self._rows[old:])
        grown = np.empty((n, n))
        grown[:old, :old] = self._matrix
        grown[:, old:] = block
        grown[old:, :old] = block[:old].T
        self._matrix = grown

    def _pulls(
        self, who: NDArray[np.int_], what: NDArray[np.int_], scores: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Return each score's slope and curvature of the log-likelihood, in its ability."""
        expected = self.abilities[who] - self.difficulties[what]
        if self.is_logit:
            expected = _sigmoid(expected)
            strength = 1 / self._dispersion
            return (scores - expected) * strength, np.maximum(expected * (1 - expected), 1e-4) * strength
        precision = np.exp(-2 * self._log_noise)
        return (scores - expected) * precision, np.full(len(scores), precision)

    def _step(self, who: NDArray[np.int_], what: NDArray[np.int_], scores: FloatArray) -> None:
        """Take one Newton step in abilities and difficulties together, the latter eliminated.

        What an example of unknown difficulty says about an ability is worth less: that is the second term
        of `_told`.
        """
        n, m = len(self._rows), len(self.difficulties)
        pull, weight = self._pulls(who, what, scores)
        working = weight * (self.abilities[who] - self.difficulties[what]) + pull
        target = np.bincount(who, working, n).astype(float)
        if m <= 1:
            self._told = np.diag(np.bincount(who, weight, n).astype(float))
            self._weight = np.diag(self._told).copy()
            self._move(target)
            return
        shared = np.zeros((n, m))
        np.add.at(shared, (who, what), weight)
        precision = np.bincount(what, weight, m) + self._difficulty_spread**-2
        seen = np.bincount(what, working, m)
        self._told = np.diag(shared.sum(axis=1)) - (shared / precision) @ shared.T
        self._weight = np.maximum(np.diag(self._told), 0.0)
        self._move(target - shared @ (seen / precision))
        moved = (shared.T @ self.abilities - seen) / precision
        self.difficulties = self.difficulties + np.clip(moved - self.difficulties, -_LONGEST, _LONGEST)
        self._difficulty_variance = 1 / precision

    def _move(self, target: FloatArray) -> None:
        """Go to the abilities that balance prior and scores, but no further than `_LONGEST` at once."""
        pull = self._balance(target)
        self._pull = np.append(self._pull, np.zeros(len(pull) - len(self._pull)))
        move = self._matrix @ (pull - self._pull)
        share = (
            1.0 if not self.is_logit else min(1.0, _LONGEST / max(float(np.abs(move).max(initial=0.0)), 1e-9))
        )
        self._pull = self._pull + share * (pull - self._pull)
        self.abilities = self._matrix @ self._pull

    def _balance(self, target: FloatArray) -> FloatArray:
        if len(self.difficulties) > 1:
            return target - self._explained(self._told) @ (self._matrix @ target)
        # Without noise the weights are huge: this way round nothing cancels.
        n, root = len(target), np.sqrt(self._weight)
        inverse, _ = algebra(n).inverse(np.eye(n) + root[:, None] * self._matrix * root)
        balanced: FloatArray = root * (inverse @ (target / np.where(root > 0, root, 1.0)))
        return balanced

    def _explained(self, told: FloatArray) -> FloatArray:
        """Return the matrix ``M`` such that scores leave ``K - K M K`` of the covariance ``K``."""
        n = len(told)
        if len(self.difficulties) > 1:
            root = algebra(n).cholesky(told + 1e-9 * np.eye(n))
        else:
            root = np.diag(np.sqrt(np.diag(told)))
        inverse, _ = algebra(n).inverse(np.eye(n) + root.T @ self._matrix @ root)
        explained: FloatArray = root @ inverse @ root.T
        return explained

    def _measure_dispersion(self, who: NDArray[np.int_], what: NDArray[np.int_], scores: FloatArray) -> None:
        """Measure how far graded scores scatter, compared with right and wrong."""
        if not self.is_logit or len(scores) < 2 * len(self._rows) or np.isin(scores, (0.0, 1.0)).all():
            self._dispersion = 1.0
            return
        expected = _sigmoid(self.abilities[who] - self.difficulties[what])
        surprise = (scores - expected) ** 2 / np.maximum(expected * (1 - expected), 1e-3)
        self._dispersion = float(np.clip(surprise.mean() * 1.1, 0.02, 1.0))

    # ── what follows ────────────────────────────────────────────────────────────────────────────

    def believe(self, rows: FloatArray) -> Belief:
        """Return the joint belief about the abilities of configurations, pending ones taken as told."""
        across, known = self._across(rows)
        return Belief(across.T @ self._pull, self._kernel.between(rows, rows) - across.T @ known)

    def mean_sd(self, rows: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return mean and standard deviation of each ability; cheaper than `believe` for many."""
        across, known = self._across(rows)
        variance = self._kernel.diagonal - np.einsum("ij,ij->j", across, known)
        return across.T @ self._pull, np.sqrt(np.maximum(variance, 1e-18))

    def effects(self, rows: FloatArray) -> dict[tuple[int, ...], FloatArray]:
        """Return what each column, and each pair of columns, adds to the abilities of some configurations."""
        self._extend()
        return {term: part.T @ self._pull for term, part in self._kernel.terms(self._rows, rows)}

    def _across(self, rows: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return covariances with the known configurations, and what these explain of them."""
        across = self._kernel.between(self._rows, rows)
        if self._known is None:
            self._extend()
            told = self._told + np.diag(self._pending * self._typical_weight())
            self._known = self._explained(told)
        return across, self._known @ across

    def _extend(self) -> None:
        """Make room for configurations that came after the last fit: nothing is told of them yet."""
        self._grow()
        n, old = len(self._rows), len(self._told)
        self._told = np.pad(self._told, (0, n - old))
        self._pull = np.append(self._pull, np.zeros(n - len(self._pull)))
        self._weight = np.append(self._weight, np.zeros(n - len(self._weight)))

    def _typical_weight(self) -> float:
        """How much one more score is expected to tell."""
        if self._scores:
            return float(self._weight.sum() / len(self._scores))
        return 0.2 if self.is_logit else float(np.exp(-2 * self._log_noise))

    def score_of(self, abilities: FloatArray, n_examples: int) -> FloatArray:
        """Translate abilities into expected scores over `n_examples` examples, seen or not."""
        if not self.is_logit:
            shift = self.difficulties.mean() if len(self.difficulties) else 0.0
            centred: FloatArray = (abilities - shift) * self.spread + self.mean
            return centred
        variance = np.append(self._difficulty_variance, self._difficulty_spread**2)
        softened = np.sqrt(1 + np.pi / 8 * variance[: len(self.difficulties) + 1])
        if len(variance) <= len(self.difficulties):
            softened = np.ones(len(self.difficulties) + 1)
        each = np.append(self.difficulties, 0.0)
        share = np.append(np.ones(len(self.difficulties)), max(0, n_examples - len(self.difficulties)))
        if share.sum() == 0:
            share[-1] = 1
        curve = _sigmoid((_GRID[:, None] - each) / softened) @ (share / share.sum())
        scores: FloatArray = np.interp(abilities, _GRID, curve)
        return scores

    # ── learning the settings ───────────────────────────────────────────────────────────────────

    def refit(self, iterations: int = 30) -> None:
        """Learn scales, reaches and noise from the scores, and fit again.

        They maximise the marginal likelihood of the abilities that the scores point to, times the prior.
        """
        if not self._scores:
            return
        self.fit()
        chosen = np.argsort(-self._weight, kind="stable")[:_MOST_REFIT]
        chosen = chosen[self._weight[chosen] > 0]
        evidence = Evidence(
            prior=self._prior,
            is_label=self._is_label,
            rows=self._rows[chosen],
            targets=self.abilities[chosen] + self._pull[chosen] / self._weight[chosen],
            noise_variances=1 / self._weight[chosen],
            within=self._within(chosen) if self._learns_noise else None,
            log_noise=self._log_noise,
        )
        found = minimum(evidence, np.append(self._kernel.settings, self._log_noise), iterations)
        if self._learns_noise:
            self._log_noise = float(found[-1])
        self._kernel = Kernel(found[:-1], self._is_label)
        self._matrix = np.empty((0, 0))
        if len(self.difficulties) > 1 and not self.is_logit:
            seen = self.difficulties**2 + self._difficulty_variance
            self._difficulty_spread = float(np.clip(np.sqrt(seen.mean()), 0.05, 3.0))
        self.fit()

    def _within(self, chosen: NDArray[np.int_]) -> Within:
        """Measure how far the scores of one configuration lie apart, difficulties taken off."""
        who, what = np.array(self._who, dtype=int), np.array(self._what, dtype=int)
        n = len(self._rows)
        values = self._standardised() + self.difficulties[what]
        centre = np.bincount(who, values, n) / np.maximum(np.bincount(who, minlength=n), 1)
        inside = np.isin(who, chosen)
        # Difficulties that are themselves uncertain hide some of the scatter.
        hidden = self._difficulty_variance[what] if len(self.difficulties) > 1 else 0.0
        squares = float(((values - centre[who]) ** 2 + hidden)[inside].sum())
        return Within(squares, int(inside.sum()) - len(chosen))

    @property
    def _learns_noise(self) -> bool:
        return self._fixed_noise is None and not self.is_logit


def _sigmoid(x: FloatArray) -> FloatArray:
    return 1 / (1 + np.exp(-np.clip(x, -30, 30)))
