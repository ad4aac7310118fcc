"""Text embeddings: texts to unit vectors, by a model in a pool's worker."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from dspex.neural.causal import loaded
from dspex.neural.folder import checked
from dspex.neural.resident import Resident, known
from dspex.pools.batching import Batched

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class LocalEmbedder:
    """Embeds texts, those of concurrent callers together; give it to `dspy.Embedder`.

    Made by `local_embedder`.
    """

    def __init__(
        self, path: str, *, pool: str, max_batch: int, replicas: int, timeout_s: float | None
    ) -> None:
        self._state = {
            "path": path,
            "pool": pool,
            "max_batch": max_batch,
            "replicas": replicas,
            "timeout_s": timeout_s,
        }
        # DSPy's cache tells functions apart by their names alone, and a folder may hold another model tomorrow.
        changed = max(file.stat().st_mtime_ns for file in Path(path).iterdir())
        self.__name__ = f"local_embedder {path} {changed}"
        resident = Resident(
            f"embedder {path}", partial(load, path), pool=pool, replicas=replicas, timeout_s=timeout_s
        )
        self._batched = Batched(
            resident.sender(embed), max_batch=max_batch, at_once=replicas, queue_limit=_MANY
        )

    def __repr__(self) -> str:
        return f"<LocalEmbedder {self._state['path']!r}>"

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts.

        Returns
        -------
        One row a text, of length 1, shape ``(n_texts, n_dimensions)``.
        """
        return np.stack(self._batched.map(texts))

    def __reduce__(self) -> tuple[Any, ...]:
        return _embedder, (self._state,)

    def __deepcopy__(self, memo: Any) -> Self:
        return self  # two copies of a program share the model


_MANY = 1 << 20


def _embedder(state: dict[str, Any]) -> LocalEmbedder:
    return LocalEmbedder(**state)


def local_embedder(
    path: str | Path,
    *,
    pool: str = "neural",
    max_batch: int = 32,
    replicas: int = 1,
    timeout_s: float | None = 300.0,
) -> LocalEmbedder:
    """Make an embedder of a Hugging Face model's folder: ``dspy.Embedder(dx.local_embedder(path))``.

    A text's vector is the mean of its tokens', of length 1. Texts that are too long for the model are cut.

    Parameters
    ----------
    path
        The folder.
    pool
        The pool in whose worker it lives.
    max_batch
        How many texts go through the model together.
    replicas
        In how many workers it may live.
    timeout_s
        How long a batch may take, the first one's loading included.

    Raises
    ------
    DefinitionError
        If there is no model in that folder, or torch and transformers are not installed.
    """
    known(pool)
    folder = str(checked(path))
    return LocalEmbedder(folder, pool=pool, max_batch=max_batch, replicas=replicas, timeout_s=timeout_s)


# ── what workers are asked to do ────────────────────────────────────────────────────────────────


def load(path: str) -> tuple[Any, Any]:
    """Load a model; the state of its session."""
    from transformers import AutoModel

    return loaded(path, "float32", AutoModel)


def embed(model: tuple[Any, Any], texts: Sequence[str]) -> list[NDArray[np.float32]]:
    """Embed texts together."""
    import torch

    tokenizer, net = model
    limit = getattr(net.config, "max_position_embeddings", None)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    given = tokenizer(
        list(texts), return_tensors="pt", padding=True, truncation=limit is not None, max_length=limit
    ).to(net.device)
    with torch.inference_mode():
        tokens = net(input_ids=given["input_ids"], attention_mask=given["attention_mask"]).last_hidden_state
    counts = given["attention_mask"].unsqueeze(-1).to(tokens.dtype)
    means = (tokens * counts).sum(1) / counts.sum(1).clamp(min=1)
    return list(torch.nn.functional.normalize(means, dim=-1).float().cpu().numpy())
