"""Examples: DSPy's own, and the few things that dspex asks of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import dspy

from dspex.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


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
    if not isinstance(examples, Iterable):
        raise DataError(
            f"{what} must be a list of examples, got {examples!r}", hint=f"pass {what}=[dspy.Example(...)]"
        )
    found = [_checked(example, index, what, inputs) for index, example in enumerate(examples)]
    if not found:
        raise DataError(
            f"{what} must hold at least one example, got none", hint=f"pass {what}=[dspy.Example(...)]"
        )
    return found


def as_demos(examples: Iterable[Any], *, inputs: Callable[[], Sequence[str]]) -> list[dspy.Example]:
    """Return examples as DSPy can show them; `dspy.Example` objects as they are, others checked."""
    given = list(examples)
    if all(isinstance(each, dspy.Example) for each in given):
        return given
    return checked(given, what="demos", inputs=inputs())


def _checked(example: Any, index: int, what: str, inputs: Sequence[str]) -> dspy.Example:
    if isinstance(example, Mapping):
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
    if example._input_keys is None:  # noqa: SLF001  # DSPy's own .inputs() raises until it was told
        return example.with_inputs(*inputs)
    hidden = [name for name in inputs if name not in example.inputs()]
    if hidden:
        raise DataError(
            f"{what}[{index}] does not count {', '.join(map(repr, hidden))} among its inputs, the program does",
            hint=f"example.with_inputs({', '.join(map(repr, inputs))})",
        )
    return example


def inputs_of(example: dspy.Example) -> dict[str, Any]:
    """Return the input fields as a dict."""
    return dict(example.inputs().toDict())


def labels_of(example: dspy.Example) -> dict[str, Any]:
    """Return the other fields as a dict."""
    return dict(example.labels().toDict())


def input_items(example: Any) -> list[tuple[str, Any]]:
    """Return the input fields by name, as they are."""
    names = example.inputs().keys()
    return [(name, example[name]) for name in names]


def label_items(example: Any) -> list[tuple[str, Any]]:
    """Return the fields that are no inputs by name, as they are; `example.labels()` copies the example thrice."""
    names = getattr(example, "_input_keys", None)
    if names is None:
        labels = example.labels()  # DSPy says what to do about an example that was not told its inputs
        return [(name, labels[name]) for name in labels.keys()]  # noqa: SIM118  # an Example is no mapping
    return [(name, example[name]) for name in example.keys() if name not in names]  # noqa: SIM118  # as above


def common_labels(examples: Sequence[Any]) -> list[str]:
    """Return the labels' names if every example has the same ones in the same order, else nothing."""
    found: list[str] | None = None
    for example in examples:
        names = getattr(example, "_input_keys", None)
        if names is None:
            return []
        labels = [name for name in example.keys() if name not in names]  # noqa: SIM118  # an Example is no mapping
        if found is None:
            found = labels
        elif labels != found:
            return []
    return found or []


def key_of(example: dspy.Example) -> str:
    """Name an example by its content; equal content has an equal key in every process."""
    text = json.dumps(example.toDict(), sort_keys=True, default=repr)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def key_of_all(examples: Sequence[dspy.Example]) -> str:
    """Name a data set by its content, in order."""
    text = "".join(key_of(example) for example in examples)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
