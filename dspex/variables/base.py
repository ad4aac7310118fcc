"""The kinds of variable. Each knows its values, checks one, and draws one; none knows what it will change."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from dspex.errors import DefinitionError, VariableError, did_you_mean

_FIRST: Any = object()
"""Stands for "the first option": None is an option that one may want."""

if TYPE_CHECKING:
    import random

    from dspex.records import Scalar


class Variable(Protocol):
    """Something that may vary."""

    @property
    def default(self) -> Scalar:
        """The value used when nothing else is said."""
        ...

    @property
    def n_values(self) -> float:
        """How many values there are; ``inf`` on a continuous scale."""
        ...

    def problem_with(self, value: object) -> str | None:
        """Say what is wrong with a value, or None."""
        ...

    def sample(self, rng: random.Random) -> Scalar:
        """Draw a value."""
        ...

    def grid(self, resolution: int) -> Sequence[Scalar]:
        """Return every value, or `resolution` of them evenly spaced."""
        ...

    def resolve(self, value: Scalar) -> Any:
        """Return what a value stands for: itself, or the object behind a label."""
        ...


@dataclass(frozen=True)
class Float:
    """A real number in ``[low, high]``.

    Parameters
    ----------
    low, high
        Bounds, inclusive.
    default
        Value of the program as it stands; the middle of the range if left out.
    log
        Search on a logarithmic scale; `low` must then be positive.
    step
        Only ``low + k * step``.
    """

    low: float
    high: float
    default: float | None = None
    log: bool = False
    step: float | None = None

    def __post_init__(self) -> None:
        _check_range(self.low, self.high, self.step)
        if self.log and self.low <= 0:
            raise VariableError(f"a log scale needs low > 0, got low={self.low}")
        if self.log and self.step is not None:
            raise VariableError(f"a log scale has no step, got step={self.step}")
        if self.default is None:
            middle = math.sqrt(self.low * self.high) if self.log else (self.low + self.high) / 2
            object.__setattr__(self, "default", self._on_step(middle))
        _check_default(self)

    @property
    def n_values(self) -> float:
        """How many values there are."""
        return math.inf if self.step is None else self._n_steps + 1

    @property
    def _n_steps(self) -> int:
        assert self.step is not None
        return math.floor((self.high - self.low) / self.step + 1e-9)

    def problem_with(self, value: object) -> str | None:
        """Say what is wrong with a value, or None."""
        if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
            return f"must be a number, got {value!r}"
        if not self.low <= value <= self.high:
            return f"must be in [{self.low:g}, {self.high:g}], got {value!r}"
        if self.step is not None and not math.isclose(self._on_step(value), value, abs_tol=1e-9):
            return f"must be {self.low:g} plus a multiple of {self.step:g}, got {value!r}"
        return None

    def sample(self, rng: random.Random) -> float:
        """Draw a value, uniform on its scale."""
        if self.step is not None:
            return self.at_step(rng.randrange(self._n_steps + 1))
        return self._at(rng.random())

    def grid(self, resolution: int) -> list[Scalar]:
        """Return every step, or `resolution` values evenly spaced on its scale."""
        n = int(min(self.n_values, resolution))
        return [*sorted({self._at(k / (n - 1)) for k in range(n)})] if n > 1 else [self.default]

    def resolve(self, value: Scalar) -> Any:
        """Return the value itself."""
        return value

    def _at(self, share: float) -> float:
        if self.log:
            value = math.exp(math.log(self.low) + share * (math.log(self.high) - math.log(self.low)))
        else:
            value = self.low + share * (self.high - self.low)
        return self._on_step(min(self.high, max(self.low, value)))

    def _on_step(self, value: float) -> float:
        if self.step is None:
            return value
        return self.at_step(min(self._n_steps, round((value - self.low) / self.step)))

    def at_step(self, k: int) -> float:
        """Return ``low + k * step``, which rounding must not carry past `high`."""
        assert self.step is not None
        return min(self.high, self.low + k * self.step)


@dataclass(frozen=True)
class Int:
    """A whole number in ``[low, high]``, both included, `low` by default."""

    low: int
    high: int
    default: int | None = None
    log: bool = False
    step: int = 1

    def __post_init__(self) -> None:
        for name in ("low", "high", "step"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise VariableError(f"an Int's {name} must be a whole number, got {value!r}")
        _check_range(self.low, self.high, self.step)
        if self.log and self.low <= 0:
            raise VariableError(f"a log scale needs low > 0, got low={self.low}")
        if self.log and self.step != 1:
            raise VariableError(f"a log scale has no step, got step={self.step}")
        if self.default is None:
            object.__setattr__(self, "default", self.low)
        _check_default(self)

    @property
    def n_values(self) -> float:
        """How many values there are."""
        return (self.high - self.low) // self.step + 1

    def problem_with(self, value: object) -> str | None:
        """Say what is wrong with a value, or None."""
        if isinstance(value, bool) or not isinstance(value, int):
            return f"must be a whole number, got {value!r}"
        if not self.low <= value <= self.high:
            return f"must be in [{self.low}, {self.high}], got {value}"
        if (value - self.low) % self.step:
            return f"must be {self.low} plus a multiple of {self.step}, got {value}"
        return None

    def sample(self, rng: random.Random) -> int:
        """Draw a value, uniform on its scale."""
        if self.log:
            # Half a step beyond each end gives the ends their full share.
            share = rng.uniform(math.log(self.low - 0.5), math.log(self.high + 0.5))
            return min(self.high, max(self.low, round(math.exp(share))))
        return rng.randrange(self.low, self.high + 1, self.step)

    def grid(self, resolution: int) -> list[Scalar]:
        """Return every value, or `resolution` of them evenly spaced."""
        values = range(self.low, self.high + 1, self.step)
        if resolution == 1:
            return [self.default]
        if len(values) <= resolution:
            return list(values)
        return [*sorted({values[round(k * (len(values) - 1) / (resolution - 1))] for k in range(resolution)})]

    def resolve(self, value: Scalar) -> Any:
        """Return the value itself."""
        return value


@dataclass(frozen=True)
class Bool:
    """True or false."""

    default: bool = False

    def __post_init__(self) -> None:
        _check_default(self)

    @property
    def n_values(self) -> float:
        """How many values there are."""
        return 2

    def problem_with(self, value: object) -> str | None:
        """Say what is wrong with a value, or None."""
        return None if isinstance(value, bool) else f"must be True or False, got {value!r}"

    def sample(self, rng: random.Random) -> bool:
        """Draw a value."""
        return rng.random() < 0.5  # noqa: PLR2004  # a fair coin

    def grid(self, resolution: int) -> list[bool]:  # noqa: ARG002  # the protocol's parameter; there is nothing to thin out
        """Return both values."""
        return [False, True]

    def resolve(self, value: Scalar) -> Any:
        """Return the value itself."""
        return value


class Choice:
    """One of several values.

    Parameters
    ----------
    options
        Numbers, truth values or texts, which are their own labels; or label → any object.
    default
        Label of the program as it stands; the first if left out.
    """

    def __init__(self, options: Sequence[Any] | Mapping[str, Any], *, default: Any = _FIRST) -> None:
        self.options = self._labelled(options)
        if not self.options:
            raise VariableError(f"a {type(self).__name__} needs at least one option, got none")
        self.default: Scalar = next(iter(self.options)) if default is _FIRST else default
        _check_default(self)

    def _labelled(self, options: Sequence[Any] | Mapping[str, Any]) -> dict[Scalar, Any]:
        if isinstance(options, str):
            raise VariableError(
                f"options must be a list, got the text {options!r}", hint=f"write [{options!r}]"
            )
        if not isinstance(options, (Mapping, Sequence)):
            raise VariableError(f"options must be a list or a dict, got {options!r}", hint="write ['a', 'b']")
        if isinstance(options, Mapping):
            return {
                Choice._label(self, label): self._checked(label, option) for label, option in options.items()
            }
        labels = [self._label(option) for option in options]
        twice = sorted({str(label) for label in labels if labels.count(label) > 1})
        if twice:
            raise VariableError(f"options must differ, got {', '.join(twice)} more than once")
        return dict(zip(labels, options, strict=True))

    def _checked(self, label: Any, option: Any) -> Any:  # noqa: ARG002  # subclasses look at it
        """Check what stands behind a label."""
        return option

    def _label(self, option: Any) -> Scalar:
        if option is None or isinstance(option, (str, int, float, bool)):
            return option
        raise VariableError(
            f"an option that is no number, truth value or text needs a label, got {option!r}",
            hint="give a dict: {'label': object}",
        )

    @property
    def n_values(self) -> float:
        """How many values there are."""
        return len(self.options)

    def problem_with(self, value: object) -> str | None:
        """Say what is wrong with a label, or None."""
        # True == 1 in Python; a configuration must not confuse them.
        if any(value == label and type(value) is type(label) for label in self.options):
            return None
        hint = did_you_mean(str(value), [str(label) for label in self.options])
        known = ", ".join(repr(label) for label in self.options)
        return f"must be one of {known}, got {value!r}" + (f" ({hint})" if hint else "")

    def sample(self, rng: random.Random) -> Scalar:
        """Draw a label."""
        return rng.choice(list(self.options))

    def grid(self, resolution: int) -> list[Scalar]:  # noqa: ARG002  # the protocol's parameter; there is nothing to thin out
        """Return every label."""
        return list(self.options)

    def resolve(self, value: Scalar) -> Any:
        """Return the object behind a label."""
        return self.options[value]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self.options)!r}, default={self.default!r})"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and repr(other) == repr(self)

    def __hash__(self) -> int:
        return hash(repr(self))


class Model(Choice):
    """Which model: DSPy model strings, or `dspy.LM` objects, which go by their `model` name."""

    def _checked(self, label: Any, option: Any) -> Any:  # noqa: ARG002  # its own name is not needed
        self._label(option)
        return option

    def _label(self, option: Any) -> Scalar:
        label = option if isinstance(option, str) else getattr(option, "model", None)
        if not isinstance(label, str) or not label:
            raise VariableError(
                f"a model is a name such as 'openai/gpt-4o-mini' or a dspy.LM, got {option!r}",
            )
        return label


class Module(Choice):
    """Which module: `dspy.Module` classes, functions that make one from a signature, or their names.

    A name is DSPy's own (``"ChainOfThought"``) or an import string (``"package.module:Class"``).
    """

    def _labelled(self, options: Sequence[Any] | Mapping[str, Any]) -> dict[Scalar, Any]:
        from dspex.bridge import program

        labelled = super()._labelled(options)
        problems = []
        for label, option in labelled.items():
            try:
                labelled[label] = program.module_class(option)
            except DefinitionError as error:
                problems.append(str(error))
        if problems:
            raise VariableError.of_all("every option must be a module:", problems)
        return labelled

    def _label(self, option: Any) -> Scalar:
        if isinstance(option, str):
            return option
        return getattr(option, "__name__", None) or super()._label(option)


def _check_range(low: float, high: float, step: float | None) -> None:
    for name, value in (("low", low), ("high", high)):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise VariableError(f"{name} must be a finite number, got {value!r}")
    if low >= high:
        raise VariableError(
            f"low must be < high, got low={low}, high={high}", hint="swap them?" if low > high else None
        )
    if step is not None and (isinstance(step, bool) or not isinstance(step, (int, float))):
        raise VariableError(f"step must be a number, got {step!r}")
    if step is not None and not 0 < step <= high - low:
        raise VariableError(
            f"step must be in (0, high - low], got step={step} with high - low = {high - low}"
        )


def _check_default(variable: Variable) -> None:
    problem = variable.problem_with(variable.default)
    if problem is not None:
        raise VariableError(f"the default {problem}")
