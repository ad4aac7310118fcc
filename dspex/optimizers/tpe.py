"""Bayesian optimization by Optuna: its tree-structured Parzen estimator, or its Gaussian process."""

from __future__ import annotations

import random
import warnings
from typing import TYPE_CHECKING, Any, Literal

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from dspex.errors import VariableError
from dspex.optimizers.search import unseen
from dspex.variables.base import Bool, Choice, Float, Int

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dspex.records import Configuration, Scalar
    from dspex.variables.base import Variable
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
        self._distributions = {name: distribution(variable) for name, variable in space.items()}
        self._optuna = quiet_study(_sampler(sampler, seed))
        self._optuna.enqueue_trial(self._encoded(space.default()))
        self._asked: dict[str, optuna.trial.Trial] = {}

    def ask(self) -> dict[str, Scalar] | None:
        """Return the next configuration, the default one first."""
        for _ in range(_PATIENCE):
            trial = self._optuna.ask(self._distributions)
            configuration = self._decoded(trial.params)
            key = self._space.key_of(configuration)
            if key not in self._asked:
                self._asked[key] = trial
                return configuration
            # Its score is known; a failed trial leaves the estimator as it is.
            self._optuna.tell(trial, state=optuna.trial.TrialState.FAIL)
        other = unseen(self._space, set(self._asked), self._rng)
        if other is not None:
            self._optuna.enqueue_trial(self._encoded(other))
            trial = self._optuna.ask(self._distributions)
            self._asked[self._space.key_of(other)] = trial
        return other

    def tell(self, configuration: Configuration, score: float) -> None:
        """Take in the score of a configuration that was asked for."""
        self._optuna.tell(self._asked[self._space.key_of(configuration)], score)

    def _encoded(self, configuration: Configuration) -> dict[str, Any]:
        encoded: dict[str, Any] = dict(configuration)
        for name, variable in self._space.items():
            if isinstance(variable, Float) and variable.step is not None:
                encoded[name] = round((encoded[name] - variable.low) / variable.step)
        return encoded

    def _decoded(self, params: Mapping[str, Any]) -> dict[str, Scalar]:
        decoded = {name: params[name] for name in self._space}
        for name, variable in self._space.items():
            if isinstance(variable, Float) and variable.step is not None:
                decoded[name] = variable.at_step(decoded[name])
        return decoded


def distribution(variable: Variable, *, steps: bool = True) -> BaseDistribution:
    """Say what a variable is in Optuna's terms; numbers with steps as counts of steps if `steps`."""
    match variable:
        case Float() if variable.step is None or not steps:
            return FloatDistribution(variable.low, variable.high, log=variable.log)
        case Float():
            # Counting steps keeps clear of 0.1 + 0.2.
            return IntDistribution(0, int(variable.n_values) - 1)
        case Int():
            high = variable.low + (variable.high - variable.low) // variable.step * variable.step
            return IntDistribution(variable.low, high, log=variable.log, step=variable.step)
        case Bool():
            return CategoricalDistribution([False, True])
        case Choice():
            return CategoricalDistribution(list(variable.options))
        case _:
            raise VariableError(
                f"beacon cannot search a {type(variable).__name__}", hint="optimizer='random' can"
            )


def _sampler(name: Literal["tpe", "gp"], seed: int) -> optuna.samplers.BaseSampler:
    if name == "gp":
        with warnings.catch_warnings():
            # It says that it may still change; the version is pinned.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
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
