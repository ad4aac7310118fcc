"""Model folders: what is missing is said before a worker is asked."""

from __future__ import annotations

import importlib.util

import pytest

import dspex as dx
from dspex.errors import DefinitionError
from dspex.neural.folder import checked


def test_a_folder_that_is_not_there(tmp_path):
    """It is named, and what to do."""
    with pytest.raises(DefinitionError, match=r"there is no folder '.*nowhere'\n.*save_pretrained"):
        dx.local_lm(tmp_path / "nowhere")


def test_a_folder_without_a_model(tmp_path):
    """All that is missing is said at once."""
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(DefinitionError) as caught:
        dx.local_embedder(tmp_path)
    assert caught.value.message == (
        f"{str(tmp_path)!r} is not a model's folder:\n"
        "  - it has no weights (*.safetensors or pytorch_model*.bin)\n"
        "  - it has no tokenizer (tokenizer.json, tokenizer.model, tokenizer_config.json, vocab.*)"
    )
    with pytest.raises(DefinitionError, match="it is a file"):
        checked(tmp_path / "config.json")


def test_what_loads_models_may_be_missing(monkeypatch, tmp_path):
    """Without transformers the message names the extra that brings it."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "transformers" else name)
    with pytest.raises(
        DefinitionError, match=r"local models need transformers\n.*pip install 'dspex\[neural\]'"
    ):
        dx.local_lm(tmp_path)


def test_a_models_folder_is_made_absolute(plain, monkeypatch):
    """A worker may stand elsewhere."""
    monkeypatch.chdir(plain.parent)
    assert checked("plain") == plain.resolve()
