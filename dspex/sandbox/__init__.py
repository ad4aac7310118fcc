"""The sandbox: simulated language models and tasks with a known truth, to measure optimizers offline.

Nothing here is a real model, and nothing measured here is a claim about one. The constants are those of
`world.toml`, the world called "sandbox-1".

Examples
--------
>>> from dspex import sandbox
>>> sandbox.task("triage").optimum([{"demos": 0}, {"demos": 8}]).configuration
{'demos': 8}
"""

from dspex.sandbox.faults import Faults
from dspex.sandbox.models import SimulatedModel, lm, price, typical_latency_s
from dspex.sandbox.server import serve
from dspex.sandbox.tasks import Task, task
from dspex.sandbox.truth import Optimum, expected_score
from dspex.sandbox.world import MODELS

__all__ = [
    "MODELS",
    "Faults",
    "Optimum",
    "SimulatedModel",
    "Task",
    "expected_score",
    "lm",
    "price",
    "serve",
    "task",
    "typical_latency_s",
]
