import random

import pytest

import dspex as dx
from dspex.errors import VariableError


@pytest.mark.parametrize("make", [dx.spaces.standard_ml, dx.spaces.llm, dx.spaces.prompting])
def test_ready_spaces_draw_valid_configurations(make):
    """A hundred draws and the default fit, and the space survives JSON."""
    space = make()
    for configuration in [*space.sample_many(100, random.Random(0)), space.default()]:
        space.check(configuration)
    assert dx.Space.from_json(space.to_json()) == space


def test_a_models_provider_and_window_are_minded():
    """A model of another provider and an answer beyond the window are refused by the rules' names."""
    space = dx.spaces.standard_ml()
    with pytest.raises(VariableError) as caught:
        space.check({**space.default(), "provider": "gemini", "model": "openai/gpt-4", "max_tokens": 9000})
    assert str(caught.value).splitlines()[1:] == [
        (
            '  - the constraint "max_tokens fits into the model\'s window" does not hold for max_tokens=9000, '
            "model.context_tokens=8192.0"
        ),
        (
            "  - the constraint \"the model is one of the provider's\" does not hold for provider='gemini', "
            "model='openai/gpt-4'"
        ),
    ]


def test_the_ready_spaces_take_ones_own_models_and_texts():
    """Models and instructions given replace or join the usual ones."""
    assert dx.spaces.llm(["sandbox/small"])["model"].grid(1) == ["sandbox/small"]
    assert dx.spaces.standard_ml(["a/b", "c/d"])["provider"].grid(1) == ["a", "c"]
    assert "instructions" not in dx.spaces.prompting()
    assert dx.spaces.prompting(["Be brief."])["instructions"].grid(1) == [None, "Be brief."]
