"""A space within SIMBA: its candidates carry configurations, and a strategy of its own changes them by type.

SIMBA itself runs whole. Its mini-batches then hold trajectories of several configurations; a bucket whose
trajectories differ passes on the configuration of the better one.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from dspex.bridge import compile as compile_bridge
from dspex.bridge import identity, replies, varying
from dspex.variables import using

if TYPE_CHECKING:
    from collections.abc import Sequence

    import dspy

    from dspex.bridge.identity import Said
    from dspex.optimizers.definition import Definition
    from dspex.records import Configuration, Value
    from dspex.variables.protocol import Variable
    from dspex.variables.space import Space

TEXT = frozenset({"demos", "instructions"})
"""What SIMBA's own strategies change."""
_TAKES_OVER = 0.5
"""How often a better trajectory's configuration is taken over where there is one."""
_STEP = 0.2
"""Standard deviation of a number's step, as a share of its range."""
_ATTEMPTS = 20


def searched(space: Space) -> list[str]:
    """Return the variables that are not text: models, modules, adapters, numbers and other choices."""
    return [name for name in space if using.what_of(name) not in TEXT]


class Fixed:
    """What makes programs where no configuration is changed: they say other things, and are the student else."""

    strategies: None = None

    def __init__(self, what: Definition) -> None:
        self._what = what

    def student(self, student: dspy.Module) -> dspy.Module:
        """Return the student as it is."""
        return student

    def labels(self, program: dspy.Module) -> Configuration:
        """Return nothing: there is one configuration."""
        del program
        return {}

    def key(self, labels: Configuration) -> str:
        """Return the key of the one configuration."""
        del labels
        return self._what.default_key

    def program_key(self, fingerprint: str, labels: Configuration) -> str:
        """Name a program by what it says."""
        del labels
        return fingerprint

    def program(self, labels: Configuration, said: Sequence[Said]) -> dspy.Module:
        """Make the student say what an optimizer let it say."""
        del labels
        return compile_bridge.transplanted(self._what.student, said)

    def evaluated(self, student: dspy.Module, labels: Configuration, said: Sequence[Said]) -> dspy.Module:
        """Make the program as it is scored: the student that the optimizer was given."""
        del labels
        return compile_bridge.transplanted(student, said)


class Varying:
    """What changes the configurations of SIMBA's candidates, and makes programs of them.

    Parameters
    ----------
    what
        The study; its space must have something besides texts.
    """

    def __init__(self, what: Definition) -> None:
        assert what.space is not None  # a study without a space varies nothing
        self._what, self._space = what, what.space
        self._names = searched(what.space)
        self._random = random.Random(what.seed)
        self._default = what.space.default()

    def student(self, student: dspy.Module) -> dspy.Module:
        """Let the student carry the space's default, and be tied to its models."""
        self._rebind(student, self._default, self._default)
        return student

    def strategies(self, own: Sequence[varying.Strategy]) -> list[varying.Strategy]:
        """Return SIMBA's strategies and the one that changes a variable."""
        return varying.strategies(own, self._change)

    def labels(self, program: dspy.Module) -> Configuration:
        """Return the configuration that a program runs."""
        return varying.carried(program) or self._default

    def key(self, labels: Configuration) -> str:
        """Name a configuration as searches do."""
        return self._space.key_of(labels)

    def program_key(self, fingerprint: str, labels: Configuration) -> str:
        """Name a program by what it says, and by its configuration where that is not the student's."""
        key = self.key(labels)
        return fingerprint if key == self._what.default_key else identity.digest(fingerprint, key)

    def program(self, labels: Configuration, said: Sequence[Said]) -> dspy.Module:
        """Make the program that runs a configuration and says what SIMBA let it say."""
        return compile_bridge.transplanted(self._what.bind(labels), said)

    def evaluated(self, student: dspy.Module, labels: Configuration, said: Sequence[Said]) -> dspy.Module:
        """Make the program as it is scored: what its models answer is kept, so that a resumed study asks nobody."""
        del student  # other configurations have other modules
        program = self.program(labels, said)
        for predictor in program.predictors():
            if predictor.lm is not None:
                predictor.lm = replies.cached(predictor.lm)
        return program

    def _change(self, program: dspy.Module, better: Configuration | None) -> None:
        labels = self.labels(program)
        self._rebind(program, labels, changed(self._space, self._names, labels, better, self._random))

    def _rebind(self, program: dspy.Module, before: Configuration, after: Configuration) -> None:
        values = using.values_of(self._space, after, lambda model: replies.cached(self._what.find_lm(model)))
        set_now = {
            name: value
            for name, value in values.items()
            if using.what_of(name) not in TEXT and not self._is_same_module(name, before, after)
        }
        default_lm = replies.cached(self._what.default_lm)
        varying.rebind(program, set_now, default_lm=default_lm, optional=self._space.composites)
        varying.carrying(program, after)

    def _is_same_module(self, name: str, before: Configuration, after: Configuration) -> bool:
        return using.what_of(name) == "module" and before.get(name) == after.get(name)


def changed(
    space: Space,
    names: Sequence[str],
    labels: Configuration,
    better: Configuration | None,
    rng: random.Random,
) -> dict[str, Value]:
    """Return another configuration: the better one where there is one, or a variable changed by its type.

    Numbers make a step, labels become another one. Variables that come into existence begin at their
    default; what breaks a constraint is drawn again.

    Examples
    --------
    >>> from dspex.variables.base import Choice, Float
    >>> from dspex.variables.space import Space
    >>> space = Space(temperature=Float(0.0, 1.5, default=0.7), tone=Choice(["brief", "kind"]))
    >>> changed(space, ["tone"], space.default(), None, random.Random(0))
    {'temperature': 0.7, 'tone': 'kind'}
    """
    if better is not None and dict(better) != dict(labels) and rng.random() < _TAKES_OVER:
        return dict(better)
    for _ in range(_ATTEMPTS):
        name = rng.choice([name for name in names if name in labels] or [*names])
        value = _moved(space[name], labels.get(name, space[name].default), rng)
        found = space.settle(
            lambda each, variable, name=name, value=value: (
                value  # type: ignore[misc]  # bound per attempt
                if each == name
                else labels.get(each, variable.default)
            )
        )
        if space.breaks(found) is None and space.key_of(found) != space.key_of(labels):
            return found
    return dict(labels)


def _moved(variable: Variable, value: Any, rng: random.Random) -> Any:
    """Return a value near another one: a step on a scale, any other of labels."""
    if variable.scale == "categorical" or variable.width > 1:
        others = [each for each in variable.grid(9) if each != value]
        return rng.choice(others) if others else value
    coding = variable.coding()
    place = coding.encode(value) + rng.gauss(0.0, _STEP)
    moved = coding.decode(min(max(place, 0.0), 1.0))
    return moved if moved != value else rng.choice(list(variable.neighbours(value)) or [value])
