"""dspex: a notebook workbench that makes DSPy programs learn how to run themselves."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dspex import adapters, pools, sandbox
    from dspex.bridge.compiled.accelerate import accelerate, accelerated
    from dspex.errors import DefinitionError, DspexError, ExecutionError, ValuesError
    from dspex.native import metrics, validators
    from dspex.native.classes import output
    from dspex.native.signature import Signature, signature
    from dspex.native.template import Template, template
    from dspex.native.validate import Validator, validator
    from dspex.neural.embedding import local_embedder
    from dspex.neural.models import local_lm
    from dspex.optimizers.definition import Budget
    from dspex.optimizers.study import Study
    from dspex.records import Objective, Price, Strategy
    from dspex.runtime import Runtime
    from dspex.session import aexecute, configure, execute, explain, history, lm, optimize, route, runs
    from dspex.variables.base import Bool, Choice, Float, Int, Model, Module
    from dspex.variables.space import Space

__version__ = "0.1.0"

__all__ = [
    "Bool",
    "Budget",
    "Choice",
    "DefinitionError",
    "DspexError",
    "ExecutionError",
    "Float",
    "Int",
    "Model",
    "Module",
    "Objective",
    "Price",
    "Runtime",
    "Signature",
    "Space",
    "Strategy",
    "Study",
    "Template",
    "Validator",
    "ValuesError",
    "__version__",
    "accelerate",
    "accelerated",
    "adapters",
    "aexecute",
    "configure",
    "execute",
    "explain",
    "history",
    "lm",
    "local_embedder",
    "local_lm",
    "metrics",
    "optimize",
    "output",
    "pools",
    "route",
    "runs",
    "sandbox",
    "signature",
    "template",
    "validator",
    "validators",
]

# Each public name is imported when it is first used (PEP 562), so that `import dspex` costs milliseconds.
_HOMES = {
    "Bool": "dspex.variables.base",
    "Budget": "dspex.optimizers.definition",
    "Choice": "dspex.variables.base",
    "DefinitionError": "dspex.errors",
    "DspexError": "dspex.errors",
    "ExecutionError": "dspex.errors",
    "Float": "dspex.variables.base",
    "Int": "dspex.variables.base",
    "Model": "dspex.variables.base",
    "Module": "dspex.variables.base",
    "Objective": "dspex.records",
    "Price": "dspex.records",
    "Runtime": "dspex.runtime",
    "Signature": "dspex.native.signature",
    "Space": "dspex.variables.space",
    "Strategy": "dspex.records",
    "Study": "dspex.optimizers.study",
    "Template": "dspex.native.template",
    "Validator": "dspex.native.validate",
    "ValuesError": "dspex.errors",
    "accelerate": "dspex.bridge.compiled.accelerate",
    "accelerated": "dspex.bridge.compiled.accelerate",
    "adapters": "dspex.adapters",
    "aexecute": "dspex.session",
    "configure": "dspex.session",
    "execute": "dspex.session",
    "explain": "dspex.session",
    "history": "dspex.session",
    "lm": "dspex.session",
    "local_embedder": "dspex.neural.embedding",
    "local_lm": "dspex.neural.models",
    "metrics": "dspex.native.metrics",
    "optimize": "dspex.session",
    "output": "dspex.native.classes",
    "pools": "dspex.pools",
    "route": "dspex.session",
    "runs": "dspex.session",
    "sandbox": "dspex.sandbox",
    "signature": "dspex.native.signature",
    "template": "dspex.native.template",
    "validator": "dspex.native.validate",
    "validators": "dspex.native.validators",
}
_ROOMS = ("adapters", "metrics", "pools", "sandbox", "validators")


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
