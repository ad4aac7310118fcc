"""Real providers, asked once each; without a key, or outside this layer, a test is skipped and says why."""

from __future__ import annotations

import os

import pytest

import dspex as dx
from dspex import session

PROVIDERS = {
    "openai/gpt-4o-mini": "OPENAI_API_KEY",
    "anthropic/claude-haiku-4-5": "ANTHROPIC_API_KEY",
    "gemini/gemini-2.5-flash": "GEMINI_API_KEY",
}


@pytest.mark.parametrize("model", PROVIDERS)
def test_a_real_model_answers(model):
    """A number comes back, with tokens and dollars; the second time it is recalled for nothing."""
    if os.environ.get("DSPEX_TEST_MODE") != "live":
        pytest.skip("make test-live asks real providers")
    if not os.environ.get(PROVIDERS[model]):
        pytest.skip(f"{PROVIDERS[model]} is not set")
    session.configure([model], modules=["Predict"], store="memory", budget=0.05)
    result = dx.execute("question -> answer: int", question="What is 6 times 7?", timeout_s=60)
    assert result.answer == 42
    assert result.usage.tokens_in > 0
    assert not result.is_simulated
    assert dx.execute("question -> answer: int", question="What is 6 times 7?").is_cached
    session.current().close()
