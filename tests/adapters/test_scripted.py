"""The scripted adapter: rules, seeded failures and delays, and a history that one seed always repeats."""

import re

import pytest

import dspex as dx
from dspex.errors import DefinitionError, ExecutionError, RateLimitedError, UnavailableError

TASK = dx.signature("question -> answer")


def ask(adapter, question):
    try:
        return adapter.generate(TASK, question=question)["answer"]
    except ExecutionError as error:
        return type(error).__name__


def test_the_first_rule_that_fits_answers():
    """Texts, patterns, inputs and functions say when; values, mappings, functions and errors say what."""
    rules = [
        ("capital", "Paris"),
        (re.compile(r"^\d+$"), lambda inputs: inputs["question"] * 2),
        ({"question": "who?"}, {"answer": "me"}),
        (lambda inputs: len(inputs["question"]) > 20, RateLimitedError("later")),
    ]
    adapter = dx.adapters.scripted(rules, otherwise="dunno")
    questions = ["The Capital of France?", "12", "who?", "x" * 21, "else"]
    assert [ask(adapter, each) for each in questions] == ["Paris", "1212", "me", "RateLimitedError", "dunno"]


def test_no_rule_is_an_error_that_says_so():
    """Without a rule that fits and without otherwise, nothing is invented."""
    with pytest.raises(ExecutionError, match="no rule"):
        dx.adapters.scripted({"a": "b"}).generate(TASK, question="zzz")


def run(seed):
    waited = []
    adapter = dx.adapters.scripted(
        otherwise="yes", failure_rate=0.4, delay_s=0.1, jitter_s=0.5, seed=seed, sleep=waited.append
    )
    answers = [ask(adapter, f"{n % 7}") for n in range(60)]
    return adapter.history(), answers, waited


def test_one_seed_is_one_history_byte_by_byte():
    """Failures and delays repeat with the seed, and differ with another."""
    assert run(1) == run(1)
    assert run(1)[0] != run(2)[0]


def test_failures_and_delays_are_as_often_and_as_long_as_said():
    """About the given share fails, and each delay lies within its bounds."""
    history, answers, waited = run(3)
    assert 12 <= answers.count("UnavailableError") <= 36
    assert all(0.1 <= each <= 0.6 for each in waited)
    assert len(history.splitlines()) == len(waited) == 60


def test_luck_does_not_depend_on_which_thread_comes_first():
    """The same inputs meet the same luck in another order."""
    first, second = (dx.adapters.scripted(otherwise="yes", failure_rate=0.5, seed=5) for _ in range(2))
    questions = [f"{n}" for n in range(30)]
    forward = {each: ask(first, each) for each in questions}
    backward = {each: ask(second, each) for each in reversed(questions)}
    assert forward == backward
    assert len(set(forward.values())) == 2


def test_the_history_says_what_was_asked_and_what_came():
    """Each call is kept with its inputs, and its output or its error."""
    adapter = dx.adapters.scripted({"a": "b"}, failures=[UnavailableError("down")])
    ask(adapter, "a")
    ask(adapter, "zzz")
    first, second = adapter.calls
    assert (first.number, first.task, first.inputs, first.output) == (
        0, "question -> answer", {"question": "a"}, {"answer": "b"},
    )  # fmt: skip
    assert second.output is None
    assert second.error.startswith("ExecutionError: no rule")


def test_streams_come_in_pieces_of_the_given_size():
    """Pieces have the given size; together they are the answer."""
    adapter = dx.adapters.scripted(otherwise="abcdefg", piece_chars=3)
    assert [chunk.text for chunk in adapter.stream(TASK, question="?")] == ["abc", "def", "g", ""]


@pytest.mark.parametrize(
    "wrong", [{"failure_rate": 2}, {"delay_s": -1}, {"jitter_s": -1}, {"piece_chars": 0}]
)
def test_options_out_of_range_are_refused(wrong):
    """An option that makes no sense is refused when the adapter is made."""
    with pytest.raises(DefinitionError, match=next(iter(wrong))):
        dx.adapters.scripted(**wrong)


def test_it_is_used_only_when_it_is_handed_over(runtime):
    """No name chooses it, and no choice does."""
    with pytest.raises(DefinitionError, match="scripted"):
        dx.execute(TASK, question="?", adapter="scripted")
    decision = dx.explain(TASK, question="?", adapter="auto")
    assert "scripted" not in {each.strategy.adapter for each in decision.alternatives}
