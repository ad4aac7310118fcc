"""Which variables matter, alone and together, as trials show it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from dspex.errors import DataError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import optuna

    from dspex.records import Configuration
    from dspex.variables.space import Space

Evaluator = Literal["fanova", "mdi", "ped-anova", "surrogate"]
EVALUATORS = ("fanova", "mdi", "ped-anova", "surrogate")
_FEWEST = 4


class Importance(NamedTuple):
    """Shares of the spread in scores, largest first; they sum to 1 over variables."""

    variables: dict[str, float]
    interactions: dict[tuple[str, str], float]
    """Shares of pairs beyond what both do alone, from the surrogate's own terms."""


def importance(
    space: Space,
    trials: Sequence[tuple[Configuration, float]],
    *,
    evaluator: Evaluator = "surrogate",
    seed: int = 0,
) -> Importance:
    """Say how much of the differences in score each variable explains.

    Parameters
    ----------
    trials
        Configurations and their scores; a variable that a configuration lacks was inactive there.
    evaluator
        ``"surrogate"`` reads the Gaussian process's own terms; ``"fanova"``, ``"ped-anova"`` and ``"mdi"`` are
        Optuna's, over the variables that every configuration has (the first and the last need scikit-learn).
        Interactions are always the surrogate's.

    References
    ----------
    Hutter, Hoos and Leyton-Brown (2014), "An efficient approach for assessing hyperparameter importance";
    Watanabe, Bansal and Hutter (2023), "PED-ANOVA".

    Examples
    --------
    >>> from dspex.variables.base import Float
    >>> from dspex.variables.space import Space
    >>> space = Space(x=Float(0.0, 1.0), y=Float(0.0, 1.0))
    >>> trials = [({"x": i / 4, "y": j / 4}, i / 4 + 0.1 * (j / 4)) for i in range(5) for j in range(5)]
    >>> list(importance(space, trials).variables)
    ['x', 'y']
    """
    if evaluator not in EVALUATORS:
        raise UnknownNameError.among("evaluator", evaluator, EVALUATORS)
    if len(trials) < _FEWEST:
        raise DataError(f"importance needs at least {_FEWEST} trials, got {len(trials)}")
    variables, interactions = _surrogate(space, trials)
    if evaluator != "surrogate":
        variables = _optuna(space, trials, evaluator, seed)
    return Importance(variables, interactions)


def _surrogate(
    space: Space, trials: Sequence[tuple[Configuration, float]]
) -> tuple[dict[str, float], dict[tuple[str, str], float]]:
    import numpy as np

    from dspex.optimizers.beacon.ability import Ability
    from dspex.optimizers.beacon.encode import Encoder

    encoder = Encoder(space)
    ability = Ability(encoder.is_label, likelihood="gaussian")
    rows = encoder.rows([configuration for configuration, _ in trials])
    for row, (_, score) in zip(rows, trials, strict=True):
        ability.observe(ability.add(row), 0, score)
    ability.refit(60)
    spreads = {term: float(np.var(effect)) for term, effect in ability.effects(rows).items()}
    total = sum(spreads.values()) or 1.0
    names = [column.name for column in encoder.columns]
    share = dict.fromkeys(names, 0.0)
    interactions = {}
    for term, spread in spreads.items():
        for d in term:
            share[names[d]] += spread / total / len(term)
        if len(term) > 1:
            interactions[names[term[0]], names[term[1]]] = spread / total
    return _sorted(share), _sorted(interactions)


def _optuna(
    space: Space, trials: Sequence[tuple[Configuration, float]], evaluator: str, seed: int
) -> dict[str, float]:
    from optuna import importance as kept

    makers: dict[str, Any] = {
        "fanova": lambda: kept.FanovaImportanceEvaluator(seed=seed),
        "mdi": lambda: kept.MeanDecreaseImpurityImportanceEvaluator(seed=seed),
        "ped-anova": lambda: kept.PedAnovaImportanceEvaluator(),  # noqa: PLW0108  # made when asked for
    }
    shared = [name for name in space if all(name in configuration for configuration, _ in trials)]
    try:
        found = kept.get_param_importances(_study(space, trials, shared), evaluator=makers[evaluator]())
    except ImportError as error:
        raise DataError(
            f"evaluator={evaluator!r} needs scikit-learn", hint="evaluator='surrogate' or 'ped-anova'"
        ) from error
    return _sorted(dict(found))


def _study(space: Space, trials: Sequence[tuple[Configuration, float]], names: Sequence[str]) -> optuna.Study:
    import optuna

    from dspex.optimizers.tpe import quiet_study
    from dspex.variables import exchange

    study = quiet_study(optuna.samplers.RandomSampler(seed=0))
    distributions = space.to_optuna()
    for configuration, score in trials:
        params = exchange.to_params(space, {name: configuration[name] for name in names})
        used = {name: distributions[name] for name in params}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=used, value=score))
    return study


def _sorted(shares: dict[Any, float]) -> dict[Any, float]:
    return dict(sorted(shares.items(), key=lambda pair: -pair[1]))
