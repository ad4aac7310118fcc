"""Ways to search a world: each yields the configuration it would recommend, after every step that it pays for."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import optuna

from dspex.optimizers.beacon import Beacon, Row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dspex.bench.optimizers.worlds import World
    from dspex.records import Configuration, Value

Method: TypeAlias = "Callable[[World, int], Iterator[Configuration]]"

_MINIBATCH = 35
_FULL_EVERY = 5
_PARALLEL = 8


def beacon(world: World, seed: int) -> Iterator[Configuration]:
    """Search with BEACON, eight proposals at a time."""
    return _beacon(world, seed, _PARALLEL)


def beacon_alone(world: World, seed: int) -> Iterator[Configuration]:
    """Search with BEACON, one proposal at a time, as bandits do."""
    return _beacon(world, seed, 1)


def _beacon(world: World, seed: int, parallel: int) -> Iterator[Configuration]:
    search = Beacon(world.space, examples=[str(k) for k in range(world.n_examples)], seed=seed)
    while works := search.ask(parallel):
        for work in works:
            scores = world.score(work.configuration, [int(k) for k in work.examples])
            search.tell(Row(work.configuration, k, s) for k, s in zip(work.examples, scores, strict=True))
        yield search.best()


def uniform(world: World, seed: int) -> Iterator[Configuration]:
    """Score random configurations in full, the default first."""
    rng = random.Random(seed)
    every, best = range(world.n_examples), (-1e9, world.space.default())
    configuration: dict[str, Value] = world.space.default()
    while True:
        best = max(best, (_mean(world, configuration, every), configuration), key=lambda pair: pair[0])
        yield best[1]
        configuration = world.space.sample(rng)


def tpe_full(world: World, seed: int) -> Iterator[Configuration]:
    """Let Optuna's TPE propose, and score every proposal in full."""
    return _optuna(world, seed, optuna.samplers.TPESampler(seed=seed, multivariate=True), world.n_examples)


def tpe_minibatch(world: World, seed: int) -> Iterator[Configuration]:
    """Let Optuna's TPE propose, score proposals on random minibatches, and trust the best mean."""
    return _optuna(world, seed, optuna.samplers.TPESampler(seed=seed, multivariate=True), _MINIBATCH)


def gp_full(world: World, seed: int) -> Iterator[Configuration]:
    """Let Optuna's Gaussian process propose, and score every proposal in full."""
    return _optuna(world, seed, optuna.samplers.GPSampler(seed=seed), world.n_examples)


def gp_minibatch(world: World, seed: int) -> Iterator[Configuration]:
    """Let Optuna's Gaussian process propose, and score proposals on random minibatches."""
    sampler = optuna.samplers.GPSampler(seed=seed, deterministic_objective=False)
    return _optuna(world, seed, sampler, _MINIBATCH)


def _optuna(
    world: World, seed: int, sampler: optuna.samplers.BaseSampler, batch: int
) -> Iterator[Configuration]:
    rng, study = random.Random(seed), optuna.create_study(direction="maximize", sampler=sampler)
    distributions = world.space.to_optuna()
    seen: dict[str, list[float]] = defaultdict(list)
    configurations: dict[str, dict[str, Value]] = {}
    while True:
        trial = study.ask(distributions)
        configuration, key = dict(trial.params), world.space.key_of(trial.params)
        value = _mean(world, configuration, rng.sample(range(world.n_examples), min(batch, world.n_examples)))
        study.tell(trial, value)
        configurations[key] = configuration
        seen[key].append(value)
        yield configurations[max(seen, key=lambda key: float(np.mean(seen[key])))]


def mipro(world: World, seed: int) -> Iterator[Configuration]:
    """Search as MIPROv2 does: TPE over minibatches of 35, the best mean in full after every five trials.

    The default is scored in full first; minibatch and full values are told to one study, as there. What is
    recommended is the best that was scored in full.
    """
    rng = random.Random(seed)
    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed, multivariate=True)
    )
    distributions = world.space.to_optuna()
    means: dict[str, list[float]] = defaultdict(list)
    configurations: dict[str, dict[str, Any]] = {}
    full: dict[str, float] = {}

    def score_in_full(configuration: dict[str, Any]) -> None:
        key = world.space.key_of(configuration)
        configurations[key] = configuration
        full[key] = _mean(world, configuration, range(world.n_examples))
        study.add_trial(
            optuna.trial.create_trial(params=configuration, distributions=distributions, value=full[key])
        )

    score_in_full(world.space.default())
    n_trials = 0
    while True:
        yield configurations[max(full, key=lambda key: full[key])]
        trial = study.ask(distributions)
        key = world.space.key_of(trial.params)
        configurations[key] = dict(trial.params)
        batch = rng.sample(range(world.n_examples), min(_MINIBATCH, world.n_examples))
        means[key].append(_mean(world, configurations[key], batch))
        study.tell(trial, means[key][-1])
        n_trials += 1
        open_ = [key for key in means if key not in full]
        if n_trials % _FULL_EVERY == 0 and open_:
            score_in_full(configurations[max(open_, key=lambda key: float(np.mean(means[key])))])


def halving(world: World, seed: int) -> Iterator[Configuration]:
    """Halve successively: 27 random configurations on 11 examples, the best third on three times as many, and on.

    References
    ----------
    Jamieson and Talwalkar (2016), "Non-stochastic best arm identification and hyperparameter optimization".
    """
    rng = random.Random(seed)
    best: tuple[float, Configuration] = (-1e9, world.space.default())
    while True:
        order = rng.sample(range(world.n_examples), world.n_examples)
        running: list[Configuration] = [world.space.sample(rng) for _ in range(27)]
        for rung in (11, 33, 99, world.n_examples):
            scored = []
            for configuration in running:
                scored.append((_mean(world, configuration, order[:rung]), configuration))
                yield best[1]
            scored.sort(key=lambda pair: -pair[0])
            running = [configuration for _, configuration in scored[: max(1, len(scored) // 3)]]
        best = max(best, scored[0], key=lambda pair: pair[0])
        yield best[1]


def bohb(world: World, seed: int) -> Iterator[Configuration]:
    """Let Optuna's TPE propose and its Hyperband prune, on nested sets of examples.

    References
    ----------
    Falkner, Klein and Hutter (2018), "BOHB: robust and efficient hyperparameter optimization at scale".
    """
    rungs = [11, 33, 99, world.n_examples]
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=seed, multivariate=True),
        pruner=optuna.pruners.HyperbandPruner(min_resource=1, max_resource=len(rungs), reduction_factor=3),
    )
    distributions = world.space.to_optuna()
    order = random.Random(seed).sample(range(world.n_examples), world.n_examples)
    best: tuple[int, float, Configuration] = (0, -1e9, world.space.default())
    while True:
        trial = study.ask(distributions)
        for step, rung in enumerate(rungs, start=1):
            value = _mean(world, trial.params, order[:rung])
            best = max(best, (step, value, dict(trial.params)), key=lambda each: each[:2])
            trial.report(value, step)
            yield best[2]
            if trial.should_prune():
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                break
        else:
            study.tell(trial, value)


def ucbe(world: World, seed: int) -> Iterator[Configuration]:
    """Play every configuration of a finite space as a bandit's arm, one example at a time.

    References
    ----------
    Audibert, Bubeck and Munos (2010), "Best arm identification in multi-armed bandits"; Zhou et al. (2025),
    "On speeding up language model evaluation", whose exploration constant of 1 it takes.
    """
    rng = np.random.default_rng(seed)
    arms = list(world.space.candidates(64))
    orders = [rng.permutation(world.n_examples) for _ in arms]
    counts, sums = np.zeros(len(arms)), np.zeros(len(arms))
    while (counts < world.n_examples).any():
        with np.errstate(divide="ignore", invalid="ignore"):
            bound = np.where(counts > 0, sums / counts + np.sqrt(1 / counts), np.inf)
        bound[counts >= world.n_examples] = -np.inf
        arm = int(rng.choice(np.flatnonzero(bound == bound.max())))
        sums[arm] += world.score(arms[arm], [int(orders[arm][int(counts[arm])])])[0]
        counts[arm] += 1
        yield arms[int(np.argmax(sums / np.maximum(counts, 1) - 1e9 * (counts == 0)))]


def _mean(world: World, configuration: Configuration, examples: Any) -> float:
    return float(np.mean(world.score(configuration, list(examples))))


class Named(NamedTuple):
    """A method under the name it has in tables."""

    title: str
    run: Method
    needs_torch: bool = False
    is_for_pools: bool = False
    """Whether it needs a finite space."""
    most_calls: int = 6000
    """Fewer for those that take seconds for each hundred calls."""


METHODS = {
    "beacon": Named("BEACON, 8 at a time", beacon, most_calls=2400),
    "beacon-1": Named("BEACON, one at a time", beacon_alone, is_for_pools=True, most_calls=1200),
    "ucbe": Named("UCB-E", ucbe, is_for_pools=True),
    "gp-minibatch": Named("Optuna GP, minibatches", gp_minibatch, needs_torch=True, most_calls=1200),
    "gp-full": Named("Optuna GP, full", gp_full, needs_torch=True, most_calls=6000),
    "tpe-minibatch": Named("Optuna TPE, minibatches", tpe_minibatch),
    "tpe-full": Named("Optuna TPE, full", tpe_full),
    "mipro": Named("MIPROv2's scheme", mipro),
    "halving": Named("successive halving", halving),
    "bohb": Named("BOHB (TPE + Hyperband)", bohb),
    "random": Named("random, full", uniform),
}
