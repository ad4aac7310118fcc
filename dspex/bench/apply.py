"""What it takes to bind a configuration to a program, beside DSPy's copy of the program alone."""

from __future__ import annotations

import copy

import dspy

from dspex import sandbox
from dspex.bench.timing import medians_us, print_rows
from dspex.bridge import copying
from dspex.variables.base import Choice, Float, Int, Model, Module
from dspex.variables.space import Space


class _Two(dspy.Module):  # type: ignore[misc]  # dspy is untyped
    """Two predictors, demos, and a number of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.plan = dspy.ChainOfThought("question -> plan")
        self.answer = dspy.Predict("question, plan -> answer")
        self.k = 3

    def forward(self, question: str) -> dspy.Prediction:
        return self.answer(question=question, plan=self.plan(question=question).plan)


def run() -> None:
    """Print the figures."""
    program = _Two()
    demos = [dspy.Example(question=str(k), plan="p", answer="a") for k in range(8)]
    for predictor in program.predictors():
        predictor.demos = demos[:4]
    shared = Space(temperature=Float(0, 1))
    parts = Space(
        {"plan.temperature": Float(0, 1), "answer.temperature": Float(0, 1)},
        adapter=Choice(["chat", "json"]),
        k=Int(1, 9),
        demos=Int(0, 8),
    )
    model = Space(temperature=Float(0, 1), model=Model(["sandbox/small"]))
    everything = Space(
        dict(parts),
        model=model["model"],
        module=Module(["Predict", "ChainOfThought"], default="ChainOfThought"),
        instructions=Choice(["Answer briefly."]),
    )
    small = sandbox.lm("sandbox/small")

    def bound(space: Space) -> dspy.Module:
        return space.apply(program, space.default(), lm=lambda _: small, examples=demos)

    rows = {
        "copy of the program: dspex": lambda: copying.copied(program),
        "copy of the program: program.deepcopy()": program.deepcopy,
        "copy of the program: copy.deepcopy": lambda: copy.deepcopy(program),
        "apply one temperature for all": lambda: bound(shared),
        "apply a temperature and a model": lambda: bound(model),
        "apply two temperatures, adapter, demos, a number": lambda: bound(parts),
        "apply all of these, another module and instructions": lambda: bound(everything),
    }
    print_rows(medians_us(rows), "us")
