"""The bridged adapter: any DSPy module, as DSPy runs it."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

from dspex import pools
from dspex.adapters.base import Adapter, Answer, Ask, Capabilities
from dspex.bridge import modules
from dspex.bridge import program as program_bridge
from dspex.bridge.elsewhere import Errand
from dspex.errors import DefinitionError
from dspex.pools.pool import Pool as WorkerPool
from dspex.reliability import deadline

if TYPE_CHECKING:
    from collections.abc import Callable

    import dspy

    from dspex.pools import Pool


class BridgedAdapter(Adapter):
    """Runs a DSPy module for every task. Made by `dspex.adapters.bridged`.

    Parameters
    ----------
    module
        A module's name (``Predict``, ``ChainOfThought``, ``ReAct``, ``RLM``, ...), its class, a function
        that makes one from a signature, or a program, which runs as it is whatever the task is called.
    model
        A DSPy model string or a `dspy.LM`; None leaves the program its own.
    pool
        Where it runs: a pool or its name; in the calling thread if left out. A worker is handed the deadline, the prices, DSPy's
        adapter and the draw of the call; what it spends is counted here.
    """

    name = "bridged"

    def __init__(
        self,
        module: str | Callable[..., dspy.Module] | dspy.Module = "Predict",
        model: str | dspy.BaseLM | None = None,
        *,
        pool: Pool | str | None = None,
        concurrency: int = 16,
    ) -> None:
        if concurrency < 1:
            raise DefinitionError(f"concurrency must be a number > 0, got {concurrency}")
        if isinstance(pool, str):
            pools.get(pool)  # now, or a wrong name would be noticed by the first call
        elif pool is not None and not hasattr(pool, "submit"):
            raise DefinitionError(
                f"a pool is one of dspex.pools or its name, got {pool!r}",
                hint="dx.adapters.bridged('Predict', pool='general')",
            )
        self._program = module if program_bridge.is_program(module) else None
        self._made: Any = None if self._program is not None else modules.maker(module)
        self._lm = None if model is None else modules.model_of(model)
        self._pool, self.concurrency = pool, concurrency
        named = module if isinstance(module, str) else getattr(module, "__name__", type(module).__name__)
        self.module = named
        own = program_bridge.models_of(self._program) if self._program is not None else []
        self.model = self._lm.model if self._lm is not None else " + ".join(own)
        self.capabilities = Capabilities(modules=(named,), plain_prompts=self._program is None)

    def answer(self, ask: Ask) -> Answer:
        """Run the module."""
        inputs = ask.inputs if ask.signature is not None else {"prompt": ask.prompt}
        run = partial(modules.answer, self._program_for(ask), inputs, self._lm)
        output, text, usage = run() if self._pool is None else self._away(run)
        return Answer(output, text, usage, self.name, self.model, self.module, max(1, usage.calls))

    def _away(self, run: Callable[[], Any]) -> Any:
        """Run it in a pool, which is handed the seconds that are left: two processes have no clock in common."""
        deadline.check()
        pool: Any = pools.get(self._pool) if isinstance(self._pool, str) else self._pool
        left = deadline.remaining_s()
        seconds = None if math.isinf(left) else left
        options = {"deadline_s": seconds} if isinstance(pool, WorkerPool) else {}
        return pool.submit(Errand(partial(_within, seconds, run)), **options).result().counted()

    def _program_for(self, ask: Ask) -> dspy.Module:
        if self._program is not None:
            return self._program
        return self._made(modules.PLAIN if ask.signature is None else ask.signature.to_dspy())


def _within(seconds: float | None, run: Callable[[], Any]) -> Any:
    with deadline.within(seconds):
        return run()
