"""Local language models: a Hugging Face folder as a `dspy.LM`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Self

from dspex.bridge.local import from_generator
from dspex.neural import causal
from dspex.neural.folder import checked
from dspex.neural.resident import Resident, known
from dspex.pools.batching import Batched

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import dspy

    from dspex.pools.streams import Stream
    from dspex.pools.task import TaskFuture
    from dspex.records import Prompt


class LocalModel:
    """A model in a pool's worker, and the prompts on their way to it."""

    def __init__(
        self,
        path: str,
        *,
        pool: str = "neural",
        max_batch: int = 32,
        replicas: int = 1,
        dtype: str = "auto",
        timeout_s: float | None = 300.0,
    ) -> None:
        self._state = {
            "path": path,
            "pool": pool,
            "max_batch": max_batch,
            "replicas": replicas,
            "dtype": dtype,
            "timeout_s": timeout_s,
        }
        self._resident = Resident(
            f"model {path} {dtype}",
            partial(causal.load, path, dtype),
            pool=pool,
            replicas=replicas,
            timeout_s=timeout_s,
        )
        self._batched = Batched(self._resident.sender(causal.complete), max_batch=max_batch, at_once=replicas)

    def __repr__(self) -> str:
        return f"<LocalModel {self._state['path']!r} in pool {self._resident.pool!r}>"

    def submit(self, prompt: Prompt) -> TaskFuture:
        """Begin to answer, together with other prompts if the model is busy."""
        return self._batched.submit(prompt)

    def pieces(self, prompt: Prompt) -> Stream:
        """Answer as the words come; closing the stream stops the model."""
        return self._resident.stream(causal.pieces, prompt)

    def state(self) -> dict[str, Any]:
        """Describe oneself as JSON."""
        return dict(self._state)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> LocalModel:
        """Undo `state`; the folder is looked at again."""
        return cls(**{**state, "path": str(checked(state["path"]))})

    def __reduce__(self) -> tuple[Any, ...]:
        return LocalModel.from_state, (self.state(),)

    def __deepcopy__(self, memo: Any) -> Self:
        return self  # two copies of a program share the model


def local_lm(
    path: str | Path,
    *,
    name: str | None = None,
    pool: str = "neural",
    max_batch: int = 32,
    replicas: int = 1,
    dtype: str = "auto",
    timeout_s: float | None = 300.0,
    **settings: Any,
) -> dspy.LM:
    """Make a `dspy.LM` of a causal language model in a Hugging Face folder; nothing is fetched.

    The model is loaded by the pool's worker when it is first asked, and stays there. Prompts that come while it
    writes are answered together. `temperature`, `top_p`, `max_tokens`, `stop` and `seed` are heeded; without a
    temperature the likeliest words are taken.

    Parameters
    ----------
    path
        The folder.
    name
        What the model is called; by default ``local/`` and the folder's name.
    pool
        The pool in whose worker it lives.
    max_batch
        How many prompts are answered together at most.
    replicas
        In how many workers it may live, each of which answers by itself.
    dtype
        The numbers' type, such as ``bfloat16``; ``auto`` is what the folder says, and float32 on processors.
    timeout_s
        How long an answer may take, the first one's loading included.
    **settings
        As for `dspy.LM`, such as ``temperature`` and ``max_tokens``.

    Raises
    ------
    DefinitionError
        If there is no model in that folder, or torch and transformers are not installed.
    """
    known(pool)
    folder = checked(path)
    model = LocalModel(
        str(folder), pool=pool, max_batch=max_batch, replicas=replicas, dtype=dtype, timeout_s=timeout_s
    )
    return from_generator(name or f"local/{folder.name}", model, **settings)
