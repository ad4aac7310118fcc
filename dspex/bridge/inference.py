"""What could vary in a program, read off the program itself."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from dspex.bridge import program as program_bridge
from dspex.bridge.parts import SWAPPABLE, Parts, own_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    import dspy

_HOTTEST = 1.5
_USUAL_TEMPERATURE = 0.7
_MOST_DEMOS = 8


@dataclass(frozen=True)
class Suggestion:
    """One variable that suits a program.

    Attributes
    ----------
    kind
        Which kind of variable; `low` and `high` are for numbers, `options` for the others.
    default
        What the program does now.
    """

    name: str
    kind: Literal["float", "int", "bool", "model", "module", "adapter", "demos"]
    default: Any
    low: float = 0
    high: float = 0
    options: Sequence[str] = ()


def suggestions(
    program: dspy.Module, *, models: Sequence[str] = (), each_part: bool = False
) -> list[Suggestion]:
    """Propose what to vary: for the program as a whole, or with `each_part` for every part alone."""
    parts = Parts(program)
    places = [each for each in parts.units() if parts.predictors(each)] if each_part else [""]
    found = []
    for place in places or [""]:
        found += _usual(parts, place, models or program_bridge.models_of(program))
    found.append(Suggestion("adapter", "adapter", "chat", options=("chat", "json")))
    for place in ["", *parts.units()]:
        module = parts[place].module
        for name in own_names(module):
            holder, _, last = name.rpartition(".")
            value = getattr(getattr(module, holder) if holder else module, last)
            found += _around(_under(place, name), value)
    return found


def _usual(parts: Parts, place: str, models: Sequence[str]) -> list[Suggestion]:
    predictors = [parts[each].module for each in parts.predictors(place)]
    first = predictors[0]
    found = [Suggestion(_under(place, "temperature"), "float", _temperature(first), 0.0, _HOTTEST)]
    if len(models) > 1:
        own = first.lm.model if first.lm is not None and first.lm.model in models else models[0]
        found.append(Suggestion(_under(place, "model"), "model", own, options=tuple(models)))
    swappable = [parts[each].module for each in parts.swappable() if not place or each == place]
    if swappable:
        now = next(kind.__name__ for kind in reversed(SWAPPABLE) if isinstance(swappable[0], kind))
        options = tuple(kind.__name__ for kind in SWAPPABLE)
        found.append(Suggestion(_under(place, "module"), "module", now, options=options))
    n_demos = min(_MOST_DEMOS, len(first.demos))
    found.append(Suggestion(_under(place, "demos"), "demos", n_demos, 0, _MOST_DEMOS))
    return found


def _temperature(predictor: Any) -> float:
    own = {**(predictor.lm.kwargs if predictor.lm is not None else {}), **predictor.config}
    value = own.get("temperature")
    return _USUAL_TEMPERATURE if value is None else min(_HOTTEST, max(0.0, float(value)))


def _around(name: str, value: Any) -> list[Suggestion]:
    """Propose a range of which the value is the (geometric) middle: half to twice, zero to one, or -1 to 1."""
    if isinstance(value, bool):
        return [Suggestion(name, "bool", value)]
    if isinstance(value, int):
        low, high = (1, 2 * value) if value > 0 else (min(0, 2 * value), max(1, -value))
        return [Suggestion(name, "int", value, low, high)] if low < high else []
    if isinstance(value, float) and math.isfinite(value):
        if 0 <= value <= 1:
            return [Suggestion(name, "float", value, 0.0, 1.0)]
        least, most = sorted((value / 2, value * 2))
        return [Suggestion(name, "float", value, least, most)]
    return []


def _under(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name
