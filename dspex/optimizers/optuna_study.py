"""A study as Optuna has it, so that everything written for Optuna can look at it."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from dspex.variables import exchange

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

    from dspex.optimizers.experiment import Experiment
    from dspex.records import Trial


def of(study: Experiment) -> optuna.Study:
    """Return the trials of a study's search as an `optuna.Study` in memory, finalists and holdout left out.

    Parameters are the space's own in Optuna's form; for an optimizer of DSPy the instructions, and how many
    demonstrations there are.
    """
    import optuna

    from dspex.optimizers.tpe import quiet_study

    made = quiet_study(optuna.samplers.RandomSampler(seed=study.definition.seed))
    made.set_user_attr("dspex_study", study.name)
    trials = [trial for trial in study.finished_trials if trial.phase == "search"]
    distributions = _distributions(study, trials)
    made.add_trials([_trial(study, trial, distributions) for trial in trials])
    return made


def _distributions(study: Experiment, trials: list[Trial]) -> dict[str, BaseDistribution]:
    from optuna.distributions import CategoricalDistribution, IntDistribution

    space = study.definition.space
    if study.definition.recipe is None and space is not None:
        return space.to_optuna()
    texts = list(dict.fromkeys(str(trial.configuration["instructions"]) for trial in trials))
    most = max((_n_demos(trial) for trial in trials), default=0)
    return {"instructions": CategoricalDistribution(texts or [""]), "demos": IntDistribution(0, most)}


def _trial(
    study: Experiment, trial: Trial, distributions: dict[str, BaseDistribution]
) -> optuna.trial.FrozenTrial:
    import optuna

    params = _params(study, trial)
    return optuna.trial.FrozenTrial(
        number=trial.number,
        trial_id=trial.number,
        state=optuna.trial.TrialState.COMPLETE,
        value=trial.score,
        datetime_start=dt.datetime.fromtimestamp(trial.started_at),  # noqa: DTZ006  # Optuna's are local and naive
        datetime_complete=dt.datetime.fromtimestamp(trial.finished_at),  # noqa: DTZ006  # as above
        params=params,
        distributions={name: distributions[name] for name in params},
        user_attrs={
            "configuration": dict(trial.configuration),
            "n_examples": trial.n_examples,
            "n_failed": trial.n_failed,
            "calls": trial.usage.calls,
            "cost_usd": trial.usage.cost_usd,
        },
        system_attrs={},
        intermediate_values={},
    )


def _params(study: Experiment, trial: Trial) -> dict[str, Any]:
    space = study.definition.space
    if study.definition.recipe is None and space is not None:
        return exchange.to_params(space, trial.configuration)
    return {"instructions": str(trial.configuration["instructions"]), "demos": _n_demos(trial)}


def _n_demos(trial: Trial) -> int:
    count = trial.configuration["demos"]
    assert isinstance(count, int)  # the compiler counts them
    return count
