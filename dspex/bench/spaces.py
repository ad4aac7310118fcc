"""What spaces cost: drawing, the unit cube and checks, beside Optuna's own proposals."""

from __future__ import annotations

import random
import subprocess
import sys
from typing import TYPE_CHECKING

import optuna

from dspex.bench.timing import medians_us, print_rows
from dspex.variables import exchange
from dspex.variables.base import Choice, Float, Int
from dspex.variables.space import Space

if TYPE_CHECKING:
    from dspex.variables.base import Variable

_N = 1000
_LOADED = "import sys, dspex; print(sum(name.startswith('dspex.variables') for name in sys.modules))"


def run() -> None:
    """Print the figures."""
    space, rng = _twenty(), random.Random(0)
    conditional, five = _conditional(), _five()
    configuration = space.sample(rng)
    point = space.encode(configuration)
    chosen = conditional.sample(rng)
    rows = {
        "encode + decode, 20 variables": lambda: space.decode(space.encode(configuration)),
        "encode, 20 variables": lambda: space.encode(configuration),
        "decode, 20 variables": lambda: space.decode(point),
        "encode + decode, 6 conditional variables": lambda: conditional.decode(conditional.encode(chosen)),
        "check, 20 variables": lambda: space.check(configuration),
        "key of a configuration, 20 variables": lambda: space.key_of(configuration),
    }
    print_rows(medians_us(rows, repeats=1000), "us")
    draws = {
        "5 variables": lambda: five.sample_many(_N, rng),
        "20 variables": lambda: space.sample_many(_N, rng),
        "6 variables, conditional, a constraint": lambda: conditional.sample_many(_N, rng),
    }
    taken = medians_us(draws, repeats=30)
    print_rows({f"drawn: {name}": _N / us * 1e6 for name, us in taken.items()}, "configurations/s")
    study = _quiet(optuna.samplers.RandomSampler(seed=0))
    theirs = medians_us({"optuna": lambda: exchange.suggest(space, study.ask())}, repeats=100)
    print_rows({"drawn: 20 variables, Optuna's RandomSampler": 1e6 / theirs["optuna"]}, "configurations/s")
    text = space.to_json()
    defining = {
        "define 20 variables": _twenty,
        "read 20 variables from JSON": lambda: Space.from_json(text),
    }
    print_rows(medians_us(defining, repeats=100), "us")
    loaded = subprocess.run([sys.executable, "-c", _LOADED], check=True, capture_output=True, text=True)  # noqa: S603  # our own interpreter
    print_rows({"of its rooms that `import dspex` loads": float(loaded.stdout)}, "")


def _five() -> Space:
    return Space(
        temperature=Float(0.0, 1.5, default=0.7),
        penalty=Float(0.01, 1.0, log=True),
        demos=Int(0, 8),
        model=Choice(["small", "medium", "large"]),
        module=Choice(["Predict", "ChainOfThought"]),
    )


def _twenty() -> Space:
    variables: dict[str, Variable] = {}
    for k in range(4):
        variables |= {
            f"linear{k}": Float(0.0, 1.5),
            f"log{k}": Float(1e-4, 1.0, log=True),
            f"step{k}": Float(0.0, 1.0, step=0.1),
            f"whole{k}": Int(0, 20),
            f"label{k}": Choice(["a", "b", "c", "d"]),
        }
    return Space(variables)


def _conditional() -> Space:
    return Space(
        temperature=Float(0.0, 1.5, default=0.7),
        module=Choice(["Predict", "BestOfN", "ReAct"]),
        n=Int(2, 5).given(module="BestOfN"),
        threshold=Float(0.0, 1.0).given(module="BestOfN"),
        steps=Int(1, 10).given(module="ReAct"),
        demos=Int(0, 8),
        constraints=["n * demos <= 20"],
    )


def _quiet(sampler: optuna.samplers.BaseSampler) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(sampler=sampler)
