"""Demos as variables: how many and which, or one of several sets of them."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from dspex.errors import VariableError
from dspex.variables.choice import Choice
from dspex.variables.numeric import Int
from dspex.variables.spec import written

if TYPE_CHECKING:
    from dspex.records import Scalar

Picking = Literal["first", "random", "balanced"]


@dataclass(frozen=True, slots=True)
class DemoPick:
    """How many demos, and which: what a value of `Demos` stands for."""

    n: int
    choose: Picking = "first"
    by: str | None = None
    seed: int = 0
    examples: Sequence[Any] | None = field(default=None, repr=False)

    def pick(self, pool: Sequence[Any]) -> list[Any]:
        """Choose from the variable's own examples, or else from `pool`; as many as there are."""
        pool = list(pool if self.examples is None else self.examples)
        if self.choose != "first":
            random.Random(self.seed).shuffle(pool)
        if self.choose == "balanced":
            pool = _in_turn(pool, self.by)
        return pool[: self.n]


@dataclass(frozen=True, repr=False)
class Demos(Int):
    """How many demos, from which examples, chosen how.

    Parameters
    ----------
    examples
        What to choose from; the study's own if left out.
    choose
        The first ones, random ones, or "balanced": every value of the field `by` in turn.
    seed
        Of the choice: the same seed gives the same demos, and more of them begin with the fewer.

    Examples
    --------
    >>> pool = [{"text": "a", "label": "x"}, {"text": "b", "label": "x"}, {"text": "c", "label": "y"}]
    >>> picked = Demos(0, 8, choose="balanced", by="label").resolve(2).pick(pool)
    >>> sorted(example["label"] for example in picked)
    ['x', 'y']
    """

    examples: Sequence[Any] | None = field(default=None, hash=False, kw_only=True)
    choose: Picking = field(default="first", kw_only=True)
    by: str | None = field(default=None, kw_only=True)
    seed: int = field(default=0, kw_only=True)

    kind: ClassVar[str] = "demos"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low < 0:
            raise VariableError(f"a number of demos must be >= 0, got low={self.low}")
        if self.choose not in get_args(Picking):
            raise VariableError(f"demos are chosen {', '.join(get_args(Picking))}, got {self.choose!r}")
        if (self.by is None) == (self.choose == "balanced"):
            raise VariableError(
                f"by= names the field that 'balanced' balances, got choose={self.choose!r}, by={self.by!r}",
                hint="Demos(0, 8, choose='balanced', by='label')",
            )

    def resolve(self, value: int) -> DemoPick:
        """Return what picks so many demos."""
        return DemoPick(value, self.choose, self.by, self.seed, self.examples)

    def content(self) -> dict[str, Any]:
        """Describe the variable as JSON; examples of its own by what they say."""
        said = super().content()
        return said if self.examples is None else {**said, "examples": [repr(each) for each in self.examples]}

    def to_dict(self) -> dict[str, Any]:
        """Describe the variable as JSON from which it can be made again."""
        said = super().to_dict()
        if self.examples is None:
            return said
        return {**said, "examples": written(list(self.examples), "examples")["value"]}


class DemoSet(Choice):
    """Which demos: label → a list of examples.

    Examples
    --------
    >>> DemoSet(
    ...     {"none": [], "two": [{"question": "1+1?", "answer": "2"}, {"question": "2+2?", "answer": "4"}]}
    ... )
    DemoSet(['none', 'two'], default='none')
    """

    kind: ClassVar[str] = "demo_set"

    def _labelled(self, options: Sequence[Any] | Mapping[str, Any]) -> dict[Scalar, Any]:
        if not isinstance(options, Mapping):
            raise VariableError(
                f"a DemoSet is label → list of examples, got {options!r}", hint="{'none': []}"
            )
        return super()._labelled(options)

    def _checked(self, label: Any, option: Any) -> Any:
        if isinstance(option, (str, Mapping)) or not isinstance(option, Sequence):
            raise VariableError(f"the demos of {label!r} must be a list of examples, got {option!r}")
        return list(option)


def _in_turn(pool: Sequence[Any], by: str | None) -> list[Any]:
    """Order examples so that every value of a field comes once before any comes twice."""
    turns: dict[str, int] = {}
    placed: list[tuple[int, int, Any]] = []
    for example in pool:
        try:
            value = json.dumps(example[by], sort_keys=True, default=str)
        except KeyError as error:
            raise VariableError(
                f"demos are balanced by {by!r}, which an example lacks: {example!r}"
            ) from error
        turns[value] = turns.get(value, -1) + 1
        placed.append((turns[value], len(placed), example))
    return [example for _, _, example in sorted(placed, key=lambda each: each[:2])]
