"""Tasks: simulated data sets with a metric, feedback, and a known optimum."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from dspex.errors import UnknownNameError
from dspex.sandbox import truth
from dspex.sandbox.families import FAMILIES, drawn, recognise
from dspex.sandbox.world import MODELS

if TYPE_CHECKING:
    from dspex.sandbox.items import Answer, Family, Item

Split = Literal["train", "dev", "test"]
_SIZES: dict[Split, int] = {"train": 200, "dev": 300, "test": 300}


@dataclass(frozen=True, slots=True, repr=False)
class Task:
    """A simulated task: its texts are written by code, and its truth is known.

    Make one with `task`.

    Examples
    --------
    >>> triage = task("triage")
    >>> triage
    simulated task triage: 200 train, 300 dev, 300 test examples
    >>> len(triage.dev)
    300
    """

    name: str
    seed: int = 0

    def __repr__(self) -> str:
        sizes = ", ".join(f"{size} {split}" for split, size in _SIZES.items())
        return f"simulated task {self.name}: {sizes} examples"

    @property
    def description(self) -> str:
        """What it is."""
        return self._family.description

    @property
    def signature(self) -> str:
        """The DSPy signature, as a spec string."""
        return self._family.signature

    @property
    def instructions(self) -> str:
        """Plain instructions that give no rule away."""
        return self._family.instructions

    @property
    def default_model(self) -> str:
        """The model to start from."""
        return MODELS[0]

    @property
    def train(self) -> list[Any]:
        """Examples to learn from, as `dspy.Example`."""
        return list(_examples(self.name, self.seed, "train"))

    @property
    def dev(self) -> list[Any]:
        """Examples to choose by; none is in `train`."""
        return list(_examples(self.name, self.seed, "dev"))

    @property
    def test(self) -> list[Any]:
        """Examples to judge by; none is in `train` or `dev`."""
        return list(_examples(self.name, self.seed, "test"))

    def metric(self, example: Any, prediction: Any, trace: object = None) -> bool:  # noqa: ARG002  # DSPy's metrics take it
        """Whether a prediction is right."""
        return _same(_value(prediction, self._family.output), _value(example, self._family.output))

    def feedback(self, example: Any, prediction: Any) -> tuple[float, str]:
        """Score a prediction, and say in words which rule it broke, as GEPA wants to hear it."""
        if self.metric(example, prediction):
            return 1.0, "Right."
        found, right = (_value(place, self._family.output) for place in (prediction, example))
        item = recognise({name: str(_value(example, name)) for name in self._family.inputs})
        parts = [f"Wrong: the {self._family.output} should be {right}, not {found}."]
        broken = [need.skill for need in item.needs if _same(found, need.slip)] if item else []
        parts += [
            skill.statement for skill in self._family.skills if skill.name in broken and skill.statement
        ]
        return 0.0, " ".join(parts)

    def optimum(
        self,
        space: truth.Space | Iterable[Mapping[str, object]],
        *,
        split: Literal["train", "dev", "test"] = "dev",
    ) -> truth.Optimum:
        """Find the best candidate and its expected score, without sampling.

        Parameters
        ----------
        space
            Mappings that may hold `model`, `module` ("Predict" or "ChainOfThought"), `temperature`, `demos`
            (how many, from the start of `train`), `instructions` and `adapter`; or something whose
            `candidates()` lists them, such as a `Space`, with what is `frozen` in it.

        Raises
        ------
        DataError
            If there is no candidate, or one holds something else.

        Examples
        --------
        >>> best = task("arithmetic").optimum({"module": name} for name in ("Predict", "ChainOfThought"))
        >>> best.configuration
        {'module': 'ChainOfThought'}
        """
        shown, items = (list(_items(self.name, self.seed, name)) for name in ("train", split))
        return truth.best_of(self._family, space, shown, items, self.default_model)

    @property
    def _family(self) -> Family:
        return FAMILIES[self.name]


def task(name: str, *, seed: int = 0) -> Task:
    """Make a simulated task: "triage", "arithmetic" or "extraction".

    Another seed draws other examples of the same kind.

    Raises
    ------
    UnknownNameError
        If there is no such task.
    """
    if name not in FAMILIES:
        raise UnknownNameError.among("sandbox task", name, FAMILIES)
    return Task(name, seed)


@functools.lru_cache(maxsize=64)
def _items(name: str, seed: int, split: Split) -> tuple[Item, ...]:
    return tuple(truth.item_of(inputs) for inputs in _inputs(name, seed, split))


@functools.lru_cache(maxsize=64)
def _examples(name: str, seed: int, split: Split) -> tuple[Any, ...]:
    # bridge imports DSPy, and `import dspex.sandbox` must stay light.
    from dspex.bridge.examples import make

    rows = zip(_inputs(name, seed, split), _items(name, seed, split), strict=True)
    return tuple(make(inputs, {FAMILIES[name].output: item.answer}) for inputs, item in rows)


def _inputs(name: str, seed: int, split: Split) -> list[dict[str, str]]:
    splits = list(_SIZES)
    start = sum(_SIZES[before] for before in splits[: splits.index(split)])
    return drawn(FAMILIES[name], seed, start, _SIZES[split])


def _value(holder: Any, name: str) -> Any:
    return holder.get(name) if isinstance(holder, Mapping) else getattr(holder, name, None)


def _same(found: object, right: Answer) -> bool:
    """Compare texts as texts and numbers as numbers."""
    if isinstance(right, int) and not isinstance(found, str):
        return found == right
    return str(found).strip() == str(right)
