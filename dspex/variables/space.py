"""A space: named variables, and what one can ask of them together."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from dspex.errors import UnknownNameError, VariableError, did_you_mean
from dspex.variables import exchange, grammar, using
from dspex.variables.definitions import Definitions, digest
from dspex.variables.graph import ancestors
from dspex.variables.plan import COUNTED, Column, Missing, Plan, base_of, is_active

if TYPE_CHECKING:
    import random
    from pathlib import Path

    import dspy

    from dspex.bridge.applying import Applied
    from dspex.records import Configuration, Value
    from dspex.variables.formulas import Constraint
    from dspex.variables.protocol import Variable
    from dspex.variables.using import FindLM

_MAX_ATTEMPTS = 1000


class Space(Definitions, Mapping[str, "Variable"]):
    """What may vary, by name. Immutable.

    As a mapping it holds what is searched: neither composites nor what is frozen.

    Parameters
    ----------
    definitions
        Name → variable or composite, for names that are no keywords: ``{"plan.temperature": Float(0, 1)}``.
    constraints
        Rules that configurations keep; a text is its own name.
    frozen
        Values of variables that are not searched; see `freeze`.
    variables
        Variables and composites by name.

    Examples
    --------
    >>> from dspex.variables.base import Choice, Float, Int
    >>> space = Space(
    ...     temperature=Float(0.0, 1.5, default=0.7),
    ...     module=Choice(["Predict", "BestOfN"]),
    ...     n=Int(2, 5).given(module="BestOfN"),
    ... )
    >>> space.default()
    {'temperature': 0.7, 'module': 'Predict'}
    >>> space.complete({"module": "BestOfN"})
    {'temperature': 0.7, 'module': 'BestOfN', 'n': 2}
    """

    # ── what is in it ──

    def __getitem__(self, name: str) -> Variable:
        if name not in self._variables:
            raise UnknownNameError.among("variable", name, self._variables)
        return self._variables[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._variables)

    def __len__(self) -> int:
        return len(self._variables)

    def __contains__(self, name: object) -> bool:
        return name in self._variables

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Space) and other._content() == self._content()

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        kinds = ", ".join(f"{name}={type(each).__name__}" for name, each in self._definitions.items())
        sizes = [variable.n_values for variable in self.values()]
        parts = [f"{size:g} values" for size in sizes if math.isfinite(size)]
        parts += ["continuous"] * (len(sizes) - len(parts))
        more = [" x ".join(parts)] if parts else []
        more += [f"{name} frozen at {value!r}" for name, value in self._frozen.items()]
        more += [f"{len(self.constraints)} constraint(s)"] if self.constraints else []
        return f"Space({'; '.join([kinds, *more])})"

    @property
    def conditional(self) -> frozenset[str]:
        """The searched variables that do not always exist."""
        return self._plan.conditional

    @cached_property
    def _plan(self) -> Plan:
        return Plan(self._definitions, self._needs, self._order, self._frozen, self.constraints)

    def __getstate__(self) -> dict[str, Any]:
        # The plan's closures do not pickle; it is made again where it is needed.
        return {name: value for name, value in self.__dict__.items() if name != "_plan"}

    # ── configurations ──

    def default(self) -> dict[str, Value]:
        """Return the configuration of the program as it stands.

        Raises
        ------
        VariableError
            If the defaults break a constraint.
        """
        return self.complete({})

    def complete(self, partial: Configuration) -> dict[str, Value]:
        """Fill in defaults for what is left out and exists.

        Raises
        ------
        VariableError
            If what is given does not fit; every failure is listed.
        """
        env = self._filled(partial)
        filled = self._plan.searched_of(env)
        self.check({**partial, **filled})
        return {name: self[name].canonical(value) for name, value in filled.items()}

    def _filled(self, partial: Configuration) -> dict[str, Any]:
        return self._plan.settle(lambda name, variable: partial.get(name, variable.default))

    def check(self, configuration: Configuration) -> None:
        """Check a whole configuration.

        Raises
        ------
        VariableError
            If variables are unknown, missing, out of range, or set where they do not exist, or constraints are
            broken; every failure is listed.
        """
        failures = [text for name in configuration if (text := self._misplaced(name)) is not None]
        problems: dict[str, str] = {}

        def choose(name: str, variable: Variable) -> Any:
            problem = variable.problem_with(configuration[name]) if name in configuration else "is missing"
            if problem is None:
                return configuration[name]
            problems[name] = f"{name} {problem}"
            return Missing

        env = self._plan.settle(choose)
        problems |= {
            name: f"{name} exists only when {self._condition_of(name)}; {self._state_of(name, env)}"
            for name in self.conditional
            if name in configuration and name not in env and name not in problems
            # What hangs on a value that is wrong cannot be judged.
            if not ancestors([name], self._needs) & problems.keys()
        }
        failures += [problems[name] for name in self if name in problems]
        if not problems:
            failures += [self._broken_text(each, env) for each in self._plan.broken(env)]
        if failures:
            raise VariableError.of_all("this configuration does not fit the space:", failures)

    def _misplaced(self, name: Any) -> str | None:
        if name in self:
            return None
        if name in self._frozen:
            return f"{name} is frozen at {self._frozen[name]!r}"
        if name in self._definitions:
            return f"{name} is computed from {', '.join(self.composites[name].reads)}, and never set"
        hint = did_you_mean(str(name), self)
        return f"{name} is not a variable of this space" + (f" ({hint})" if hint else "")

    def _condition_of(self, name: str) -> str:
        return grammar.condition_text(self._definitions[name].when)

    def _state_of(self, name: str, env: Mapping[str, Any]) -> str:
        parents = [
            each
            for each in self._definitions[name].when
            if not is_active([(each, self._definitions[name].when[each])], dict(env))
        ]
        return ", ".join(
            f"{each} is {env[each]!r}" if each in env else f"{each} does not exist" for each in parents
        )

    def _broken_text(self, constraint: Constraint, env: dict[str, Any]) -> str:
        values = zip(constraint.reads, self._plan.values_read(constraint, env), strict=True)
        seen = ", ".join(f"{name}={value!r}" for name, value in values)
        return f"the constraint {constraint.name!r} does not hold for {seen}"

    def resolve(self, configuration: Configuration) -> dict[str, Any]:
        """Return what a configuration stands for: objects for labels, with what is frozen and computed."""
        env = self._plan.environment(configuration)
        return {name: self._definitions[name].resolve(value) for name, value in env.items()}

    def settle(self, choose: Callable[[str, Variable], Any]) -> dict[str, Value]:
        """Put a configuration together: `choose` is asked for each variable that exists, parents first."""
        return self._plan.searched_of(self._plan.settle(choose))

    def breaks(self, configuration: Configuration) -> Constraint | None:
        """Return the first constraint that a configuration breaks, or None."""
        return next(self._plan.broken(self._plan.environment(configuration)), None)

    # ── drawing and walking ──

    def sample(self, rng: random.Random, *, max_attempts: int = _MAX_ATTEMPTS) -> dict[str, Value]:
        """Draw a configuration, each variable on its own scale, until one keeps the constraints.

        Raises
        ------
        VariableError
            If none of `max_attempts` does, with the constraint that failed most.
        """
        return self.sample_many(1, rng, max_attempts=max_attempts)[0]

    def sample_many(
        self, n: int, rng: random.Random, *, max_attempts: int = _MAX_ATTEMPTS
    ) -> list[dict[str, Value]]:
        """Draw `n` configurations as `sample` does, sooner than one by one."""
        draw, uniform = self._plan.draw, rng.random
        found = []
        for _ in range(n):
            configuration, broken = draw(uniform)
            if broken is not None:
                failed = Counter([broken.name])
                while broken is not None and failed.total() < max_attempts:
                    configuration, broken = draw(uniform)
                    failed.update([] if broken is None else [broken.name])
                if broken is not None:
                    raise _infeasible(failed)
            found.append(configuration)
        return found

    def repair(
        self, configuration: Configuration, rng: random.Random, *, max_attempts: int = _MAX_ATTEMPTS
    ) -> dict[str, Value]:
        """Redraw what broken constraints read until none is broken; the rest stays as it is.

        Raises
        ------
        VariableError
            If that does not help within `max_attempts`, with the constraint that failed most.
        """
        failed: Counter[str] = Counter()
        current = dict(configuration)
        for _ in range(max_attempts):
            env = self._filled(current)
            broken = next(self._plan.broken(env), None)
            current = self._plan.searched_of(env)
            if broken is None:
                return current
            failed[broken.name] += 1
            read = self._searched_behind(broken.reads)
            current |= {name: self[name].sample(rng) for name in read if name in current}
        raise _infeasible(failed)

    def _searched_behind(self, reads: Sequence[str]) -> set[str]:
        needs = self._needs
        ahead, found = [base_of(read, self._definitions)[0] for read in reads], set()
        while ahead:
            name = ahead.pop()
            found.add(name)
            ahead += [each for each in needs[name] if each not in found]
        return {name for name in found if name in self}

    def candidates(self, resolution: int = 5) -> Iterator[dict[str, Value]]:
        """Walk through every combination, with `resolution` values of each numeric variable."""
        return self._plan.walk(lambda variable: variable.grid(resolution))

    def configurations(self) -> Iterator[dict[str, Value]]:
        """Walk through every configuration of a finite space.

        Raises
        ------
        VariableError
            If there are infinitely many.
        """
        endless = [name for name, variable in self.items() if math.isinf(variable.n_values)]
        if endless:
            raise VariableError(
                f"a continuous variable has no last value: {', '.join(endless)}", hint="space.candidates(5)"
            )
        return self._plan.walk(lambda variable: variable.grid(int(variable.n_values)))

    @cached_property
    def n_configurations(self) -> float:
        """How many configurations there are; ``inf`` with a continuous variable.

        Where constraints or conditions make a difference, up to 100 000 are walked through and counted; beyond
        that it is an upper bound.
        """
        count = self._plan.count()
        if self.constraints and count <= COUNTED:
            return sum(1 for _ in self.configurations())
        return count

    def neighbours(self, configuration: Configuration) -> Iterator[dict[str, Value]]:
        """Find the configurations that keep the constraints and differ in one variable's next value.

        What that brings into existence has its default.
        """
        for name, value in configuration.items():
            for near in self[name].neighbours(value):
                env = self._filled({**configuration, name: near})
                if next(self._plan.broken(env), None) is None:
                    yield self._plan.searched_of(env)

    # ── the unit cube ──

    @property
    def columns(self) -> list[Column]:
        """What `encode` puts where: a column a variable, more for arrays."""
        return list(self._plan.columns)

    def encode(self, configuration: Configuration) -> list[float]:
        """Return a configuration's point in the unit cube.

        Numbers are placed on their scales, exactly up to rounding; steps, whole numbers and labels in the
        middle of a bin each. What does not exist is a category of its own, or 0.5 for a number.
        """
        try:
            return self._plan.encode(configuration)
        except (KeyError, TypeError, ValueError):
            # Checking first would take longer than encoding; what does not fit says so now.
            self.check(configuration)
            raise

    def decode(self, point: Sequence[float]) -> dict[str, Value]:
        """Return the configuration at a point of the unit cube; constraints are not looked at."""
        if len(point) != len(self._plan.columns):
            raise VariableError(f"a point has {len(self._plan.columns)} coordinates, got {len(point)}")
        return self._plan.decode(point)

    def bounds(self) -> list[list[float]]:
        """Return the unit cube's bounds as BoTorch takes them, 2 x columns: ``torch.tensor(space.bounds())``."""
        return [[0.0] * len(self.columns), [1.0] * len(self.columns)]

    # ── other forms ──

    def key_of(self, configuration: Configuration) -> str:
        """Name a configuration by its content; equal in every process and for every order."""
        # 1 and 1.0 are one temperature, and must not be evaluated twice.
        return digest(
            {
                name: each.canonical(configuration[name])
                for name, each in self.items()
                if name in configuration
            }
        )

    def to_pydantic(self, name: str = "Configuration") -> Any:
        """Return a pydantic model of the configurations; see `exchange.to_pydantic`."""
        return exchange.to_pydantic(self, name)

    @classmethod
    def from_pydantic(cls, model: Any) -> Space:
        """Make a space of a pydantic model's fields: bounds, literals and truth values."""
        return cls(exchange.from_schema(model.model_json_schema()))

    def to_optuna(self) -> dict[str, Any]:
        """Return Optuna's distributions; see `exchange.to_optuna`."""
        return exchange.to_optuna(self)

    @classmethod
    def from_optuna(cls, distributions: Mapping[str, Any]) -> Space:
        """Make a space of Optuna's distributions."""
        return cls(exchange.from_optuna(distributions))

    def to_ax(self) -> list[dict[str, Any]]:
        """Return the parameters as Ax's service API takes them; see `exchange.to_ax`."""
        return exchange.to_ax(self)

    # ── programs ──

    def apply(
        self,
        program: dspy.Module,
        configuration: Configuration,
        *,
        lm: FindLM | None = None,
        examples: Sequence[dspy.Example] | None = None,
    ) -> dspy.Module:
        """Return a copy of a program that runs as the configuration says; the program stays as it is.

        A variable's name says what it sets: ``temperature`` for every predictor, ``plan.temperature`` for
        one part, ``*.temperature`` for those that match; ``model``, ``module``, ``adapter``,
        ``instructions`` and ``demos`` likewise, and any attribute of the program's own. A composite is set
        where the program has such a thing.

        Parameters
        ----------
        lm
            Finds a model by its name; by default the session's models.
        examples
            Where demos are taken from.

        Raises
        ------
        DefinitionError
            If the configuration does not fit the space, or the program has no such parts.

        Examples
        --------
        >>> import dspy
        >>> from dspex.variables.base import Float, Module
        >>> space = Space(module=Module(["Predict", "ChainOfThought"]), temperature=Float(0, 1))
        >>> bound = space.apply(
        ...     dspy.Predict("question -> answer"), {"module": "ChainOfThought", "temperature": 0.2}
        ... )
        >>> type(bound).__name__, bound.dspex.values["temperature"]
        ('ChainOfThought', 0.2)
        """
        self.check(configuration)
        return using.bound(self, program, using.values_of(self, configuration, lm), examples=examples)

    def applied(
        self,
        program: dspy.Module,
        configuration: Configuration,
        *,
        lm: FindLM | None = None,
        examples: Sequence[dspy.Example] | None = None,
    ) -> Applied:
        """Let the program itself run as the configuration says, until ``restore()`` or a ``with`` block's end.

        Takes and raises what `apply` does; the program is unchanged if it raises.
        """
        self.check(configuration)
        return using.applied_in_place(self, program, configuration, lm=lm, examples=examples)

    @classmethod
    def infer(cls, program: dspy.Module, *, models: Sequence[str] = (), each_part: bool = False) -> Space:
        """Propose a space for a program: what can vary in it, around how it runs now.

        Parameters
        ----------
        models
            Models to choose among; by default those that its predictors are tied to, if several.
        each_part
            A temperature, model, module and demos of its own for every part.

        Examples
        --------
        >>> import dspy
        >>> list(Space.infer(dspy.Predict("question -> answer")))
        ['temperature', 'module', 'demos', 'adapter']
        """
        return cls(using.inferred(program, models=models, each_part=each_part))

    @staticmethod
    def load(program: dspy.Module, path: str | Path, **options: Any) -> dspy.Module:
        """Return a copy of a program that runs as the bound one did that was saved with ``save(path)``.

        DSPy's own ``load`` does so too for a program of the same modules; this makes the modules anew.
        `options` are those of DSPy's ``load``.
        """
        from dspex.bridge import loading

        return loading.load(program, path, **options)


def _infeasible(failed: Counter[str]) -> VariableError:
    ((name, n),) = failed.most_common(1)
    return VariableError(
        f"no configuration kept the constraints in {failed.total()} attempts; {name!r} failed most ({n} times)",
        hint="loosen that constraint, or narrow the variables that it reads",
    )
