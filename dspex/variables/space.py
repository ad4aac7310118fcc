"""A space: named variables, and what one can ask of them together."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from dspex.errors import UnknownNameError, VariableError, did_you_mean
from dspex.variables import grammar
from dspex.variables.base import Bool, Choice, Float, Int, Model, Module

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import dspy

    from dspex.bridge.applying import Applied
    from dspex.bridge.inference import Suggestion
    from dspex.records import Configuration, Scalar
    from dspex.variables.base import Variable

    FindLM = Callable[[str | dspy.BaseLM], dspy.BaseLM]


class Space(Mapping[str, "Variable"]):
    """What may vary, by name. Immutable.

    Examples
    --------
    >>> from dspex.variables.base import Choice, Float
    >>> space = Space(temperature=Float(0.0, 1.5, default=0.7), tone=Choice(["brief", "kind"]))
    >>> space.default()
    {'temperature': 0.7, 'tone': 'brief'}
    """

    def __init__(self, /, **variables: Variable) -> None:
        if not variables:
            raise VariableError(
                "a space needs at least one variable, got none", hint="Space(temperature=Float(0, 1))"
            )
        wrong = [
            f"{name} must be a variable, got {variable!r}"
            for name, variable in variables.items()
            if isinstance(variable, type)
            or not (callable(getattr(variable, "problem_with", None)) and hasattr(variable, "n_values"))
        ]
        if wrong:
            raise VariableError.of_all(
                "this space is not well formed:", wrong, hint="use Float, Int, Bool, Choice, Model or Module"
            )
        self._variables = variables

    @classmethod
    def parse(cls, text: str) -> Space:
        """Read a space written one variable a line; `%%dspex space` in a notebook takes the same text.

        Raises
        ------
        VariableError
            If lines cannot be read; all of them are listed.

        Examples
        --------
        >>> Space.parse('''
        ... temperature: float = 0 .. 1.5 (default 0.7)
        ... demos: int = 0 .. 8
        ... model: model = sandbox/small | sandbox/large
        ... ''')
        Space(temperature=Float, demos=Int, model=Model; 9 values x 2 values x continuous)
        """
        return cls(**grammar.parse(text))

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

    def __repr__(self) -> str:
        kinds = ", ".join(f"{name}={type(variable).__name__}" for name, variable in self.items())
        sizes = [variable.n_values for variable in self.values()]
        parts = [f"{size:g} values" for size in sizes if math.isfinite(size)]
        parts += ["continuous"] * (len(sizes) - len(parts))
        return f"Space({kinds}; {' x '.join(parts)})"

    @property
    def n_configurations(self) -> float:
        """How many configurations there are; ``inf`` with a continuous variable."""
        return math.prod(variable.n_values for variable in self.values())

    def default(self) -> dict[str, Scalar]:
        """Return the configuration of the program as it stands."""
        return {name: variable.default for name, variable in self.items()}

    def sample(self, rng: random.Random) -> dict[str, Scalar]:
        """Draw a configuration, each variable uniform on its own scale."""
        return {name: variable.sample(rng) for name, variable in self.items()}

    def candidates(self, resolution: int = 5) -> Iterator[dict[str, Scalar]]:
        """Walk through every combination, with `resolution` values of each numeric variable."""
        grids = [variable.grid(resolution) for variable in self.values()]
        for values in itertools.product(*grids):
            yield dict(zip(self, values, strict=True))

    def check(self, configuration: Configuration) -> None:
        """Check a whole configuration.

        Raises
        ------
        VariableError
            If variables are missing, unknown or out of range; every failure is listed.
        """
        failures = []
        for name in configuration:
            if name not in self:
                hint = did_you_mean(str(name), self)
                failures.append(f"{name} is not a variable of this space" + (f" ({hint})" if hint else ""))
        for name, variable in self.items():
            problem = variable.problem_with(configuration[name]) if name in configuration else "is missing"
            if problem is not None:
                failures.append(f"{name} {problem}")
        if failures:
            raise VariableError.of_all("this configuration does not fit the space:", failures)

    def key_of(self, configuration: Configuration) -> str:
        """Name a configuration by its content; equal in every process and for every order."""
        # 1 and 1.0 are one temperature, and must not be evaluated twice.
        return _digest(
            {
                name: float(configuration[name] or 0)
                if isinstance(self[name], Float)
                else configuration[name]
                for name in self
            }
        )

    @property
    def key(self) -> str:
        """Name the space by its content; equal in every process and for every order."""
        return _digest({name: repr(variable) for name, variable in self.items()})

    # ── programs ────────────────────────────────────────────────────────────────────────────────

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
        ``instructions`` and ``demos`` likewise, and any attribute of the program's own.

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
        >>> from dspex.variables.base import Choice, Float, Module
        >>> space = Space(module=Module(["Predict", "ChainOfThought"]), temperature=Float(0, 1))
        >>> bound = space.apply(
        ...     dspy.Predict("question -> answer"), {"module": "ChainOfThought", "temperature": 0.2}
        ... )
        >>> type(bound).__name__, bound.dspex.values["temperature"]
        ('ChainOfThought', 0.2)
        """
        from dspex.bridge import binding

        return binding.bind(program, self._resolved(configuration, lm), examples=examples)

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
        from dspex.bridge import applying

        values = self._resolved(configuration, lm)
        return applying.apply(values, program, examples=examples)

    def _resolved(self, configuration: Configuration, lm: FindLM | None) -> dict[str, Any]:
        from dspex.bridge import lm as lm_bridge

        self.check(configuration)
        find = lm_bridge.named if lm is None else lm
        values = {name: self[name].resolve(value) for name, value in configuration.items()}
        return {
            name: find(value) if name.rpartition(".")[2] == "model" else value
            for name, value in values.items()
        }

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
        from dspex.bridge import inference

        found = inference.suggestions(program, models=models, each_part=each_part)
        return cls(**{each.name: _suggested(each) for each in found})

    @staticmethod
    def load(program: dspy.Module, path: str | Path, **options: Any) -> dspy.Module:
        """Return a copy of a program that runs as the bound one did that was saved with ``save(path)``.

        DSPy's own ``load`` does so too for a program of the same modules; this makes the modules anew.
        `options` are those of DSPy's ``load``.
        """
        from dspex.bridge import loading

        return loading.load(program, path, **options)


def _suggested(suggestion: Suggestion) -> Variable:
    kind, default = suggestion.kind, suggestion.default
    if kind == "float":
        return Float(suggestion.low, suggestion.high, default=default)
    if kind in {"int", "demos"}:
        return Int(int(suggestion.low), int(suggestion.high), default=default)
    if kind == "bool":
        return Bool(default=default)
    make = {"model": Model, "module": Module, "adapter": Choice}[kind]
    return make(list(suggestion.options), default=default)


def _digest(content: Mapping[str, object]) -> str:
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
