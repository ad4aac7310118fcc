"""What definitions and checks cost, beside DSPy's classes and pydantic's models."""

from __future__ import annotations

import itertools
from typing import Annotated, Literal

import cloudpickle
import dspy
import pydantic
from annotated_types import Ge, Le, MaxLen, MinLen

from dspex.bench.timing import medians_us, print_rows
from dspex.native.signature import signature

_SPEC = (
    'message: str len 1..2000 "what the customer wrote", limit: int >= 1 = 3, tags: list[str] = [], '
    'sure: probability = 0.5, kind: Literal["bug", "question"] = "bug" -> answer, score: float >= 0'
)
_VALUES = {"message": "Where is it?", "limit": 2, "tags": ["a", "b"], "sure": 0.5, "kind": "bug"}
_GENERATIONS = 50


class _Inputs(pydantic.BaseModel):
    """The inputs of `_SPEC`, as a pydantic model."""

    model_config = pydantic.ConfigDict(strict=True)

    message: Annotated[str, MinLen(1), MaxLen(2000)]
    limit: Annotated[int, Ge(1)] = 3
    tags: list[str] = []
    sure: Annotated[float, Ge(0), Le(1)] = 0.5
    kind: Literal["bug", "question"] = "bug"


def run() -> None:
    """Print the figures."""
    fresh = itertools.count()
    task = signature(_SPEC)
    stock = task.to_dspy()
    task.validate_inputs(_VALUES)
    rows = {
        "define 'question -> answer', seen before": lambda: signature("question -> answer"),
        "define 'question -> answer', new": lambda: signature(f"question{next(fresh)} -> answer"),
        "define 7 typed fields, new": lambda: signature(f"{_SPEC}{next(fresh)}"),
        "dspy.Signature('question -> answer')": lambda: dspy.Signature("question -> answer"),
        "new instructions and DSPy's class, 7 fields": lambda: task.with_instructions("Sort.").to_dspy(),
        "with_instructions of DSPy's class, 7 fields": lambda: stock.with_instructions("Sort."),
        "check 5 inputs": lambda: task.validate_inputs(_VALUES),
        "check 5 inputs: pydantic model, strict": lambda: _Inputs.model_validate(_VALUES),
        "check 5 inputs: pydantic, adapters made anew": _adapters,
    }
    print_rows(medians_us(rows), "us")
    ours, theirs = task, stock
    for k in range(_GENERATIONS):
        ours, theirs = ours.with_instructions(f"Sort {k}."), theirs.with_instructions(f"Sort {k}.")
    sizes = {"dspex": ours.to_dspy(), "DSPy": theirs}
    print_rows(
        {
            f"class after {_GENERATIONS} new instructions: {name}": len(cloudpickle.dumps(made)) / 1e3
            for name, made in sizes.items()
        },
        "kB",
    )


def _adapters() -> None:
    for name, info in _Inputs.model_fields.items():
        pydantic.TypeAdapter(info.rebuild_annotation()).validate_python(_VALUES[name])
