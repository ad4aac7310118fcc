"""Configurations within an optimizer of DSPy: programs that carry theirs, and a strategy that changes it."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from dspex.bridge import binding, derive, identity
from dspex.bridge.bound import CARRIED
from dspex.bridge.copying import contents
from dspex.bridge.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Mapping, Sequence

    import dspy

    from dspex.bridge.identity import Said
    from dspex.records import Configuration

    Strategy = Callable[..., bool]


def carrying(program: dspy.Module, labels: Configuration) -> dspy.Module:
    """Let a program and its predictors say which configuration they run, also in their copies."""
    for part in (program, *program.predictors()):
        contents(part)[CARRIED] = dict(labels)
    return program


def carried(part: Any) -> Configuration | None:
    """Return the configuration that a program, or a predictor of one, carries."""
    labels: Configuration | None = contents(part).get(CARRIED)
    return labels


def rebind(
    program: dspy.Module,
    values: Mapping[str, Any],
    *,
    default_lm: dspy.BaseLM,
    optional: Container[str] = (),
) -> None:
    """Make a program itself run another way, with the instructions and demonstrations that it has."""
    said = identity.said_by(program)
    binding.bind_in_place(program, values, Journal(), default_lm=default_lm, optional=optional)
    retold(program, said)


def retold(program: dspy.Module, said: Sequence[Said]) -> dspy.Module:
    """Let a program say what another one said, which may be made of other modules."""
    by_name = {each.name: each for each in said}
    for name, predictor in program.named_predictors():
        source = by_name.get(counterpart(name, by_name) or "")
        if source is None:
            continue
        if predictor.signature.instructions != source.signature.instructions:
            predictor.signature = derive.instructed(predictor.signature, source.signature.instructions)
        gone = set(source.signature.fields) - set(predictor.signature.fields)
        predictor.demos = [
            demo.without(*[name for name in gone if name in demo]) if hasattr(demo, "without") else demo
            for demo in source.demos
        ]
    return program


def counterpart(name: str, names: Collection[str]) -> str | None:
    """Return the predictor that stands where another one stood before a module was swapped.

    Examples
    --------
    >>> counterpart("answer.predict", ["plan", "answer"]), counterpart("self", ["predict"])
    ('answer', 'predict')
    >>> counterpart("self", ["draft", "final"]) is None
    True
    """
    if name in names:
        return name
    found = [each for each in names if _is_within(_place(each), _place(name))]
    return found[0] if len(found) == 1 else None


def _place(name: str) -> list[str]:
    return [] if name == "self" else name.split(".")


def _is_within(one: list[str], other: list[str]) -> bool:
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]


# ── strategies of SIMBA ─────────────────────────────────────────────────────────────────────────


def strategies(
    own: Sequence[Strategy], change: Callable[[dspy.Module, Configuration | None], None]
) -> list[Strategy]:
    """Return SIMBA's strategies for programs that carry configurations, and one more that changes them.

    Parameters
    ----------
    own
        SIMBA's own.
    change
        Changes a program's configuration, given the one of the better trajectory if there is a better one.
    """

    def change_a_variable(bucket: Sequence[Any], system: dspy.Module, **_: Any) -> bool:
        better, worse = bucket[0], bucket[-1]
        traced = [predictor for predictor, *_ in better["trace"] or ()]
        is_better = better["score"] > worse["score"] and bool(traced)
        change(system, carried(traced[0]) if is_better else None)
        return True

    return [*map(_across_modules, own), change_a_variable]


def _across_modules(strategy: Strategy) -> Strategy:
    """Let a strategy find its predictors in trajectories of programs that have other modules."""

    @functools.wraps(strategy)
    def strategy_(bucket: Sequence[Any], system: dspy.Module, **given: Any) -> bool:
        names = given["name2predictor"]
        found = {number: counterpart(name, names) for number, name in given["predictor2name"].items()}
        given["predictor2name"] = {number: name for number, name in found.items() if name is not None}
        return strategy(bucket, system, **given)

    return strategy_
