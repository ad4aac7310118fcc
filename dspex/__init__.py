"""dspex: a notebook workbench that makes DSPy programs learn how to run themselves."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dspex import adapters, optimizers, pools, reliability, sandbox
    from dspex.bench.builtin import benchmark
    from dspex.bridge.applying import apply
    from dspex.bridge.compiled.accelerate import accelerate, accelerated
    from dspex.errors import DefinitionError, DspexError, ExecutionError, ValuesError
    from dspex.native import metrics, validators
    from dspex.native.classes import output
    from dspex.native.signature import Signature, signature
    from dspex.native.template import Template, template
    from dspex.native.validate import Validator, validator
    from dspex.neural.embedding import local_embedder
    from dspex.neural.models import local_lm
    from dspex.optimizers.budget import Budget
    from dspex.optimizers.study import Study
    from dspex.orchestrator.cache import Cache
    from dspex.records import ModelInfo, Objective, Price, Strategy
    from dspex.reliability.guards import Reliability
    from dspex.runtime import Runtime
    from dspex.session import (
        aexecute,
        compare,
        configure,
        execute,
        explain,
        history,
        lm,
        optimize,
        route,
        runs,
        stream,
        usage,
        watch,
    )
    from dspex.telemetry import log_events
    from dspex.variables import ready as spaces
    from dspex.variables.base import (
        Adapter,
        BatchSize,
        Bool,
        Choice,
        Composite,
        Confidence,
        Constraint,
        Cost,
        Demos,
        DemoSet,
        Embedding,
        Float,
        Instruction,
        Int,
        Latency,
        Model,
        Module,
        Normal,
        Penalty,
        Probability,
        Temperature,
        Tensor,
        TokenCount,
        TopP,
    )
    from dspex.variables.online import Online
    from dspex.variables.registry import Registry
    from dspex.variables.space import Space

__version__ = "0.1.0"

__all__ = [
    "Adapter",
    "BatchSize",
    "Bool",
    "Budget",
    "Cache",
    "Choice",
    "Composite",
    "Confidence",
    "Constraint",
    "Cost",
    "DefinitionError",
    "DemoSet",
    "Demos",
    "DspexError",
    "Embedding",
    "ExecutionError",
    "Float",
    "Instruction",
    "Int",
    "Latency",
    "Model",
    "ModelInfo",
    "Module",
    "Normal",
    "Objective",
    "Online",
    "Penalty",
    "Price",
    "Probability",
    "Registry",
    "Reliability",
    "Runtime",
    "Signature",
    "Space",
    "Strategy",
    "Study",
    "Temperature",
    "Template",
    "Tensor",
    "TokenCount",
    "TopP",
    "Validator",
    "ValuesError",
    "__version__",
    "accelerate",
    "accelerated",
    "adapters",
    "aexecute",
    "apply",
    "benchmark",
    "compare",
    "configure",
    "execute",
    "explain",
    "history",
    "lm",
    "local_embedder",
    "local_lm",
    "log_events",
    "metrics",
    "optimize",
    "optimizers",
    "output",
    "pools",
    "reliability",
    "route",
    "runs",
    "sandbox",
    "signature",
    "spaces",
    "stream",
    "template",
    "usage",
    "validator",
    "validators",
    "watch",
]

# Each public name is imported when it is first used (PEP 562), so that `import dspex` costs milliseconds.
_HOMES = {
    "Adapter": "dspex.variables.base",
    "BatchSize": "dspex.variables.base",
    "Bool": "dspex.variables.base",
    "Budget": "dspex.optimizers.budget",
    "Cache": "dspex.orchestrator.cache",
    "Choice": "dspex.variables.base",
    "Composite": "dspex.variables.base",
    "Confidence": "dspex.variables.base",
    "Constraint": "dspex.variables.base",
    "Cost": "dspex.variables.base",
    "DefinitionError": "dspex.errors",
    "DemoSet": "dspex.variables.base",
    "Demos": "dspex.variables.base",
    "DspexError": "dspex.errors",
    "Embedding": "dspex.variables.base",
    "ExecutionError": "dspex.errors",
    "Float": "dspex.variables.base",
    "Instruction": "dspex.variables.base",
    "Int": "dspex.variables.base",
    "Latency": "dspex.variables.base",
    "Model": "dspex.variables.base",
    "ModelInfo": "dspex.records",
    "Module": "dspex.variables.base",
    "Normal": "dspex.variables.base",
    "Objective": "dspex.records",
    "Penalty": "dspex.variables.base",
    "Price": "dspex.records",
    "Probability": "dspex.variables.base",
    "Online": "dspex.variables.online",
    "Registry": "dspex.variables.registry",
    "Reliability": "dspex.reliability.guards",
    "reliability": "dspex.reliability",
    "Runtime": "dspex.runtime",
    "Signature": "dspex.native.signature",
    "Space": "dspex.variables.space",
    "Strategy": "dspex.records",
    "Study": "dspex.optimizers.study",
    "Temperature": "dspex.variables.base",
    "Template": "dspex.native.template",
    "Tensor": "dspex.variables.base",
    "TokenCount": "dspex.variables.base",
    "TopP": "dspex.variables.base",
    "Validator": "dspex.native.validate",
    "ValuesError": "dspex.errors",
    "accelerate": "dspex.bridge.compiled.accelerate",
    "accelerated": "dspex.bridge.compiled.accelerate",
    "adapters": "dspex.adapters",
    "aexecute": "dspex.session",
    "apply": "dspex.bridge.applying",
    "benchmark": "dspex.bench.builtin",
    "compare": "dspex.session",
    "configure": "dspex.session",
    "execute": "dspex.session",
    "explain": "dspex.session",
    "history": "dspex.session",
    "lm": "dspex.session",
    "local_embedder": "dspex.neural.embedding",
    "local_lm": "dspex.neural.models",
    "log_events": "dspex.telemetry",
    "metrics": "dspex.native.metrics",
    "optimize": "dspex.session",
    "optimizers": "dspex.optimizers",
    "output": "dspex.native.classes",
    "pools": "dspex.pools",
    "route": "dspex.session",
    "runs": "dspex.session",
    "sandbox": "dspex.sandbox",
    "signature": "dspex.native.signature",
    "spaces": "dspex.variables.ready",
    "stream": "dspex.session",
    "template": "dspex.native.template",
    "usage": "dspex.session",
    "validator": "dspex.native.validate",
    "validators": "dspex.native.validators",
    "watch": "dspex.session",
}
_ROOMS = ("adapters", "metrics", "optimizers", "pools", "reliability", "sandbox", "spaces", "validators")


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        from dspex.errors import did_you_mean

        hint = did_you_mean(name, __all__)
        raise AttributeError(f"module 'dspex' has no attribute {name!r}" + (f"; {hint}" if hint else ""))
    module = importlib.import_module(home)
    found = module if name in _ROOMS else getattr(module, name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__


def load_ipython_extension(ipython: Any) -> None:
    """Add the magics: ``%load_ext dspex``."""
    from dspex.notebook import magics

    magics.load(ipython)


def unload_ipython_extension(ipython: Any) -> None:
    """Take the magics away again: ``%unload_ext dspex``."""
    from dspex.notebook import magics

    magics.unload(ipython)


if "IPython" in sys.modules:  # in a notebook, values draw themselves without any magic
    importlib.import_module("dspex.notebook.display").register_in_running_shell()

importlib.import_module("dspex.pools.offer").offer()  # as soon as joblib is there, too
