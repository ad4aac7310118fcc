"""A space made ready for speed: what to do for each name, in order, as closures."""

from __future__ import annotations

import itertools
import math
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from dspex.errors import did_you_mean
from dspex.variables.formulas import Composite
from dspex.variables.graph import ancestors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from dspex.records import Configuration, Value
    from dspex.variables.formulas import Constraint, Formula
    from dspex.variables.protocol import Scale, Variable

Environment = dict[str, Any]
"""What exists under some configuration: searched and frozen values, and composites."""

_MIDDLE = 0.5

COUNTED = 100_000
"""Up to so many combinations are walked through to count them exactly."""


class Missing:
    """Stands for a value that was not given."""


class Column(NamedTuple):
    """One column of the unit cube, as a surrogate wants to know it."""

    name: str
    """Of the variable; with the position behind it where there are several columns."""
    scale: Scale
    n_values: float
    """How many values it has; one more than its variable if "does not exist" is one of them."""
    conditional: bool
    """Whether it may not exist: then it is its last category, or the middle of a number's scale."""


class _Step(NamedTuple):
    name: str
    conditions: tuple[tuple[str, tuple[Any, ...]], ...]
    variable: Variable | None
    """What is searched."""
    value: Any
    """What is frozen."""
    compute: Callable[[Environment], Any] | None
    """What is computed."""


class Plan:
    """How to go through a space's definitions once, each after what it needs."""

    def __init__(
        self,
        definitions: Mapping[str, Variable | Composite],
        needs: Mapping[str, Sequence[str]],
        order: Sequence[str],
        frozen: Configuration,
        constraints: Sequence[Constraint],
    ) -> None:
        self._definitions = definitions
        self.searched: dict[str, Variable] = {
            name: each
            for name, each in definitions.items()
            if not isinstance(each, Composite) and name not in frozen
        }
        self.steps = [self._step(name, definitions[name], frozen) for name in order]
        self.constraints = [(each, self._reader(each.formula)) for each in constraints]
        conditional = [name for name, each in definitions.items() if each.when]
        self._governing = ancestors(conditional, needs)
        self.conditional = frozenset(conditional) & frozenset(self.searched)
        # Composites are worked out while drawing only where a condition or a constraint looks at them.
        read = {name for each in constraints for name, _ in self._bases(each.formula.reads)}
        read |= ancestors([name for name in read if name in needs], needs)
        self._drawn = [
            step
            for step in self.steps
            if step.variable is not None or step.name in self._governing or step.name in read
        ]
        codings = {name: each.coding() for name, each in self.searched.items()}
        self._draws = [(name, coding.draw) for name, coding in codings.items()]
        self._draw = dict(self._draws)
        self._encoders = [(name, coding.encode) for name, coding in codings.items()]
        self._decode = {name: coding.decode for name, coding in codings.items()}
        self._decoders = list(self._decode.items())
        self._is_flat = all(each.width == 1 for each in self.searched.values()) and not self.conditional
        self._slices = self._sliced()
        self._features: dict[tuple[str, Any], dict[str, float]] = {}

    # ── going through it ──

    def settle(
        self, choose: Callable[[str, Variable], Any], *, steps: Sequence[_Step] | None = None
    ) -> Environment:
        """Work out everything that exists, asking `choose` for the value of what is searched."""
        env: Environment = {}
        for step in self.steps if steps is None else steps:
            if not is_active(step.conditions, env):
                continue
            if step.variable is not None:
                value = choose(step.name, step.variable)
            elif step.compute is not None:
                value = step.compute(env)
            else:
                value = step.value
            if value is not Missing:
                env[step.name] = value
        return env

    def searched_of(self, env: Environment) -> dict[str, Value]:
        """Return what is searched and exists, in the order of definition."""
        return {name: env[name] for name in self.searched if name in env}

    def draw(self, random: Callable[[], float]) -> tuple[dict[str, Value], Constraint | None]:
        """Draw a configuration, and say which constraint it breaks, if any."""
        if not self.conditional and not self.constraints:
            return {name: draw(random) for name, draw in self._draws}, None
        draws = self._draw
        env = self.settle(lambda name, _: draws[name](random), steps=self._drawn)
        return self.searched_of(env), next(self.broken(env), None)

    def broken(self, env: Environment) -> Iterator[Constraint]:
        """Find the constraints that do not hold."""
        for constraint, read in self.constraints:
            values = read(env)
            if values is not None and not constraint.holds(values):
                yield constraint

    def values_read(self, constraint: Constraint, env: Environment) -> list[Any]:
        """Return what a constraint sees."""
        return self._reader(constraint.formula)(env) or []

    # ── the unit cube ──

    @cached_property
    def columns(self) -> list[Column]:
        """Describe the columns in the order of `encode`."""
        found = []
        for name, each in self.searched.items():
            conditional = name in self.conditional
            own_category = conditional and each.scale == "categorical"
            for k in range(each.width):
                shown = name if each.width == 1 else f"{name}[{k}]"
                n = each.n_values if each.width == 1 else math.inf
                found.append(Column(shown, each.scale, n + own_category, conditional))
        return found

    def encode(self, configuration: Configuration) -> list[float]:
        """Return a configuration's point."""
        if self._is_flat:
            return [encode(configuration[name]) for name, encode in self._encoders]
        point: list[float] = []
        for (name, encode), (start, stop, categories) in zip(self._encoders, self._slices, strict=True):
            if name not in configuration:
                # Its own category is the last bin; a number stands in the middle.
                point += [1 - 0.5 / categories if categories else _MIDDLE] * (stop - start)
            elif stop - start > 1 or self.searched[name].width != 1:
                point += encode(configuration[name])
            else:
                place = encode(configuration[name])
                point.append(place * (categories - 1) / categories if categories else place)
        return point

    def decode(self, point: Sequence[float]) -> dict[str, Value]:
        """Return the configuration at a point; columns of what does not exist there are not looked at."""
        if self._is_flat:
            return {name: decode(place) for (name, decode), place in zip(self._decoders, point, strict=True)}
        places = dict(zip(self.searched, self._slices, strict=True))

        def choose(name: str, variable: Variable) -> Any:
            start, stop, categories = places[name]
            if variable.width != 1:
                return self._decode[name](point[start:stop])
            place = point[start]
            return self._decode[name](place * categories / (categories - 1) if categories else place)

        return self.searched_of(self.settle(choose, steps=self._drawn))

    def _sliced(self) -> list[tuple[int, int, int]]:
        """Return each variable's columns, and its number of categories with its own for "does not exist"."""
        found, start = [], 0
        for name, each in self.searched.items():
            own_category = name in self.conditional and each.scale == "categorical"
            found.append((start, start + each.width, int(each.n_values) + 1 if own_category else 0))
            start += each.width
        return found

    # ── walking through all of it ──

    def walk(self, values: Callable[[Variable], Sequence[Any]]) -> Iterator[dict[str, Value]]:
        """Go through every combination of some values that keeps the constraints."""
        for env in self._branches(values, [step for step in self.steps if step.name in self._governing], {}):
            free = [name for name in self.searched if name not in self._governing and self._exists(name, env)]
            fixed = self.searched_of(env)
            names = [name for name in self.searched if name in fixed or name in free]
            # Grids are given in the order of definition, so that the last variable turns fastest.
            grids = [[fixed[name]] if name in fixed else values(self.searched[name]) for name in names]
            for combination in itertools.product(*grids):
                configuration = dict(zip(names, combination, strict=True))
                if not self.constraints or next(self.broken(self.environment(configuration)), None) is None:
                    yield configuration

    def count(self) -> float:
        """Count the combinations, constraints aside."""
        governing = [step for step in self.steps if step.name in self._governing]
        if math.prod(step.variable.n_values for step in governing if step.variable is not None) > COUNTED:
            return math.prod(each.n_values for each in self.searched.values())
        total = 0.0
        for env in self._branches(lambda variable: variable.grid(int(variable.n_values)), governing, {}):
            total += math.prod(
                each.n_values
                for name, each in self.searched.items()
                if name not in self._governing and self._exists(name, env)
            )
        return total

    def _branches(
        self, values: Callable[[Variable], Sequence[Any]], steps: Sequence[_Step], env: Environment
    ) -> Iterator[Environment]:
        if not steps:
            yield env
            return
        step, rest = steps[0], steps[1:]
        if not is_active(step.conditions, env):
            yield from self._branches(values, rest, env)
        elif step.variable is not None:
            for value in values(step.variable):
                yield from self._branches(values, rest, {**env, step.name: value})
        else:
            value = step.value if step.compute is None else step.compute(env)
            yield from self._branches(values, rest, env if value is Missing else {**env, step.name: value})

    def environment(self, configuration: Configuration) -> Environment:
        """Work out everything that exists under a configuration."""
        return self.settle(lambda name, _: configuration.get(name, Missing))

    def _exists(self, name: str, env: Environment) -> bool:
        return is_active(tuple(self._definitions[name].when.items()), env)

    # ── formulas ──

    def _step(self, name: str, each: Variable | Composite, frozen: Configuration) -> _Step:
        conditions = tuple(each.when.items())
        if isinstance(each, Composite):
            return _Step(name, conditions, None, None, self._computer(each.formula))
        if name in frozen:
            return _Step(name, conditions, None, frozen[name], None)
        return _Step(name, conditions, each, None, None)

    def _computer(self, formula: Formula) -> Callable[[Environment], Any]:
        read = self._reader(formula)

        def compute(env: Environment) -> Any:
            values = read(env)
            return Missing if values is None else formula.value(values)

        return compute

    def _reader(self, formula: Formula) -> Callable[[Environment], list[Any] | None]:
        """Return what finds the values a formula reads, or None where one of them does not exist."""
        bases = self._bases(formula.reads)

        def read(env: Environment) -> list[Any] | None:
            values = []
            for name, feature in bases:
                value = env.get(name, Missing)
                if feature is not None and value is not Missing:
                    value = self._feature(name, value, feature)
                if value is Missing:
                    return None
                values.append(value)
            return values

        return read

    def _bases(self, reads: Sequence[str]) -> list[tuple[str, str | None]]:
        return [base_of(name, self._definitions) for name in reads]

    def _feature(self, name: str, label: Any, feature: str) -> Any:
        found = self._features.get((name, label))
        if found is None:
            found = self._definitions[name].features(label)  # type: ignore[union-attr]  # checked at the definition
            self._features[name, label] = found
        return found.get(feature, Missing)


def is_active(conditions: Sequence[tuple[str, tuple[Any, ...]]], env: Environment) -> bool:
    """Whether all conditions hold."""
    return all(name in env and env[name] in values for name, values in conditions)


def base_of(name: str, definitions: Mapping[str, Any]) -> tuple[str, str | None]:
    """Take apart what a formula reads: a variable, or a variable and a feature of its options."""
    if name in definitions:
        return name, None
    base, _, feature = name.rpartition(".")
    return base, feature


def problem_with_read(name: str, definitions: Mapping[str, Any]) -> str | None:
    """Say why a formula cannot read a name, or None."""
    base, feature = base_of(name, definitions)
    if feature is None:
        return None
    features = getattr(definitions.get(base), "feature_names", None)
    if features is None:
        hint = did_you_mean(name, definitions)
        return f"{name}, which is no variable" + (f" ({hint})" if hint else "")
    if feature in features():
        return None
    hint = did_you_mean(feature, features())
    return f"{name}, which is no feature of {base}" + (f" ({hint})" if hint else "")
