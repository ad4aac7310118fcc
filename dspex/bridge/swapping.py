"""Swapping one module for another that solves the same signature."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dspy

from dspex.bridge import bound, derive
from dspex.bridge import program as program_bridge
from dspex.bridge.bound import Way, bound_class, way_of
from dspex.bridge.parts import SWAPPABLE
from dspex.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Callable


def replacement(part: Any, module: Callable[..., dspy.Module]) -> dspy.Module:
    """Make the module that takes another's place, keeping signature, demos, model and way."""
    signature = derive.outside(part) if isinstance(part, SWAPPABLE) else program_bridge.signature_of(part)
    made = derive.made(module, signature)
    if not isinstance(made, dspy.Module):
        raise DefinitionError(f"it must make a dspy.Module, made {made!r}")
    if isinstance(part, SWAPPABLE):
        old = derive.predictor_of(part)
        for predictor in [derive.predictor_of(made)] if isinstance(made, SWAPPABLE) else made.predictors():
            _hand_over(old, predictor)
    way = way_of(part)
    if way.adapter is not None:
        made.__class__ = bound_class(type(made))
        setattr(made, bound.WAY, Way(**vars(way_of(made)) | {"adapter": way.adapter}))
    return made


def _hand_over(old: Any, new: Any) -> None:
    gone = set(old.signature.model_fields) - set(new.signature.model_fields)
    new.demos = [_without(demo, gone) for demo in old.demos]
    new.lm = old.lm
    new.config = dict(old.config)
    way = way_of(old)
    if way.lm is not None or way.settings:
        new.__class__ = bound_class(type(new))
        setattr(new, bound.WAY, Way(lm=way.lm, settings=way.settings))


def _without(demo: Any, gone: set[str]) -> Any:
    """Return a demo without the fields that only the module before had, such as its reasoning."""
    extra = [name for name in gone if name in demo]
    if not extra:
        return demo
    if isinstance(demo, dict):
        return {name: value for name, value in demo.items() if name not in gone}
    return demo.without(*extra)
