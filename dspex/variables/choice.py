"""One of several values, each with a label that stays the same; and truth values."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self, get_args

from dspex.errors import VariableError, did_you_mean
from dspex.records import Scalar
from dspex.variables.protocol import Coding, Conditions, Kind, Scale, check_default, conditions_of
from dspex.variables.spec import read, written

_FIRST: Any = object()
"""Stands for "the first option": None is an option that one may want."""


class Choice(Kind):
    """One of several values.

    Parameters
    ----------
    options
        Numbers, truth values, texts, classes or functions, which are their own labels or have one; or
        label → any object.
    default
        Label of the program as it stands; the first if left out.
    weights
        How likely each option is to be drawn, in their order or by label; equally if left out.
    ordered
        Whether the options go from one end to the other, so that only the next ones are near.
    when
        Conditions, as `given` takes them.

    Examples
    --------
    >>> tone = Choice(["brief", "kind", "formal"], weights=[2, 1, 1])
    >>> tone, tone.default, tone.encode("kind")
    (Choice(['brief', 'kind', 'formal'], default='brief', weights=[2, 1, 1]), 'brief', 0.5)
    """

    kind: ClassVar[str] = "choice"

    def __init__(
        self,
        options: Sequence[Any] | Mapping[str, Any],
        *,
        default: Any = _FIRST,
        weights: Sequence[float] | Mapping[Any, float] | None = None,
        ordered: bool = False,
        when: Mapping[str, Any] | None = None,
    ) -> None:
        self.options = self._labelled(options)
        if not self.options:
            raise VariableError(f"a {type(self).__name__} needs at least one option, got none")
        self.default: Scalar = next(iter(self.options)) if default is _FIRST else default
        check_default(self)
        self.weights = None if weights is None else self._weighed(weights)
        self.ordered = ordered
        self.when = conditions_of(when or {})

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
        return {label: self._checked(label, option) for label, option in zip(labels, options, strict=True)}

    def _checked(self, label: Any, option: Any) -> Any:  # noqa: ARG002  # subclasses look at it
        """Check what stands behind a label."""
        return option

    def _label(self, option: Any) -> Scalar:
        if isinstance(option, get_args(Scalar)) and not (isinstance(option, float) and math.isnan(option)):
            return option  # type: ignore[no-any-return]  # it is one of Scalar's
        name = getattr(option, "__name__", None)
        if callable(option) and isinstance(name, str) and name.isidentifier():
            return name
        raise VariableError(
            f"an option that is no number, truth value or text needs a label, got {option!r}",
            hint="give a dict: {'label': object}",
        )

    def _weighed(self, weights: Sequence[float] | Mapping[Any, float]) -> tuple[float, ...]:
        if isinstance(weights, Mapping):
            unknown = [label for label in weights if label not in self.options]
            if unknown:
                raise VariableError(
                    f"a weight is given for what is no option: {', '.join(map(repr, unknown))}"
                )
            weights = [weights.get(label, 0) for label in self.options]
        if len(weights) != len(self.options):
            raise VariableError(
                f"weights must be as many as the {len(self.options)} options, got {len(weights)}"
            )
        good = all(isinstance(each, (int, float)) and 0 <= each < math.inf for each in weights)
        if not good or sum(weights) <= 0:
            raise VariableError(f"weights must be numbers >= 0 and not all 0, got {list(weights)}")
        return tuple(weights)

    @property
    def scale(self) -> Scale:
        """Whether the order of the options means something."""
        return "ordered" if self.ordered else "categorical"

    @property
    def n_values(self) -> float:
        """How many values there are."""
        return len(self.options)

    def problem_with(self, value: object) -> str | None:
        """Say what is wrong with a label, or None."""
        if any(type(value) is type(label) and value == label for label in self.options):
            return None
        hint = did_you_mean(str(value), [str(label) for label in self.options])
        known = ", ".join(repr(label) for label in self.options)
        return f"must be one of {known}, got {value!r}" + (f" ({hint})" if hint else "")

    def grid(self, resolution: int) -> list[Any]:  # noqa: ARG002  # the protocol's parameter; there is nothing to thin out
        """Return every label."""
        return list(self.options)

    def neighbours(self, value: Any) -> list[Any]:
        """Return all other labels, or the ones beside it if they are ordered."""
        labels = list(self.options)
        if not self.ordered:
            return [label for label in labels if label != value]
        k = labels.index(value)
        return labels[max(0, k - 1) : k] + labels[k + 1 : k + 2]

    def resolve(self, value: Any) -> Any:
        """Return the object behind a label."""
        return self.options[value]

    def features(self, label: Any) -> dict[str, float]:
        """Return what is known of an option in numbers, for constraints and surrogates."""
        labels = list(self.options)
        return {"position": labels.index(label) / max(1, len(labels) - 1)} if self.ordered else {}

    def feature_names(self) -> set[str]:
        """Return the names of all features that some option has."""
        return {name for label in self.options for name in self.features(label)}

    def coding(self) -> Coding:
        """Return the ways to the unit cube: one bin of equal size an option, whatever its weight."""
        labels = list(self.options)
        n = len(labels)
        places = {label: (k + 0.5) / n for k, label in enumerate(labels)}

        def decode(share: float) -> Any:
            k = int(share * n)
            return labels[0 if k < 0 else k if k < n else n - 1]

        if self.weights is None:
            return Coding(places.__getitem__, decode, lambda uniform: labels[int(uniform() * n)])
        bounds = list(itertools.accumulate(self.weights))
        last = max(k for k, weight in enumerate(self.weights) if weight > 0)
        find, whole = bisect.bisect_right, bounds[-1]
        return Coding(
            places.__getitem__,
            decode,
            lambda uniform: labels[min(last, find(bounds, uniform() * whole))],
        )

    def schema(self) -> dict[str, Any]:
        """Describe the labels as a JSON schema."""
        return {"enum": list(self.options), "default": self.default}

    def content(self) -> dict[str, Any]:
        """Describe the variable as JSON, with labels for objects."""
        return {
            "kind": self.kind,
            "options": list(self.options),
            "default": self.default,
            "weights": None if self.weights is None else list(self.weights),
            "ordered": self.ordered,
            "when": {name: list(values) for name, values in self.when.items()},
        }

    def to_dict(self) -> dict[str, Any]:
        """Describe the variable as JSON from which it can be made again.

        Raises
        ------
        VariableError
            If an option is neither JSON nor importable.
        """
        if all(label is option for label, option in self.options.items()):
            return self.content()
        options = [
            [label, written(option, f"the option {label!r}")] for label, option in self.options.items()
        ]
        return {**self.content(), "options": options}

    @classmethod
    def from_dict(cls, arguments: Mapping[str, Any]) -> Self:
        """Make it from what `to_dict` said."""
        options: Any = arguments["options"]
        if options and isinstance(options[0], list):
            options = {label: read(option) for label, option in options}
        return cls(**{**arguments, "options": options})

    def __repr__(self) -> str:
        said = f"{list(self.options)!r}, default={self.default!r}"
        if self.weights is not None:
            said += f", weights={list(self.weights)!r}"
        if self.ordered:
            said += ", ordered=True"
        return f"{type(self).__name__}({said}){self._suffix()}"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.content() == self.content()

    def __hash__(self) -> int:
        return hash(repr(self))


@dataclass(frozen=True, repr=False)
class Bool(Kind):
    """True or false."""

    default: bool = False
    when: Conditions = field(default_factory=dict, hash=False, kw_only=True)

    kind: ClassVar[str] = "bool"
    scale: ClassVar[Scale] = "categorical"

    def __post_init__(self) -> None:
        object.__setattr__(self, "when", conditions_of(self.when))
        check_default(self)

    def __repr__(self) -> str:
        return f"Bool({'default=True' if self.default else ''}){self._suffix()}"

    @property
    def n_values(self) -> float:
        """How many values there are."""
        return 2

    def problem_with(self, value: object) -> str | None:
        """Say what is wrong with a value, or None."""
        return None if isinstance(value, bool) else f"must be True or False, got {value!r}"

    def grid(self, resolution: int) -> list[Any]:  # noqa: ARG002  # the protocol's parameter; there is nothing to thin out
        """Return both values."""
        return [False, True]

    def neighbours(self, value: bool) -> list[Any]:
        """Return the other one."""
        return [not value]

    def coding(self) -> Coding:
        """Return the ways to the unit cube: false is its lower half."""
        return Coding(
            lambda value: 0.75 if value else 0.25,
            lambda share: share >= 0.5,  # noqa: PLR2004  # half of the unit interval
            lambda uniform: uniform() < 0.5,  # noqa: PLR2004  # a fair coin
        )

    def schema(self) -> dict[str, Any]:
        """Describe the values as a JSON schema."""
        return {"type": "boolean", "default": self.default}

    def content(self) -> dict[str, Any]:
        """Describe the variable as JSON."""
        when = {name: list(values) for name, values in self.when.items()}
        return {"kind": self.kind, "default": self.default, "when": when}
