"""What a space is made of: variables, composites, constraints and frozen values, checked and put in order."""

from __future__ import annotations

import copy
import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

from dspex.errors import UnknownNameError, VariableError, did_you_mean
from dspex.variables import grammar, spec
from dspex.variables.formulas import Composite, Constraint
from dspex.variables.graph import ordered
from dspex.variables.plan import base_of, problem_with_read

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from dspex.records import Configuration, Value
    from dspex.variables.protocol import Variable


class Definitions:
    """Named definitions that fit together, and what can be made of them. Immutable."""

    def __init__(
        self,
        definitions: Mapping[str, Variable | Composite] | None = None,
        /,
        *,
        constraints: Iterable[Constraint | str] = (),
        frozen: Configuration | None = None,
        **variables: Variable | Composite,
    ) -> None:
        self._definitions = _definitions_of(definitions, variables)
        self.constraints = _constraints_of(constraints)
        self._frozen = dict(frozen or {})
        _check_references(self._definitions, self.constraints, self._frozen)
        self._frozen = {name: self._definitions[name].canonical(each) for name, each in self._frozen.items()}
        self._order = ordered(self._needs)
        self._variables: dict[str, Variable] = {
            name: each
            for name, each in self._definitions.items()
            if not isinstance(each, Composite) and name not in self._frozen
        }

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a space written one variable a line; `%%dspex space` in a notebook takes the same text.

        Raises
        ------
        VariableError
            If lines cannot be read; all of them are listed.

        Examples
        --------
        >>> from dspex.variables.space import Space
        >>> Space.parse('''
        ... temperature: float = 0 .. 1.5 (default 0.7)
        ... demos: int = 0 .. 8
        ... model: model = sandbox/small | sandbox/large
        ... ''')
        Space(temperature=Float, demos=Int, model=Model; 9 values x 2 values x continuous)
        """
        said = grammar.parse(text)
        return cls(said.definitions, constraints=said.constraints, frozen=said.frozen)

    @property
    def definitions(self) -> Mapping[str, Variable | Composite]:
        """Everything by name: what is searched, what is frozen, and composites."""
        return MappingProxyType(self._definitions)

    @property
    def composites(self) -> dict[str, Composite]:
        """What is computed."""
        return {name: each for name, each in self._definitions.items() if isinstance(each, Composite)}

    @property
    def frozen(self) -> Configuration:
        """What is not searched but has a value."""
        return MappingProxyType(self._frozen)

    @property
    def order(self) -> list[str]:
        """All names, each after what its condition or formula reads."""
        return list(self._order)

    def values_of(self, name: str, resolution: int = 5) -> list[Any]:
        """Return the values that a variable may take here: its grid, or the one at which it is frozen."""
        return [self._frozen[name]] if name in self._frozen else list(self._variables[name].grid(resolution))

    @property
    def _needs(self) -> dict[str, list[str]]:
        return {
            name: [
                *each.when,
                *(base_of(read, self._definitions)[0] for read in getattr(each, "reads", ())),
            ]
            for name, each in self._definitions.items()
        }

    # ── spaces from spaces ──

    def merge(self, other: Definitions) -> Self:
        """Return a space with everything of both; ``|`` is the same.

        Raises
        ------
        VariableError
            If both define a name, and differently; every one is listed.
        """
        if not isinstance(other, Definitions):
            raise VariableError(
                f"a space merges with a space, got {other!r}", hint="space | Space(x=Int(0, 1))"
            )
        failures = [
            f"{name} is {mine!r} here and {theirs!r} there"
            for mine_all, theirs_all in (
                (self._definitions, other._definitions),
                (self._frozen, other._frozen),
                (
                    {each.name: each for each in self.constraints},
                    {each.name: each for each in other.constraints},
                ),
            )
            for name, mine in mine_all.items()
            for theirs in [theirs_all.get(name, mine)]
            if mine != theirs
        ]
        if failures:
            raise VariableError.of_all("these spaces say different things:", failures)
        return type(self)(
            {**self._definitions, **other._definitions},
            constraints=dict.fromkeys([*self.constraints, *other.constraints]),
            frozen={**self._frozen, **other._frozen},
        )

    __or__ = merge

    def only(self, *names: str) -> Self:
        """Return the space of some variables, without the composites and constraints that read others.

        Raises
        ------
        VariableError
            If a condition hangs on a variable that is left out.
        """
        for name in names:
            if name not in self._definitions:
                raise UnknownNameError.among("variable", name, self._definitions)
        kept = {name: each for name, each in self._definitions.items() if name in names}
        for name in self._order:
            each = self._definitions[name]
            if name in kept and isinstance(each, Composite) and not _reads_only(each.reads, kept):
                del kept[name]
        return type(self)(
            kept,
            constraints=[each for each in self.constraints if _reads_only(each.reads, kept)],
            frozen={name: value for name, value in self._frozen.items() if name in kept},
        )

    def without(self, *names: str) -> Self:
        """Return the space without some variables; see `only`."""
        for name in names:
            if name not in self._definitions:
                raise UnknownNameError.among("variable", name, self._definitions)
        return self.only(*(name for name in self._definitions if name not in names))

    def freeze(self, values: Configuration | None = None, /, **named: Value) -> Self:
        """Return the space with some variables fixed: no longer searched, still resolved."""
        return type(self)(
            self._definitions,
            constraints=self.constraints,
            frozen={**self._frozen, **dict(values or {}), **named},
        )

    def starting_at(self, configuration: Configuration) -> Self:
        """Return the space with other defaults, for a search that begins with them.

        What adapts in service is searched like any other variable.
        """
        return type(self)(
            {name: _starting_at(each, name, configuration) for name, each in self._definitions.items()},
            constraints=self.constraints,
            frozen=self._frozen,
        )

    def prepared(self, program: Any, examples: Sequence[Any]) -> Self:
        """Return the space with the options that its proposers propose for a program."""
        return type(self)(
            {
                name: each.prepared(program, examples) if hasattr(each, "prepared") else each
                for name, each in self._definitions.items()
            },
            constraints=self.constraints,
            frozen=self._frozen,
        )

    def diff(self, other: Definitions) -> Difference:
        """Say what another space has, lacks, or has otherwise."""
        mine, theirs = self._parts(), other._parts()
        return Difference(
            added={name: each for name, each in theirs.items() if name not in mine},
            removed={name: each for name, each in mine.items() if name not in theirs},
            changed={
                name: (each, theirs[name])
                for name, each in mine.items()
                if name in theirs and theirs[name] != each
            },
        )

    def _parts(self) -> dict[str, Any]:
        named = {f"constraint {each.name!r}": each for each in self.constraints}
        return {
            **self._definitions,
            **{f"{name} frozen": value for name, value in self._frozen.items()},
            **named,
        }

    # ── identity, and other forms ──

    @property
    def key(self) -> str:
        """Name the space by its content; equal in every process and for every order."""
        return digest(self._content())

    def _content(self) -> dict[str, Any]:
        return {
            "variables": {name: each.content() for name, each in self._definitions.items()},
            "frozen": self._frozen,
            "constraints": sorted(
                (each.content() for each in self.constraints), key=lambda each: each["name"]
            ),
        }

    def to_dict(self) -> dict[str, Any]:
        """Describe the space as JSON from which it can be made again.

        Raises
        ------
        VariableError
            If an object in it is neither plain data nor importable.
        """
        return {
            "variables": {name: each.to_dict() for name, each in self._definitions.items()},
            "frozen": self._frozen,
            "constraints": [each.to_dict() for each in self.constraints],
        }

    @classmethod
    def from_dict(cls, said: Mapping[str, Any]) -> Self:
        """Make a space from what `to_dict` said; what it names is imported, so read only what you trust."""
        return cls(
            {name: spec.variable(each) for name, each in said["variables"].items()},
            constraints=[Constraint.from_dict(each) for each in said.get("constraints", ())],
            frozen=said.get("frozen"),
        )

    def to_json(self) -> str:
        """Write the space as JSON; see `to_dict`."""
        return json.dumps(self.to_dict(), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote; what it names is imported, so read only what you trust."""
        try:
            return cls.from_dict(json.loads(text))
        except (KeyError, json.JSONDecodeError) as error:
            raise VariableError(f"this is no space's JSON: {type(error).__name__}: {error}") from error

    def to_text(self) -> str:
        """Write the space one variable a line, as `parse` reads it; see `grammar`."""
        return grammar.written(self._definitions, self.constraints, self._frozen)


@dataclass(frozen=True, slots=True)
class Difference:
    """How one space differs from another, by name."""

    added: Mapping[str, Any] = field(default_factory=dict)
    removed: Mapping[str, Any] = field(default_factory=dict)
    changed: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)

    def __str__(self) -> str:
        lines = [f"+ {name}: {each!r}" for name, each in self.added.items()]
        lines += [f"- {name}: {each!r}" for name, each in self.removed.items()]
        lines += [f"~ {name}: {mine!r} → {theirs!r}" for name, (mine, theirs) in self.changed.items()]
        return "\n".join(lines) or "no difference"


def _starting_at(each: Any, name: str, configuration: Configuration) -> Any:
    plain = getattr(each, "variable", each)
    if name not in configuration:
        return plain
    moved = copy.copy(plain)
    # Kinds are frozen; a copy that nobody has seen yet is not.
    object.__setattr__(moved, "default", configuration[name])
    return moved


def _definitions_of(given: Any, named: Mapping[str, Any]) -> dict[str, Any]:
    if given is not None and not isinstance(given, Mapping):
        raise VariableError(
            f"definitions map names to variables, got {given!r}",
            hint="Space.parse(text) reads a text"
            if isinstance(given, str)
            else "Space(temperature=Float(0, 1))",
        )
    twice = sorted(set(given or {}) & set(named))
    if twice:
        raise VariableError(
            f"each name is defined once, got {', '.join(twice)} in the mapping and as a keyword"
        )
    definitions = {**(given or {}), **named}
    _check_definitions(definitions)
    return definitions


def _constraints_of(given: Iterable[Constraint | str]) -> tuple[Constraint, ...]:
    each_given = [given] if isinstance(given, (str, Constraint)) else list(given)
    wrong = [repr(each) for each in each_given if not isinstance(each, (str, Constraint))]
    if wrong:
        raise VariableError(
            f"a constraint is a Constraint or a formula as text, got {', '.join(wrong)}", hint="'a <= b'"
        )
    return tuple(Constraint(each) if isinstance(each, str) else each for each in each_given)


def _check_definitions(definitions: Mapping[str, Any]) -> None:
    if not definitions:
        raise VariableError(
            "a space needs at least one variable, got none", hint="Space(temperature=Float(0, 1))"
        )
    wrong = [
        f"{name} must be a variable, got {each!r}"
        for name, each in definitions.items()
        if isinstance(each, type)
        or not (isinstance(each, Composite) or callable(getattr(each, "coding", None)))
    ]
    wrong += [
        f"a name must be a text, got {name!r}" for name in definitions if not (isinstance(name, str) and name)
    ]
    if wrong:
        raise VariableError.of_all(
            "this space is not well formed:", wrong, hint="use Float, Int, Bool, Choice, Model or Module"
        )


def _check_references(
    definitions: Mapping[str, Any], constraints: Sequence[Constraint], frozen: Configuration
) -> None:
    """Refuse conditions, formulas and frozen values that do not fit what is defined, all at once."""
    wrong = [
        text for name, each in definitions.items() for text in _wrong_conditions(name, each, definitions)
    ]
    formulas: dict[str, Composite | Constraint] = {
        name: each for name, each in definitions.items() if isinstance(each, Composite)
    }
    formulas |= {f"the constraint {each.name!r}": each for each in constraints}
    problems = [
        (name, problem_with_read(read, definitions)) for name, each in formulas.items() for read in each.reads
    ]
    wrong += [f"{name} reads {problem}" for name, problem in problems if problem is not None]
    names = Counter(each.name for each in constraints)
    wrong += [f"the constraint {name!r} is there {n} times" for name, n in names.items() if n > 1]
    wrong += [text for name, value in frozen.items() for text in _wrong_frozen(name, value, definitions)]
    if wrong:
        raise VariableError.of_all("this space is not well formed:", wrong)


def _wrong_conditions(name: str, each: Any, definitions: Mapping[str, Any]) -> Iterator[str]:
    for parent, values in each.when.items():
        if parent not in definitions:
            hint = did_you_mean(parent, definitions)
            yield f"{name} hangs on {parent!r}, which is no variable" + (f" ({hint})" if hint else "")
        elif not isinstance(definitions[parent], Composite):
            for value in values:
                problem = definitions[parent].problem_with(value)
                if problem is not None:
                    yield f"{name} hangs on a value of {parent}, which {problem}"


def _wrong_frozen(name: str, value: Any, definitions: Mapping[str, Any]) -> Iterator[str]:
    if name not in definitions:
        hint = did_you_mean(name, definitions)
        yield f"{name} is frozen, but no variable" + (f" ({hint})" if hint else "")
    elif isinstance(definitions[name], Composite):
        yield f"{name} is computed from {', '.join(definitions[name].reads)}, and never set"
    elif (problem := definitions[name].problem_with(value)) is not None:
        yield f"{name} {problem}"


def _reads_only(reads: Sequence[str], kept: Mapping[str, Any]) -> bool:
    return all(read in kept or read.rpartition(".")[0] in kept for read in reads)


def digest(content: Mapping[str, object]) -> str:
    """Name something by its content as JSON; equal in every process and for every order."""
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
