"""Replies: paid for once, by whoever asks first, and kept."""

from __future__ import annotations

import threading

import dspy
import pytest

from dspex import sandbox
from dspex.bridge import compile as compile_bridge
from dspex.bridge import observe
from dspex.bridge.observe import Stopped
from dspex.bridge.replies import Replies
from dspex.records import Usage
from dspex.store import Store

VALUE = {"usage": {"prompt_tokens": 1000, "completion_tokens": 10}}


@pytest.fixture
def store():
    store = Store("memory")
    yield store
    store.close()


def test_a_reply_is_kept_with_its_price(store):
    """Another study finds it, and it was paid for by the first."""
    sandbox.lm("small")  # its price is known with it
    first = Replies("one", store, lambda: False)
    assert first.find("k") is None
    first.keep("k", "sandbox/small", VALUE)
    assert Replies("two", store, lambda: False).find("k") == VALUE
    price = sandbox.price("small").cost_usd(1000, 10)
    assert store.replies_usage("one") == Usage(1, 1000, 10, price)
    assert store.replies_usage("two") == Usage()


def test_whoever_asks_the_same_at_once_waits(store):
    """The second asker gets the first one's reply."""
    replies, found = Replies("s", store, lambda: False), []
    assert replies.find("k") is None
    asker = threading.Thread(target=lambda: found.append(replies.find("k")))
    asker.start()
    replies.keep("k", "sandbox/small", VALUE)
    asker.join(10)
    assert found == [VALUE]


def test_after_a_failure_another_may_ask(store):
    """A call that failed leaves nobody waiting."""
    replies = Replies("s", store, lambda: False)
    assert replies.find("k") is None
    replies.drop("k")
    assert replies.find("k") is None


def test_whoever_waits_gives_up_when_all_is_to_stop(store):
    """A cancelled study does not wait for a reply that never comes."""
    stopped = threading.Event()
    replies = Replies("s", store, stopped.is_set)
    replies.find("k")
    stopped.set()
    with pytest.raises(Stopped):
        replies.find("k")


def ask(store, lm, n=1, **settings):
    """Ask the same question some times, as a study's DSPy code does; return the answers and what they cost."""
    lifted = lm.copy(cache=True, **settings)
    program = dspy.Predict(sandbox.task("triage").signature)
    with compile_bridge.at_work("s", lifted, store, stopped=lambda: False, threads=1) as meter:
        labels = [program(message=sandbox.task("triage").dev[1].message).label for _ in range(n)]
    return labels, meter.usage.calls


def test_what_a_study_asks_twice_is_paid_once(store):
    """In one context, and in the next one, as after a crash."""
    assert ask(store, sandbox.lm("small"), 3)[1] == 1
    assert ask(store, sandbox.lm("small"))[1] == 0


def test_other_models_and_other_draws_are_asked_anew(store):
    """A model of the same name with another engine, another temperature and another rollout."""
    assert ask(store, sandbox.lm("small"))[1] == 1
    assert ask(store, sandbox.lm("small", seed=1))[1] == 1
    assert ask(store, sandbox.lm("small"), temperature=1.0)[1] == 1
    assert ask(store, sandbox.lm("small"), temperature=1.0, rollout_id=1)[1] == 1
    assert ask(store, sandbox.lm("small"), temperature=1.0, rollout_id=1)[1] == 0


def test_another_rollout_is_another_draw(store):
    """At a temperature above 0 some of ten rollouts answer differently."""
    labels = {ask(store, sandbox.lm("small"), temperature=1.0, rollout_id=each)[0][0] for each in range(10)}
    assert len(labels) > 1


def test_a_draw_is_over_with_the_work(store):
    """What is asked afterwards, beside any study, is asked for the first time."""
    ask(store, sandbox.lm("small"), temperature=1.0, rollout_id=7)
    assert observe.rollout_asked.get() == 0


def test_calls_of_nobodys_go_on_to_dspys_cache(store):
    """What runs beside a study is cached where it always was."""
    lm = sandbox.lm("small").copy(cache=True)
    program = dspy.Predict(sandbox.task("triage").signature)
    with compile_bridge.at_work("s", lm, store, stopped=lambda: False, threads=1):
        pass
    with dspy.context(lm=lm):
        program(message="The parcel is late.")
    assert store.reply_keys() == set()
