"""Running DSPy's modules for an answer: its fields and what it took, or one of our errors."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from dspy.utils.exceptions import AdapterParseError

from dspex.bridge import program as program_bridge
from dspex.bridge.compiled.accelerate import accelerated
from dspex.bridge.failures import translated, unreadable
from dspex.bridge.observe import metered
from dspex.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import dspy

    from dspex.records import Usage

PLAIN = "prompt -> text"
"""What a plain prompt is to a module."""


def answer(
    program: dspy.Module, inputs: Mapping[str, Any], lm: dspy.BaseLM | None
) -> tuple[dict[str, Any], str, Usage]:
    """Run a program; return its fields, what the model wrote last, and what it took.

    Raises
    ------
    UnreadableAnswerError
        If DSPy cannot read what the model wrote.
    ProviderError
        If there is no answer.
    """
    name = lm.model if lm is not None else type(program).__name__
    with metered() as meter, accelerated(), translated(name):
        try:
            output = program_bridge.ask(program, inputs, lm)
        except AdapterParseError as error:
            raise unreadable(error, name) from error
    return output, "\n".join(map(str, output.values())), meter.usage


def maker(module: str | Callable[..., dspy.Module]) -> Callable[[type[dspy.Signature] | str], dspy.Module]:
    """Return what makes programs of one module, each signature's once."""
    made: Any = functools.lru_cache(maxsize=256)(program_bridge.module_class(module))
    return made  # type: ignore[no-any-return]  # the cache keeps no types


def model_of(model: str | dspy.BaseLM) -> dspy.BaseLM:
    """Return a model's `dspy.LM`."""
    from dspex.bridge import lm as lm_bridge

    if isinstance(model, str):
        return lm_bridge.from_name(model)
    if not lm_bridge.is_lm(model):
        raise DefinitionError(f"a model is a name or a dspy.LM, got {model!r}")
    return model
