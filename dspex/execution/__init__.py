"""Execution: what happens between a call and its answer, cache, budget, guards and orchestrator included."""

from dspex.execution.executor import Executor
from dspex.execution.tasks import Tasks

__all__ = ["Executor", "Tasks"]
