"""The surrogate: abilities apart from difficulties, spreads that hold, gradients that are right."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dspex.errors import DataError
from dspex.optimizers.beacon.ability import Ability
from dspex.optimizers.beacon.evidence import Evidence, Within
from dspex.optimizers.beacon.kernel import Kernel, Prior

LABELS = np.array([True, True, False])


def observed(kind: str, seed: int = 0, n: int = 40, per: int = 20) -> tuple[Ability, np.ndarray]:
    """Show a surrogate scores of random configurations on random examples, and return the true abilities."""
    rng = np.random.default_rng(seed)
    rows = np.column_stack([rng.integers(0, 4, n), rng.integers(0, 3, n), rng.random(n)]).astype(float)
    truth = rows[:, 0] - 1.5 + np.sin(3 * rows[:, 2])
    difficulty = rng.normal(0, 1.5, 150)
    ability = Ability(LABELS, likelihood="auto")
    for row in rows:
        ability.add(row)
    for c in range(n):
        for i in rng.choice(150, per, replace=False):
            logit = truth[c] - difficulty[i]
            score = float(rng.random() < 1 / (1 + math.exp(-logit)))
            ability.observe(c, int(i), score if kind == "logit" else 30 + 10 * (logit + rng.normal(0, 0.5)))
    ability.refit()
    return ability, truth


@pytest.mark.parametrize(("kind", "least"), [("logit", 0.93), ("gaussian", 0.99)])
def test_abilities_are_told_apart_from_difficulties(kind, least):
    """Configurations that saw different examples are ranked right, whatever the range of the scores."""
    ability, truth = observed(kind)
    assert ability.is_logit == (kind == "logit")
    assert np.corrcoef(ability.abilities, truth)[0, 1] > least


def test_the_truth_lies_within_the_spread():
    """Over ten worlds, two standard deviations hold 90 to 100 % of the centred abilities."""
    held = []
    for seed in range(10):
        ability, truth = observed("logit", seed)
        belief = ability.believe(ability.rows)
        off = (belief.mean - belief.mean.mean()) - (truth - truth.mean())
        held.append(np.mean(np.abs(off) < 2 * belief.sd))
    assert 0.9 <= np.mean(held) <= 1.0


def test_a_pending_batch_narrows_the_spread_and_leaves_the_mean():
    """What is on its way counts as told, without a say in what it will be."""
    ability, _ = observed("logit")
    mean, sd = ability.mean_sd(ability.rows[:1])
    ability.await_scores(0, 8)
    later_mean, later_sd = ability.mean_sd(ability.rows[:1])
    assert later_mean == pytest.approx(mean)
    assert later_sd[0] < 0.95 * sd[0]


def test_joint_draws_have_the_mean_and_the_spread_believed():
    """Ten thousand draws show the belief's own moments."""
    ability, _ = observed("logit")
    belief = ability.believe(ability.rows[:5])
    draws = belief.draws(10_000, np.random.default_rng(0))
    assert draws.mean(axis=0) == pytest.approx(belief.mean, abs=0.03)
    assert np.cov(draws.T) == pytest.approx(belief.covariance, abs=0.02)


@pytest.mark.parametrize("learns_noise", [False, True])
def test_the_gradient_of_the_evidence_is_the_difference_quotient(learns_noise):
    """Every setting's slope equals a central difference, inactive columns included."""
    rng = np.random.default_rng(1)
    rows = np.column_stack([rng.integers(0, 4, 25), rng.integers(0, 3, 25), rng.random(25)]).astype(float)
    rows[3, 2] = rows[8, 2] = rows[5, 1] = np.nan
    evidence = Evidence(
        prior=Prior.of(LABELS, smooth=False),
        is_label=LABELS,
        rows=rows,
        targets=rng.normal(size=25),
        noise_variances=rng.uniform(0.05, 0.5, 25),
        within=Within(4.0, 30) if learns_noise else None,
        log_noise=-1.0,
    )
    settings = np.append(evidence.prior.mean + 0.1 * rng.normal(size=10), -0.8)
    _, slope = evidence(settings)
    for k in range(len(settings)):
        step = np.zeros(len(settings))
        step[k] = 1e-5
        quotient = (evidence(settings + step)[0] - evidence(settings - step)[0]) / 2e-5
        assert slope[k] == pytest.approx(quotient, abs=1e-6)


def test_inactive_columns_are_a_place_of_their_own():
    """Two inactive values are alike, an active and an inactive one share nothing, and the matrix stays positive."""
    prior = Prior.of(LABELS, smooth=False)
    rows = np.array([[0, 1, np.nan], [0, 1, np.nan], [0, 1, 0.5], [0, np.nan, 0.5]])
    matrix = Kernel(prior.mean, LABELS).between(rows, rows)
    assert matrix[0, 1] == pytest.approx(matrix[0, 0])
    assert matrix[0, 2] < matrix[0, 0] - 0.3
    assert np.linalg.eigvalsh(matrix).min() > -1e-9


def test_expected_scores_weigh_every_example_alike():
    """Abilities become shares of right answers that rise with them and stay in [0, 1]."""
    ability, truth = observed("logit")
    scores = ability.score_of(np.sort(truth), 150)
    assert (np.diff(scores) >= 0).all()
    assert 0 < scores[0] < scores[-1] < 1


@pytest.mark.parametrize(
    ("score", "message"), [(math.nan, "must be a finite number"), (1.5, r"must be in \[0, 1\]")]
)
def test_scores_that_cannot_be_are_refused(score, message):
    """A score that is no number, or not a share where shares were promised, is an error."""
    ability = Ability(LABELS, likelihood="logit")
    ability.add(np.array([0.0, 0.0, 0.5]))
    with pytest.raises(DataError, match=message):
        ability.observe(0, 0, score)
