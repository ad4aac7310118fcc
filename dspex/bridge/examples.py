"""Examples: DSPy's own, and the few things that dspex asks of them."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import dspy

from dspex.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


def make(inputs: Mapping[str, Any], labels: Mapping[str, Any]) -> dspy.Example:
    """Make a `dspy.Example` that knows which of its fields are inputs."""
    return dspy.Example(**inputs, **labels).with_inputs(*inputs)


def checked(examples: Iterable[Any], *, what: str, inputs: Sequence[str]) -> list[dspy.Example]:
    """Check a data set before anything runs, and say which fields are inputs where it was left open.

    Mappings are accepted beside `dspy.Example`; `inputs` are the program's input fields.

    Raises
    ------
    DataError
        If there is no example, one is of another kind, or one lacks an input field.
    """
    found = [_checked(example, index, what, inputs) for index, example in enumerate(examples)]
    if not found:
        raise DataError(
            f"{what} must hold at least one example, got none", hint=f"pass {what}=[dspy.Example(...)]"
        )
    return found


def _checked(example: Any, index: int, what: str, inputs: Sequence[str]) -> dspy.Example:
    if isinstance(example, dict):
        example = dspy.Example(**example)
    if not isinstance(example, dspy.Example):
        raise DataError(
            f"{what}[{index}] must be a dspy.Example or a dict, got {type(example).__name__}",
            hint="dspy.Example(question=..., answer=...).with_inputs('question')",
        )
    missing = [name for name in inputs if name not in example]
    if missing:
        raise DataError(
            f"{what}[{index}] lacks the input {', '.join(map(repr, missing))}; it has {', '.join(example.keys())}",
            hint="name the example's fields as the signature names them",
        )
    # DSPy raises on .inputs() until it was told; the signature knows.
    return example if example._input_keys is not None else example.with_inputs(*inputs)  # noqa: SLF001  # DSPy's own .inputs() raises when unset


def inputs_of(example: dspy.Example) -> dict[str, Any]:
    """Return the input fields as a dict."""
    return dict(example.inputs().toDict())


def labels_of(example: dspy.Example) -> dict[str, Any]:
    """Return the other fields as a dict."""
    return dict(example.labels().toDict())


def key_of(example: dspy.Example) -> str:
    """Name an example by its content; equal content has an equal key in every process."""
    text = json.dumps(example.toDict(), sort_keys=True, default=repr)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def key_of_all(examples: Sequence[dspy.Example]) -> str:
    """Name a data set by its content, in order."""
    text = "".join(key_of(example) for example in examples)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
