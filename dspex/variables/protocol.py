"""What every variable can do, and the condition under which it exists."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from types import NoneType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol, Self

from dspex.errors import VariableError

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable

    from dspex.records import Scalar, Value

Conditions = Mapping[str, tuple["Scalar", ...]]
"""Variable → the values under which another one exists; all of them must hold."""

Scale = Literal["continuous", "ordered", "categorical"]


class Coding(NamedTuple):
    """A variable's ways between its values and the unit cube, made once a space."""

    encode: Callable[[Any], Any]
    """Value → a number in [0, 1], or a list of `width` of them."""
    decode: Callable[[Any], Value]
    """The way back; every point of the cube means some value."""
    draw: Callable[[Callable[[], float]], Value]
    """Draw a value, given what draws uniformly from [0, 1)."""


class Variable(Protocol):
    """Something that may vary."""

    @property
    def when(self) -> Conditions:
        """Where it exists: everywhere if there are no conditions."""
        ...

    @property
    def default(self) -> Value:
        """The value used when nothing else is said."""
        ...

    @property
    def n_values(self) -> float:
        """How many values there are; ``inf`` on a continuous scale."""
        ...

    @property
    def scale(self) -> Scale:
        """How its values relate to one another."""
        ...

    @property
    def width(self) -> int:
        """How many columns of the unit cube it takes."""
        ...

    def problem_with(self, value: object) -> str | None:
        """Say what is wrong with a value, or None."""
        ...

    def canonical(self, value: Any) -> Value:
        """Return a value that fits as JSON has it: equal values become one and the same."""
        ...

    def coding(self) -> Coding:
        """Return the ways to the unit cube and back."""
        ...

    def sample(self, rng: random.Random) -> Value:
        """Draw a value."""
        ...

    def grid(self, resolution: int) -> Sequence[Value]:
        """Return every value, or `resolution` of them evenly spaced."""
        ...

    def neighbours(self, value: Any) -> Sequence[Any]:
        """Return the values next to one, itself left out."""
        ...

    def resolve(self, value: Any) -> Any:
        """Return what a value stands for: itself, or the object behind a label."""
        ...

    def schema(self) -> dict[str, Any]:
        """Describe the values as a JSON schema."""
        ...

    def content(self) -> dict[str, Any]:
        """Describe the variable as JSON, with labels for objects: what makes it the same as another."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Describe the variable as JSON from which it can be made again."""
        ...


class Conditional:
    """What may exist only where other variables have certain values."""

    when: Conditions
    kind: ClassVar[str] = ""
    """What the kind is called in text and JSON."""

    def given(self, conditions: Mapping[str, Any] | None = None, /, **named: Any) -> Self:
        """Return the variable as one that exists only where others have certain values.

        Conditions add up; naming a variable again replaces what was said of it.

        Examples
        --------
        >>> from dspex.variables.base import Int
        >>> Int(1, 5).given(module=["BestOfN", "Refine"])
        Int(1, 5).given(module=['BestOfN', 'Refine'])
        """
        conditioned = copy.copy(self)
        # Kinds are frozen; a copy that nobody has seen yet is not.
        added = {**conditions_of(conditions or {}), **conditions_of(named)}
        object.__setattr__(conditioned, "when", {**self.when, **added})
        return conditioned

    def _suffix(self) -> str:
        if not self.when:
            return ""
        terms = {name: values[0] if len(values) == 1 else list(values) for name, values in self.when.items()}
        if all(name.isidentifier() for name in terms):
            return f".given({', '.join(f'{name}={value!r}' for name, value in terms.items())})"
        return f".given({terms!r})"

    @classmethod
    def from_dict(cls, arguments: Mapping[str, Any]) -> Self:
        """Make it from what `to_dict` said."""
        return cls(**arguments)


class Kind(Conditional):
    """What the kinds of variable share: what follows from `coding`."""

    unit: ClassVar[str] = ""
    """What its numbers count."""
    width = 1

    def encode(self, value: Any) -> Any:
        """Return a value's place in the unit cube: a number in [0, 1], or `width` of them."""
        return self.coding().encode(value)

    def decode(self, place: Any) -> Value:
        """Return the value at a place in the unit cube."""
        return self.coding().decode(place)

    def sample(self, rng: random.Random) -> Any:
        """Draw a value, uniform on its scale unless a prior or weights say otherwise."""
        return self.coding().draw(rng.random)

    def coding(self) -> Coding:
        """Return the ways to the unit cube and back."""
        raise NotImplementedError

    def canonical(self, value: Any) -> Any:
        """Return a value that fits as JSON has it."""
        return value

    def resolve(self, value: Any) -> Any:
        """Return the value itself."""
        return value

    def content(self) -> dict[str, Any]:
        """Describe the variable as JSON, with labels for objects."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """Describe the variable as JSON from which `dspex.variables.spec.variable` makes it again."""
        return self.content()


def conditions_of(given: Mapping[str, Any]) -> dict[str, tuple[Scalar, ...]]:
    """Read conditions as they are written: one value, or several."""
    if not isinstance(given, Mapping):
        raise VariableError(
            f"conditions map variables to their values, got {given!r}", hint=".given(module='BestOfN')"
        )
    conditions = {
        name: tuple(_in_order(values)) if isinstance(values, (list, tuple, set, frozenset)) else (values,)
        for name, values in given.items()
    }
    for name, values in conditions.items():
        if any(not isinstance(value, (str, int, float, NoneType)) for value in values):
            raise VariableError(
                f"a condition's values are numbers, truth values and texts, got {values} for {name}"
            )
        if not values:
            raise VariableError(
                f"a condition needs at least one value, got none for {name}",
                hint=".given(module='BestOfN')",
            )
    return conditions


def _in_order(values: Iterable[Any]) -> list[Any]:
    """Sort and thin out values, so that the same condition is always written alike."""
    different: list[Any] = []
    for value in values:
        if value not in different:
            different.append(value)
    return sorted(different, key=lambda value: (type(value).__name__, 0 if value is None else value))


def check_default(variable: Variable) -> None:
    """Refuse a default that is not among the values."""
    problem = variable.problem_with(variable.default)
    if problem is not None:
        raise VariableError(f"the default {problem}")
