"""Signatures and modules derived from others, made once: DSPy takes hundreds of microseconds for each."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import dspy

from dspex.bridge import copying

if TYPE_CHECKING:
    from collections.abc import Callable

_CACHEABLE = (dspy.Predict, dspy.ChainOfThought)


def instructed(signature: type[dspy.Signature], instructions: str) -> type[dspy.Signature]:
    """Return a signature with other instructions."""
    return _fresh(_instructed, signature, signature.__doc__, instructions)


def outside(part: Any) -> type[dspy.Signature]:
    """Return the signature that a Predict or ChainOfThought was made of: without the latter's reasoning."""
    signature: type[dspy.Signature] = predictor_of(part).signature
    if not isinstance(part, dspy.ChainOfThought) or "reasoning" not in signature.model_fields:
        return signature
    return _fresh(_unreasoned, signature, signature.__doc__)


def predictor_of(part: Any) -> Any:
    """Return the one predictor of a Predict or ChainOfThought."""
    return part.predict if isinstance(part, dspy.ChainOfThought) else part


def made(module: Callable[..., dspy.Module], signature: type[dspy.Signature]) -> dspy.Module:
    """Make a module of a signature. DSPy's two simplest are made once and copied; any other one is made anew."""
    if module not in _CACHEABLE:
        return module(signature)
    key: Any = (module, signature, signature.__doc__)
    template, said = _template(*key)
    if predictor_of(template).signature.__doc__ != said:
        return module(signature)
    return copying.copied(template)


def _fresh(make: Any, *key: Any) -> type[dspy.Signature]:
    """Return what was made before, unless somebody has written to it since, as InferRules does."""
    found: type[dspy.Signature]
    found, said = make(*key)
    return found if found.__doc__ == said else make.__wrapped__(*key)[0]


@functools.lru_cache(maxsize=512)
def _instructed(
    signature: type[dspy.Signature], _said: str, instructions: str
) -> tuple[type[dspy.Signature], str | None]:
    if signature.instructions == instructions:
        return signature, signature.__doc__
    derived = signature.with_instructions(instructions)
    return derived, derived.__doc__


@functools.lru_cache(maxsize=512)
def _unreasoned(signature: type[dspy.Signature], _said: str) -> tuple[type[dspy.Signature], str | None]:
    derived = signature.delete("reasoning")
    return derived, derived.__doc__


@functools.lru_cache(maxsize=512)
def _template(module: Any, signature: type[dspy.Signature], _said: str) -> tuple[Any, str | None]:
    made = module(signature)
    return made, predictor_of(made).signature.__doc__
