"""Functions whose value follows from their variables alone: one evaluation a configuration, no examples."""

from __future__ import annotations

import importlib.util
import random
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from dspex.errors import DataError, UnknownNameError
from dspex.optimizers.beacon import acquire
from dspex.optimizers.beacon.ability import Ability
from dspex.optimizers.beacon.encode import Encoder
from dspex.optimizers.random_search import RandomSearch
from dspex.optimizers.search import unseen
from dspex.optimizers.tpe import Tpe

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from dspex.optimizers.search import Search
    from dspex.records import Configuration, Value
    from dspex.variables.space import Space

    FloatArray = NDArray[np.float64]

Engine = Literal["auto", "beacon", "gp", "random", "tpe"]
ENGINES = ("auto", "beacon", "gp", "random", "tpe")

_STARTUP = 8
_RANDOM = 256
_MOVES = (0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
"""Steps around the best points, as shares of each range: ever finer."""
_AROUND = 24
_REFITS_ALL = 40
"""Trials up to which settings are learnt anew for each; afterwards for every fourth."""


class Smooth:
    """Proposes by expected improvement under a Gaussian process of the whole score, the default first.

    Parameters
    ----------
    space
        What may vary.
    seed
        Of every draw.
    noise
        Standard deviation of a score as a share of the scores' own; learnt if None.

    References
    ----------
    Jones, Schonlau and Welch (1998), "Efficient global optimization of expensive black-box functions".
    """

    def __init__(self, space: Space, *, seed: int = 0, noise: float | None = 1e-5) -> None:
        self._space, self._encoder = space, Encoder(space)
        self._random = random.Random(seed)
        self._ability = Ability(self._encoder.is_label, likelihood="gaussian", smooth=True, noise=noise)
        self._seen: dict[str, int] = {}
        self._told: list[tuple[float, dict[str, Value]]] = []

    def ask(self) -> dict[str, Value] | None:
        """Return the next configuration, or None when there is no other."""
        if not self._seen:
            proposed: dict[str, Value] | None = self._space.default()
        elif len(self._told) < _STARTUP:
            proposed = unseen(self._space, set(self._seen), self._random)
        else:
            proposed = self._best_candidate()
        if proposed is not None:
            key = self._space.key_of(proposed)
            if key not in self._seen:
                self._seen[key] = self._ability.add(self._encoder.rows([proposed])[0])
                self._ability.await_scores(self._seen[key], 1)
        return proposed

    def tell(self, configuration: Configuration, score: float) -> None:
        """Take in the score of a configuration; larger is better."""
        key = self._space.key_of(configuration)
        if key not in self._seen:
            self._seen[key] = self._ability.add(self._encoder.rows([configuration])[0])
        self._ability.await_scores(self._seen[key], -1)
        self._ability.observe(self._seen[key], 0, score)
        self._told.append((score, dict(configuration)))

    def _best_candidate(self) -> dict[str, Value] | None:
        if len(self._told) <= _REFITS_ALL or len(self._told) % 4 == 0:
            self._ability.refit()
        else:
            self._ability.fit()
        best, finest = None, -np.inf
        leaders = [each for _, each in sorted(self._told, key=lambda pair: -pair[0])[:3]]
        candidates = [self._space.sample(self._random) for _ in range(_RANDOM)]
        candidates += [
            self._encoder.moved(each, self._random, 0.1) for each in leaders for _ in range(_AROUND)
        ]
        candidates += [near for each in leaders for near in self._encoder.neighbours(each, self._random)]
        for step in _MOVES:
            candidates = [each for each in candidates if self._space.key_of(each) not in self._seen]
            if candidates:
                worth = self._worth(candidates)
                order = np.argsort(-worth, kind="stable")
                if worth[order[0]] > finest:
                    best, finest = candidates[int(order[0])], float(worth[order[0]])
                leaders = [candidates[int(k)] for k in order[:3]]
            # The acquisition itself is climbed by ever finer steps around where it is largest.
            candidates = [
                self._encoder.moved(each, self._random, step) for each in leaders for _ in range(_AROUND)
            ]
        return best if best is not None else unseen(self._space, set(self._seen), self._random)

    def _worth(self, candidates: list[dict[str, Value]]) -> FloatArray:
        mean, sd = self._ability.mean_sd(self._encoder.rows(candidates))
        told = self._ability.mean_sd(self._ability.rows)[0]
        return acquire.log_expected_improvement(mean, sd, float(told.max()))


class Found(NamedTuple):
    """What a search over a function found, and every value on the way."""

    configuration: dict[str, Value]
    value: float
    trials: tuple[tuple[dict[str, Value], float], ...]
    engine: str


def maximize(
    function: Callable[[dict[str, Value]], float],
    space: Space,
    *,
    trials: int = 60,
    seed: int = 0,
    engine: Engine = "auto",
) -> Found:
    """Find where a function of a configuration is largest.

    Parameters
    ----------
    function
        Called once per trial.
    engine
        ``"gp"`` is Optuna's Gaussian process sampler (needs torch and scipy), ``"beacon"`` ours on numpy,
        ``"tpe"`` Optuna's tree-structured Parzen estimator, ``"random"`` the baseline; ``"auto"`` takes
        ours.

    Raises
    ------
    UnknownNameError
        If there is no such engine.
    DataError
        If the function returns no finite number.

    Examples
    --------
    >>> from dspex.variables.base import Float
    >>> from dspex.variables.space import Space
    >>> found = maximize(lambda at: -((at["x"] - 0.3) ** 2), Space(x=Float(0.0, 1.0)), trials=15)
    >>> round(found.configuration["x"], 2)
    0.3
    """
    search = _engine(engine, space, seed)
    done: list[tuple[dict[str, Value], float]] = []
    while len(done) < trials and (configuration := search.ask()) is not None:
        value = function(configuration)
        if (
            isinstance(value, bool)
            or not isinstance(value, (int, float, np.floating))
            or not np.isfinite(value)
        ):
            raise DataError(f"the function must return a finite number, got {value!r} at {configuration}")
        done.append((configuration, float(value)))
        search.tell(configuration, float(value))
    if not done:
        raise DataError(f"trials must be at least 1, got {trials}")
    best = max(done, key=lambda pair: pair[1])
    return Found(*best, tuple(done), engine)


def minimize(
    function: Callable[[dict[str, Value]], float],
    space: Space,
    *,
    trials: int = 60,
    seed: int = 0,
    engine: Engine = "auto",
) -> Found:
    """Find where a function is smallest: see `maximize`."""
    found = maximize(lambda at: -function(at), space, trials=trials, seed=seed, engine=engine)
    turned = tuple((configuration, -value) for configuration, value in found.trials)
    return found._replace(value=-found.value, trials=turned)


def _engine(name: str, space: Space, seed: int) -> Search:
    match name:
        case "auto" | "beacon":
            return Smooth(space, seed=seed)
        case "gp":
            missing = [each for each in ("torch", "scipy") if importlib.util.find_spec(each) is None]
            if missing:
                raise DataError(
                    f"engine='gp' needs {' and '.join(missing)}",
                    hint="pip install 'dspex[neural]', or engine='beacon', which needs neither",
                )
            return Tpe(space, seed=seed, sampler="gp")
        case "tpe":
            return Tpe(space, seed=seed)
        case "random":
            return RandomSearch(space, seed=seed)
        case _:
            raise UnknownNameError.among("engine", name, ENGINES)
