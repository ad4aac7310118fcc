"""Bayesian optimization by Optuna: its tree-structured Parzen estimator, or its Gaussian process."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Literal

import optuna

from dspex.optimizers.search import unseen
from dspex.variables import exchange

if TYPE_CHECKING:
    from dspex.records import Configuration, Value
    from dspex.variables.space import Space

_STARTUP_TRIALS = 8
_PATIENCE = 20


class Tpe:
    """Proposes where good scores are likelier than poor ones, all variables taken together.

    Parameters
    ----------
    space
        What may vary.
    seed
        Of every draw: one seed, one sequence of proposals.
    sampler
        ``"gp"`` needs torch and scipy.

    References
    ----------
    Bergstra et al. (2011), "Algorithms for hyper-parameter optimization"; Watanabe (2023), "Tree-structured
    Parzen estimator: understanding its algorithm components". The sampler is Optuna's, multivariate.
    """

    def __init__(self, space: Space, *, seed: int = 0, sampler: Literal["tpe", "gp"] = "tpe") -> None:
        self._space = space
        self._rng = random.Random(seed)
        self._optuna = quiet_study(_sampler(sampler, seed))
        self._optuna.enqueue_trial(exchange.to_params(space, space.default()))
        self._asked: dict[str, optuna.trial.Trial] = {}

    def ask(self) -> dict[str, Value] | None:
        """Return the next configuration, the default one first."""
        for _ in range(_PATIENCE):
            trial = self._optuna.ask()
            configuration = exchange.suggest(self._space, trial)
            key = self._space.key_of(configuration)
            if key not in self._asked and self._space.breaks(configuration) is None:
                self._asked[key] = trial
                return configuration
            # Its score is known, or it may not be tried; a failed trial leaves the estimator as it is.
            self._optuna.tell(trial, state=optuna.trial.TrialState.FAIL)
        other = unseen(self._space, set(self._asked), self._rng)
        if other is not None:
            self._optuna.enqueue_trial(exchange.to_params(self._space, other))
            trial = self._optuna.ask()
            exchange.suggest(self._space, trial)
            self._asked[self._space.key_of(other)] = trial
        return other

    def tell(self, configuration: Configuration, score: float) -> None:
        """Take in the score of a configuration that was asked for."""
        self._optuna.tell(self._asked[self._space.key_of(configuration)], score)


def _sampler(name: Literal["tpe", "gp"], seed: int) -> optuna.samplers.BaseSampler:
    if name == "gp":
        return optuna.samplers.GPSampler(seed=seed, deterministic_objective=True)
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=_STARTUP_TRIALS, multivariate=True)


def quiet_study(sampler: optuna.samplers.BaseSampler) -> optuna.Study:
    """Make an in-memory study without Optuna's line about it, and leave the user's verbosity as it was."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return optuna.create_study(direction="maximize", sampler=sampler)
    finally:
        optuna.logging.set_verbosity(verbosity)
