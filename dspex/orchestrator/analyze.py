"""What a task asks for, read off its signature and its inputs. The same input always reads the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from dspex.records import BRIDGED, Requirements

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dspex.native.signature import Signature

_WORKED_OUT = {"int", "float", "complex", "Decimal"}
_REASONING_WORDS = (
    "calculate",
    "derive",
    "explain",
    "how many",
    "how much",
    "prove",
    "reason",
    "solve",
    "step",
)
_LONG_CHARS = 8_000
_MEDIUM_CHARS = 1_000


def analyze(signature: Signature, inputs: Mapping[str, Any]) -> Requirements:
    """Read off what a call needs before anything runs.

    A task reasons when an output is a number to be worked out, or its instructions say so.
    """
    input_chars = sum(len(str(value)) for value in inputs.values())
    instructions = signature.instructions.lower()
    reasoning = any(
        field.role == "output" and getattr(field.annotation, "__name__", "") in _WORKED_OUT
        for field in signature.fields
    ) or any(word in instructions for word in _REASONING_WORDS)
    complexity = _complexity(input_chars, len(signature.outputs), reasoning=reasoning)
    return Requirements(
        signature=title_of(signature),
        signature_key=signature.key,
        input_chars=input_chars,
        output_fields=len(signature.outputs),
        reasoning=reasoning,
        complexity=complexity,
        adapter=suited_adapter(signature, complexity),
    )


def suited_adapter(signature: Signature, complexity: str) -> str:
    """Say which adapter suits a task, as long as nothing has been learned.

    Outputs that are more than one text are held to a schema; a plain, short task is asked directly;
    everything else, inputs of DSPy's own types above all, is left to DSPy.

    Examples
    --------
    >>> from dspex.native.signature import signature
    >>> suited_adapter(signature("question -> answer, confidence: float"), "medium")
    'structured'
    >>> suited_adapter(signature("question -> answer"), "low")
    'direct'
    >>> suited_adapter(signature("question -> answer"), "high")
    'bridged'
    """
    if any(_is_dspys(field.annotation) for field in signature.fields):
        return BRIDGED
    if any(field.role == "output" and field.annotation is not str for field in signature.fields):
        return "structured"
    if len(signature.outputs) > 1:
        return "structured"
    return "direct" if complexity == "low" else BRIDGED


def _is_dspys(annotation: Any) -> bool:
    return str(getattr(annotation, "__module__", "")).partition(".")[0] == "dspy"


def title_of(signature: Signature) -> str:
    """Return what logs and tables call a signature: its name, or its spec when it was given none."""
    return signature.name if signature.name not in {"Signature", "StringSignature"} else signature.outline


def _complexity(input_chars: int, output_fields: int, *, reasoning: bool) -> Literal["low", "medium", "high"]:
    points = (input_chars > _MEDIUM_CHARS) + 2 * (input_chars > _LONG_CHARS) + reasoning + (output_fields > 3)  # noqa: PLR2004  # more than a handful of outputs
    if points == 0:
        return "low"
    return "medium" if points == 1 else "high"
