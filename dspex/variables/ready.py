"""Spaces to begin with: what usually pays to vary, with the rules that the values must keep together.

Each is a `Space` like any other: take parts of it with `only` and `without`, and add to it with ``|``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspex.variables.choice import Choice
from dspex.variables.demos import Demos
from dspex.variables.formulas import Constraint
from dspex.variables.ml import BatchSize, Confidence, Penalty, Temperature, TokenCount, TopP
from dspex.variables.program import Adapter, Instruction, Model, Module
from dspex.variables.space import Space

if TYPE_CHECKING:
    from collections.abc import Sequence

MODELS = (
    "openai/gpt-4o-mini",
    "openai/gpt-4o",
    "openai/gpt-4",
    "anthropic/claude-sonnet-4-5",
    "gemini/gemini-2.5-flash",
)
"""A cheap and a dear one, a small window, and other providers."""

FITS = "max_tokens fits into the model's window"
MATCHES = "the model is one of the provider's"


def llm(models: Sequence[str] = MODELS) -> Space:
    """Return what a call to a model can vary: the model, how it samples, and how long it may answer.

    Where a model's window is not known, no length is too long for it.

    Examples
    --------
    >>> llm().check({"model": "openai/gpt-4", "temperature": 0.7, "top_p": 1.0, "max_tokens": 16000})
    Traceback (most recent call last):
        ...
    dspex.errors.VariableError: this configuration does not fit the space:
      - the constraint "max_tokens fits into the model's window" does not hold for max_tokens=16000, model.context_tokens=8192.0
    """
    return Space(
        model=Model(list(models)),
        temperature=Temperature(),
        top_p=TopP(),
        max_tokens=TokenCount(16, 32768),
        constraints=[Constraint(FITS, "max_tokens <= model.context_tokens")],
    )


def prompting(instructions: Sequence[str] = ()) -> Space:
    """Return what a prompt can vary: the module, the format, the demos, and the given instructions beside its own."""
    space = Space(
        module=Module(["Predict", "ChainOfThought"], costs={"Predict": 1, "ChainOfThought": 2}),
        adapter=Adapter(["chat", "json", "xml"]),
        demos=Demos(0, 8),
    )
    return space | Space(instructions=Instruction([None, *instructions])) if instructions else space


def standard_ml(models: Sequence[str] = MODELS) -> Space:
    """Return the usual settings of a service that asks models: `llm`, the provider, penalties and batches.

    Examples
    --------
    >>> import random
    >>> space = standard_ml()
    >>> all(each["model"].startswith(each["provider"]) for each in space.sample_many(100, random.Random(0)))
    True
    """
    providers = list(dict.fromkeys(model.partition("/")[0] for model in models))
    return llm(models) | Space(
        provider=Choice(providers),
        model=Model(list(models)),
        frequency_penalty=Penalty(),
        presence_penalty=Penalty(),
        confidence=Confidence(),
        batch_size=BatchSize(),
        constraints=[Constraint(MATCHES, serves, ("provider", "model"))],
    )


def serves(provider: str, model: str) -> bool:
    """Whether a model's name says that it is of a provider."""
    return model.startswith(f"{provider}/")
