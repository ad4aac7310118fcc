"""Text embeddings: unit vectors that do not depend on what else is embedded."""

from __future__ import annotations

import copy
import pickle

import dspy
import numpy as np
import pytest

import dspex as dx
from dspex.neural import embedding

TEXTS = ["a", "a longer text of many words", "two words", "z" * 900]


@pytest.fixture
def embedder(untaught, pool):
    return dx.local_embedder(untaught, pool=pool.name, max_batch=3)


def test_texts_become_unit_vectors(embedder):
    """One row a text, of length 1, the same whatever texts go with it; what is too long is cut."""
    found = embedder(TEXTS)
    assert found.shape == (4, 32)
    assert found.dtype == np.float32
    assert np.allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-5)
    for text, row in zip(TEXTS, found, strict=True):
        assert np.allclose(embedder([text])[0], row, atol=1e-5)
    assert np.allclose(embedder(["z" * 512])[0], found[3], atol=1e-5)


def test_dspy_embeds_with_it(embedder):
    """It is what `dspy.Embedder` asks for, whatever batches that makes."""
    found = dspy.Embedder(embedder, batch_size=2)(TEXTS)
    assert np.allclose(found, embedder(TEXTS), atol=1e-5)


def test_a_vector_is_the_mean_of_its_tokens(untaught):
    """Padding does not count."""
    import torch

    tokenizer, net = model = embedding.load(str(untaught))
    with torch.inference_mode():
        tokens = net(**tokenizer("two words", return_tensors="pt").to(net.device)).last_hidden_state[0]
    mean = tokens.mean(0).numpy()
    found = embedding.embed(model, ["two words", "a text with many more words than that"])[0]
    assert np.allclose(found, mean / np.linalg.norm(mean), atol=1e-5)


def test_copies_share_the_model(embedder):
    """A copy and a pickle of a program need no second model."""
    assert copy.deepcopy(embedder) is embedder
    assert repr(pickle.loads(pickle.dumps(embedder))) == repr(embedder)  # noqa: S301  # our own


def test_dspys_cache_tells_models_apart(plain, talker, pool):
    """The name by which DSPy remembers vectors is the model's, and changes with its files."""
    first, other = (dx.local_embedder(each, pool=pool.name).__name__ for each in (plain, talker))
    assert first != other
    assert dx.local_embedder(plain, pool=pool.name).__name__ == first
    (plain / "note.txt").write_text("changed")
    assert dx.local_embedder(plain, pool=pool.name).__name__ != first
