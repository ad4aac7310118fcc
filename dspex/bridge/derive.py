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
    if signature.instructions == instructions:
        return signature
    return _fresh(_instructed, signature, instructions, expected=instructions)


def outside(part: Any) -> type[dspy.Signature]:
    """Return the signature that a Predict or ChainOfThought was made of: without the latter's reasoning."""
    signature: type[dspy.Signature] = predictor_of(part).signature
    if not isinstance(part, dspy.ChainOfThought) or "reasoning" not in signature.model_fields:
        return signature
    return _fresh(_unreasoned, signature, signature.instructions, expected=signature.instructions)


def predictor_of(part: Any) -> Any:
    """Return the one predictor of a Predict or ChainOfThought."""
    return part.predict if isinstance(part, dspy.ChainOfThought) else part


def made(module: Callable[..., dspy.Module], signature: type[dspy.Signature]) -> dspy.Module:
    """Make a module of a signature. DSPy's two simplest are made once and copied; any other one is made anew."""
    if module not in _CACHEABLE:
        return module(signature)
    key: Any = (module, signature, signature.instructions)
    template = _template(*key)
    if predictor_of(template).signature.instructions != signature.instructions:
        return module(signature)
    return copying.copied(template)


def _fresh(make: Any, *key: Any, expected: str) -> type[dspy.Signature]:
    """Return what was made before, unless somebody has written to it since, as InferRules does."""
    found: type[dspy.Signature] = make(*key)
    return found if found.instructions == expected else make.__wrapped__(*key)


@functools.lru_cache(maxsize=512)
def _instructed(signature: type[dspy.Signature], instructions: str) -> type[dspy.Signature]:
    derived: type[dspy.Signature] = signature.with_instructions(instructions)
    return derived


@functools.lru_cache(maxsize=512)
def _unreasoned(signature: type[dspy.Signature], _instructions: str) -> type[dspy.Signature]:
    derived: type[dspy.Signature] = signature.delete("reasoning")
    return derived


@functools.lru_cache(maxsize=512)
def _template(module: Any, signature: type[dspy.Signature], _instructions: str) -> dspy.Module:
    return module(signature)
