"""The truth about programs in the sandbox: expected scores without sampling, and the best there is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast, runtime_checkable

from dspex.errors import DataError
from dspex.sandbox.families import recognise
from dspex.sandbox.measuring import measured
from dspex.sandbox.surface import Traits, chance_of_success, coverage_of, stated_in
from dspex.sandbox.world import Wire, short_name, world

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from dspex.sandbox.items import Family, Item

_WIRES: Mapping[object, Wire] = {"ChatAdapter": "chat", "JSONAdapter": "json", "XMLAdapter": "xml"}
_MODULES = {"Predict": False, "ChainOfThought": True}
_KNOWN = ("adapter", "demos", "instructions", "model", "module", "temperature")


class Optimum(NamedTuple):
    """The best configuration of a space in the simulated world, and its expected score."""

    configuration: Mapping[str, object]
    score: float


@runtime_checkable
class Space(Protocol):
    """Anything that can list the configurations to compare."""

    def candidates(self) -> Iterable[Mapping[str, object]]:
        """List them."""
        ...


def expected_score(program: Callable[..., object], examples: Iterable[Any]) -> float:
    """Say how accurate a program is on examples, exactly: the simulated models do not draw.

    The program runs once an example. A simulated model that it calls notes the chance of succeeding and
    answers right. That chance includes the format: an unreadable chat or XML answer makes DSPy ask once
    more in JSON, so it is ``p · (1 - u · v)`` with the chance of being right p, and of unreadable answers
    u and v. An example's value is the product over the program's calls, which is exact if all of them
    have to be right. "Right" is what the task's solver says, whatever the examples' labels are.

    The program must reach the model: do not put DSPy's response cache before it, which would also keep
    these answers.

    Parameters
    ----------
    program
        Anything called with an example's inputs by name, whose model is set or in DSPy's context.
    examples
        `dspy.Example` with inputs set.

    Returns
    -------
    The mean over the examples, between 0 and 1.

    Raises
    ------
    DataError
        If there are no examples, or if one reached no simulated model or is of no sandbox task.
    """
    from dspex.bridge.examples import inputs_of

    values = []
    for index, example in enumerate(examples):
        with measured() as measurement:
            try:
                program(**inputs_of(example))
            except Exception:
                # An answer that max_tokens cut off cannot be read: it is wrong. Anything else is news.
                if 0.0 not in measurement.chances:
                    raise
        if not measurement.chances:
            raise DataError(
                f"expected_score needs a call to a simulated model that knows the example, but example {index} made none",
                hint="use sandbox.lm(...) without DSPy's cache, and examples of a sandbox task",
            )
        values.append(math.prod(measurement.chances))
    if not values:
        raise DataError("expected_score needs at least one example, got none", hint="for example task.dev")
    return math.fsum(values) / len(values)


def chance_of(
    family: Family, candidate: Mapping[str, object], shown: list[Item], items: list[Item], default: str
) -> float:
    """Say how accurate a configuration of one DSPy module is on items, from the response surface alone.

    Parameters
    ----------
    candidate
        May hold `model`, `module`, `temperature`, `demos` (how many of `shown`), `instructions`, `adapter`.
    shown
        The items that demonstrations are taken from.
    default
        The model's name if the candidate names none.

    Raises
    ------
    DataError
        If the candidate holds anything else, or a module or adapter that is not simulated.
    """
    _check(candidate)
    stated, statements = stated_in(str(candidate.get("instructions", family.instructions)), family.name)
    temperature = candidate.get("temperature")
    traits = Traits(
        world().default_temperature if temperature is None else float(cast("float", temperature)),
        _MODULES[_name_of(candidate.get("module", "Predict"))],
        stated,
        statements,
        coverage_of(
            [(item, True) for item in shown[: int(cast("int", candidate.get("demos", 0)))]], family.name
        ),
        _WIRES[_name_of(candidate.get("adapter", "ChatAdapter"))],
    )
    model = short_name(candidate.get("model", default))
    return math.fsum(chance_of_success(model, traits, item) for item in items) / len(items)


def best_of(
    family: Family,
    space: Space | Iterable[Mapping[str, object]],
    shown: list[Item],
    items: list[Item],
    default: str,
) -> Optimum:
    """Find the candidate with the highest expected score; of equals, the first."""
    candidates = space.candidates() if isinstance(space, Space) else space
    fixed: Mapping[str, object] = getattr(space, "frozen", {})  # what is not searched is no less true
    scored = [
        Optimum(candidate, chance_of(family, candidate, shown, items, default))
        for candidate in ({**fixed, **searched} for searched in candidates)
    ]
    if not scored:
        raise DataError(
            "the optimum needs at least one candidate, got none", hint="pass mappings such as {'demos': 4}"
        )
    return max(scored, key=lambda found: found.score)


def item_of(inputs: Mapping[str, str]) -> Item:
    """Understand inputs that the sandbox wrote itself."""
    item = recognise(inputs)
    assert item is not None
    return item


def _check(candidate: Mapping[str, object]) -> None:
    failures = [f"{name!r} is not one of {', '.join(_KNOWN)}" for name in candidate if name not in _KNOWN]
    for name, known, default in (("module", _MODULES, "Predict"), ("adapter", _WIRES, "ChatAdapter")):
        if _name_of(candidate.get(name, default)) not in known:
            failures.append(f"{name} must be one of {', '.join(map(str, known))}, got {candidate[name]!r}")
    if failures:
        raise DataError(
            "the sandbox knows no truth about this candidate: " + "; ".join(failures),
            hint="leave it out, or measure the program with expected_score",
        )


def _name_of(value: object) -> str:
    return value.__name__ if isinstance(value, type) else str(value)
