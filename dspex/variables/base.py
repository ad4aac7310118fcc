"""The kinds of variable, by one door. Each knows its values, checks one, and draws one; none what it changes."""

from dspex.variables.choice import Bool, Choice
from dspex.variables.demos import Demos, DemoSet
from dspex.variables.formulas import Composite, Constraint
from dspex.variables.ml import (
    BatchSize,
    Confidence,
    Cost,
    Latency,
    Penalty,
    Probability,
    Temperature,
    TokenCount,
    TopP,
)
from dspex.variables.numeric import Float, Int
from dspex.variables.priors import Normal
from dspex.variables.program import Adapter, Instruction, Model, Module
from dspex.variables.protocol import Variable
from dspex.variables.tensor import Embedding, Tensor

__all__ = [
    "Adapter",
    "BatchSize",
    "Bool",
    "Choice",
    "Composite",
    "Confidence",
    "Constraint",
    "Cost",
    "DemoSet",
    "Demos",
    "Embedding",
    "Float",
    "Instruction",
    "Int",
    "Latency",
    "Model",
    "Module",
    "Normal",
    "Penalty",
    "Probability",
    "Temperature",
    "Tensor",
    "TokenCount",
    "TopP",
    "Variable",
]
