"""One call tunes whatever a function can score: an estimator of another library, or a DSPy program."""

from __future__ import annotations

import random

import pytest
from spaces import SIGNATURE, TRIAGE

import dspex as dx
from dspex import optimizers


class NearestNeighbours:
    """An estimator as scikit-learn writes them: options, `fit`, `score`."""

    def __init__(self, k=1, power=1.0):
        self.k, self.power = k, power

    def fit(self, points, labels):
        self.known = list(zip(points, labels, strict=True))
        return self

    def score(self, points, labels):
        found = [self.predict(point) for point in points]
        return sum(one == other for one, other in zip(found, labels, strict=True)) / len(labels)

    def predict(self, point):
        near = sorted(self.known, key=lambda pair: abs(pair[0] - point) ** self.power)[: self.k]
        votes = [label for _, label in near]
        return max(sorted(set(votes)), key=votes.count)


def noisy_line(seed, n):
    rng = random.Random(seed)
    points = [rng.random() for _ in range(n)]
    return points, [int((point > 0.5) ^ (rng.random() < 0.2)) for point in points]


def tuned(make, score, space, trials):
    """Tune either by the same call: apply a configuration, evaluate what it makes."""
    return optimizers.maximize(lambda configuration: score(make(configuration)), space, trials=trials)


def test_an_estimator_of_another_library():
    """The number of neighbours that suits noisy labels is found."""
    train, test = noisy_line(0, 120), noisy_line(1, 200)
    found = tuned(
        lambda configuration: NearestNeighbours(**configuration).fit(*train),
        lambda estimator: estimator.score(*test),
        dx.Space(k=dx.Int(1, 41, step=2, default=1), power=dx.Float(0.5, 3.0)),
        trials=20,
    )
    assert found.configuration["k"] > 7
    assert found.value > found.trials[0][1] + 0.05


@pytest.mark.usefixtures("runtime")
def test_a_dspy_program():
    """The same call finds the sandbox's better model and module."""
    space = dx.Space(model=dx.Model(list(dx.sandbox.MODELS)), module=dx.Module(["Predict", "ChainOfThought"]))
    program = dx.signature(SIGNATURE).to_dspy()
    import dspy

    found = tuned(
        lambda configuration: space.apply(dspy.Predict(program), configuration, lm=dx.lm),
        lambda program: dx.sandbox.expected_score(program, TRIAGE.dev[:40]),
        space,
        trials=6,
    )
    truth = {str(at): value for at, value in found.trials}
    assert len(truth) == 6
    assert found.configuration["model"] == "sandbox/large"
    assert found.value == max(truth.values())
