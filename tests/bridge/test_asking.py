"""Models as executions ask them: without DSPy's retries, in time, and named without their keys."""

from __future__ import annotations

import threading

import dspy
import pytest

from dspex import redact
from dspex.bridge import asking
from dspex.errors import TimedOutError
from dspex.sandbox import lm as simulated


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    """Secrets declared here are not secrets of other tests."""
    monkeypatch.setattr(redact, "_declared", set())


def test_a_real_model_is_asked_once_and_keeps_its_history():
    """Its copy does not retry by itself; what it is asked is in the original's history, its settings are untouched."""
    lm = dspy.LM("openai/x", temperature=0.5)
    copy = asking.asker(lm)
    assert (copy.num_retries, lm.num_retries) == (0, 3)
    assert copy.history is lm.history
    assert copy.kwargs == lm.kwargs
    past = asking.asker(lm, past_caches=True, rollout=3)
    assert (past.cache, past.kwargs["rollout_id"]) == (False, 3)
    assert lm.cache
    assert "rollout_id" not in lm.kwargs


def test_a_simulated_model_is_asked_as_it_is():
    """It runs here and has no retries to turn off; another rollout is another copy."""
    lm = simulated("small")
    assert asking.asker(lm) is lm
    assert asking.asker(lm, rollout=1).kwargs["rollout_id"] == 1
    assert (asking.is_local(lm), asking.is_local(dspy.LM("openai/x"))) == (True, False)


def test_a_program_is_asked_once_through_a_copy():
    """Its own models' retries are off in the copy alone; what is local, or cannot be copied, is used as it is."""

    class Kept(dspy.Predict):
        def deepcopy(self):
            return self

    remote, local = dspy.LM("openai/x"), simulated("small")
    program = dspy.ChainOfThought("question -> answer")
    program.set_lm(remote)
    made, lm = asking.asked_once(program, local)
    assert [each.lm.num_retries for each in made.predictors()] == [0]
    assert (program.predictors()[0].lm, lm) == (remote, local)
    assert asking.models_of(program, local) == [remote]
    unbound = dspy.Predict("question -> answer")
    made, lm = asking.asked_once(unbound, remote)
    assert (made, lm.num_retries) == (unbound, 0)
    assert asking.models_of(unbound, remote) == [remote]
    kept = Kept("question -> answer")
    kept.lm = remote
    assert asking.asked_once(kept, local) == (kept, local)
    assert kept.lm is remote


def test_those_with_the_same_key_and_address_are_one_caller():
    """Models of one provider share a key; another address or key is somebody else; the key itself is not shown."""
    keys = [
        asking.key_of(dspy.LM("openai/a", api_key="secret-one")),
        asking.key_of(dspy.LM("openai/b", api_key="secret-one")),
        asking.key_of(dspy.LM("openai/a", api_key="secret-two")),
        asking.key_of(dspy.LM("openai/a", api_key="secret-one", api_base="http://x/v1")),
        asking.key_of(dspy.LM("openai/a")),
        asking.key_of(simulated("small")),
    ]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 5
    assert not any("secret" in key for key in keys)
    assert keys[-2:] == ["openai", "sandbox/small"]


def test_settings_are_named_without_secrets():
    """What an answer depends on is there, what nobody may read is not; and it is declared a secret."""
    lm = dspy.LM("openai/a", api_key="zebra-0815", temperature=0.5, headers={"X-Key": "okapi-0816"})
    assert asking.settings_of(lm)["temperature"] == 0.5
    assert "zebra-0815" not in str(asking.settings_of(lm))
    asking.keep_secret(lm)
    assert redact.redact("zebra-0815 and okapi-0816") == "[redacted] and [redacted]"


def test_work_is_left_behind_when_the_time_is_up():
    """The caller gets an error of ours; work that ends in time gives its value, or raises as it does."""
    gate = threading.Event()
    with pytest.raises(TimedOutError, match=r"a/x did not answer within the 0\.0 s"):
        asking.in_time(gate.wait, 0.01, "a/x")
    gate.set()
    assert asking.in_time(lambda: 42, 60, "a/x") == 42
    with pytest.raises(KeyError):
        asking.in_time(lambda: {}["x"], 60, "a/x")
