"""What a run says of itself: its steps, and sentences about decisions, answers and failures."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from dspex.records import BRIDGED, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from dspex.orchestrator.model import BeliefModel
    from dspex.records import (
        Alternative,
        Configuration,
        Decision,
        Outcome,
        Requirements,
        StepKind,
        Strategy,
    )

_MOST_SHOWN = 4
"""Failures that are written out."""
_WORTH_SHORTENING = 80
"""Characters of a failure that is not written twice."""
_NUMBER = re.compile(r"(?<![(\w])\d[\d.,]*")
"""Such as the seconds that an attempt had; a status in parentheses is none."""


class Steps:
    """Collects the steps of one run, timed from its beginning."""

    def __init__(self) -> None:
        self.taken: list[Step] = []
        self._began = time.perf_counter()

    def __call__(self, kind: StepKind) -> _StepInProgress:
        """Begin a step."""
        return _StepInProgress(self, kind)

    @property
    def now_s(self) -> float:
        """Say how long the run has been under way."""
        return time.perf_counter() - self._began


class _StepInProgress:
    def __init__(self, steps: Steps, kind: StepKind) -> None:
        self._steps, self._kind, self._detail = steps, kind, ""
        self._start_s = steps.now_s

    def __enter__(self) -> Callable[[str], None]:
        return self._note

    def _note(self, detail: str) -> None:
        self._detail = detail

    def __exit__(self, *_: object) -> None:
        duration_s = self._steps.now_s - self._start_s
        self._steps.taken.append(Step(self._kind, self._start_s, duration_s, self._detail))


def reason(mine: Alternative, ranked: Sequence[Alternative], beliefs: BeliefModel) -> str:
    """Say why a strategy was chosen."""
    if len(ranked) == 1:
        return f"{mine.strategy} is the only strategy"
    known = f"after {beliefs.n_observations} execution(s)"
    if mine is ranked[0]:
        return f"{mine.strategy} is believed best {known}: utility {mine.utility:.3f}, next {ranked[1].utility:.3f}"
    return (
        f"{mine.strategy} is tried {known}: utility {mine.utility:.3f} may yet beat "
        f"{ranked[0].utility:.3f} of {ranked[0].strategy} (chosen with probability {mine.propensity:.2f})"
    )


def closed(why: Mapping[Strategy, str]) -> str:
    """Say what is not to be chosen and why; a model once, if several of its ways are closed for the same reason.

    Examples
    --------
    >>> from dspex.records import Strategy
    >>> ways = [Strategy("a/x", "Predict"), Strategy("a/x", "Predict", "direct"), Strategy("b/y", "Predict")]
    >>> closed(dict.fromkeys(ways, "its breaker is open"))
    'a/x (its breaker is open), b/y · Predict (its breaker is open)'
    """
    alike: dict[tuple[str, str], list[Strategy]] = {}
    for strategy, reason in why.items():
        alike.setdefault((strategy.model, reason), []).append(strategy)
    return ", ".join(
        f"{model if len(ways) > 1 else ways[0]} ({reason})" for (model, reason), ways in alike.items()
    )


def values(configuration: Configuration) -> str:
    """Write what a run is configured with, for a step's detail."""
    return "".join(f", {name}={value!r}" for name, value in configuration.items())


def reasons(asked: Requirements, strategies: Sequence[Strategy]) -> str:
    """Write what else was found out about a task."""
    told = ", reasoning" if asked.reasoning else ""
    has_choice = any(each.adapter != BRIDGED for each in strategies)
    return f"{told}; the {asked.adapter} adapter suits it" if has_choice else told


def summary(outcome: Outcome) -> str:
    """Say how an attempt went."""
    if not outcome.ok:
        return f"failed: {outcome.error}"
    usage = outcome.usage
    again = f" when asked again after {'; '.join(outcome.retries)}" if outcome.retries else ""
    if usage.calls == 0:
        return f"answered without a call to a model{again}"
    return f"answered in {usage.latency_s:.2f} s for ${usage.cost_usd:.6f} ({usage.calls} call(s)){again}"


def failures(failed: Sequence[tuple[Decision, Outcome]], saved_by: Decision | None) -> str:
    """Write what went wrong, each thing once, and who answered at last."""
    told = list(_each_once(failed))
    reasons = "; ".join(told[:_MOST_SHOWN])
    if len(told) > _MOST_SHOWN:
        reasons += f"; and {len(told) - _MOST_SHOWN} more"
    return reasons if saved_by is None else f"{saved_by.strategy} answered after {reasons}"


def _each_once(failed: Sequence[tuple[Decision, Outcome]]) -> Iterator[str]:
    """Write failures in their order; what came again is counted, a long one that others had too is not said again."""
    met: dict[tuple[Strategy, str], list[str]] = {}
    for decision, outcome in failed:
        error = outcome.error or ""
        met.setdefault((decision.strategy, _NUMBER.sub("", error)), []).append(error)
    said = set[str]()
    for (strategy, _), errors in met.items():
        times = f" ({len(errors)} times)" if len(errors) > 1 else ""
        nameless = _nameless(errors[0], strategy.model)
        is_known = nameless in said and len(errors[0]) > _WORTH_SHORTENING
        yield f"{strategy}{times}: {'the same' if is_known else errors[0]}"
        said.add(nameless)


def _nameless(error: str, model: str) -> str:
    """Leave out the model's name, and what its provider calls it."""
    names = "|".join(re.escape(name) for name in (model, model.partition("/")[2]) if name)
    return re.sub(rf"\b(?:{names})\b", "", error) if names else error
