"""The response cache: keys, what is kept, what leaves, and what is written and read back."""

from __future__ import annotations

import datetime as dt
import math
from typing import Literal

import pydantic
import pytest

from dspex.errors import DefinitionError
from dspex.native.signature import signature
from dspex.orchestrator.cache import Cache, Request, ResponseCache, inputs_key, prefix_of, read, write
from dspex.records import Decision, Strategy, Usage

SMALL = Strategy("small", "Predict")
QA = signature("question -> answer")


class Invoice(pydantic.BaseModel):
    number: str
    due: dt.date


class Given:
    """As much of a result as is kept."""

    def __init__(self, **output):
        self.output = output
        self.decision = Decision(SMALL, "policy", 1.0, "it is the only strategy")
        self.execution_id = "e1"
        self.usage = Usage()


class Shelf:
    """A store in memory."""

    def __init__(self):
        self.answers = {}

    def append_answer(self, answer):
        self.answers[answer.key] = answer

    def answer(self, key):
        return self.answers.get(key)

    def forget_answer(self, key):
        self.answers.pop(key, None)


def request(question="?"):
    return Request("prefix", None, None, inputs_key({"question": question}))


def test_what_is_put_is_recalled_and_may_be_changed_by_its_owner():
    """Each recall hands out values of its own: a caller who changes them changes nobody else's."""
    cache = ResponseCache(Cache())
    listed = signature("question -> items: list[str]")
    cache.put(request(), listed, Given(items=["a"]))
    cache.recall(request()).fresh_output()["items"].append("b")
    assert cache.recall(request()).fresh_output() == {"items": ["a"]}
    assert cache.recall(request("!")) is None


def test_the_least_used_leave():
    """Of three with room for two, the one that was not asked for goes."""
    cache = ResponseCache(Cache(size=2))
    for question in "ab":
        cache.put(request(question), QA, Given(answer=question))
    cache.recall(request("a"))
    cache.put(request("c"), QA, Given(answer="c"))
    assert [question for question in "abc" if cache.recall(request(question))] == ["a", "c"]
    assert len(cache) == 2


def test_an_old_answer_is_only_given_when_asked_for():
    """Past its time it is not recalled; as a stale one it is still there."""
    now = [0.0]
    cache = ResponseCache(Cache(ttl_s=10), clock=lambda: now[0])
    cache.put(request(), QA, Given(answer="a"))
    now[0] = 9.9
    assert cache.recall(request()) is not None
    now[0] = 10.0
    assert cache.recall(request()) is None
    assert cache.fetch(request(), QA) is None
    assert cache.fetch(request(), QA, stale=True).fresh_output() == {"answer": "a"}


def test_the_shelf_answers_another_process():
    """A cache with nothing in memory finds what another wrote, once; what was forgotten is gone for both."""
    shelf = Shelf()
    billing = signature("text -> invoice: Invoice, kind: Literal['a', 'b']", types={"Invoice": Invoice})
    ResponseCache(Cache(), shelf=shelf).put(
        request(), billing, Given(invoice=Invoice(number="7", due=dt.date(2026, 1, 2)), kind="a")
    )
    other = ResponseCache(Cache(), shelf=shelf)
    assert other.recall(request()) is None
    entry = other.fetch(request(), billing)
    assert entry.fresh_output() == {"invoice": Invoice(number="7", due=dt.date(2026, 1, 2)), "kind": "a"}
    assert (entry.decision.strategy, entry.answer.execution_id) == (SMALL, "e1")
    assert other.recall(request()) is entry
    other.forget(request())
    assert other.fetch(request(), billing) is None
    assert ResponseCache(Cache(stored=False), shelf=shelf).fetch(request(), billing) is None


@pytest.mark.parametrize(
    "value", [{1, 2}, object(), math.nan, b"\xff"], ids=["set", "object", "nan", "bytes"]
)
def test_what_is_no_json_stays_in_memory(value):
    """It is recalled here, and nothing is written that could not be read back the same."""
    shelf = Shelf()
    cache = ResponseCache(Cache(), shelf=shelf)
    cache.put(request(), QA, Given(answer=value))
    assert cache.recall(request()) is not None
    assert shelf.answers == {}


def test_writing_and_reading_give_the_same_types():
    """JSON holds lists and numbers; the signature makes tuples, dates and models of them again."""
    task = signature("q -> n: float, pair: tuple[int, str], day: date", types={"date": dt.date})
    output = {"n": 3.0, "pair": (1, "a"), "day": dt.date(2026, 1, 2), "reasoning": "plain"}
    written = write(task, output)
    assert written == {"n": 3.0, "pair": [1, "a"], "day": "2026-01-02", "reasoning": "plain"}
    assert read(task, written) == output
    assert read(task, {"n": "not a number"}) is None
    assert write(task, {"unknown": (1, 2)}) is None


def test_the_prefix_names_everything_but_the_inputs():
    """Instructions, types, strategies, settings and programs each make another key; the same gives the same."""
    bigger = signature("question -> answer: Literal['a']", types={"Literal": Literal})
    prefixes = [
        prefix_of(QA, [SMALL], []),
        prefix_of(QA.with_instructions("Else."), [SMALL], []),
        prefix_of(bigger, [SMALL], []),
        prefix_of(QA, [SMALL, Strategy("large", "Predict")], []),
        prefix_of(QA, [SMALL], [["small", {"temperature": 0.5}]]),
        prefix_of(QA, [SMALL], [], "a program"),
    ]
    assert len(set(prefixes)) == len(prefixes)
    assert prefix_of(signature("question -> answer"), [SMALL], []) == prefixes[0]


def test_a_class_of_the_same_name_is_another_type():
    """A model that was given another field has another schema, and another key."""
    before = signature("text -> invoice: Invoice", types={"Invoice": Invoice})
    changed = pydantic.create_model("Invoice", number=(str, ...), due=(dt.date, ...), paid=(bool, ...))
    after = signature("text -> invoice: Invoice", types={"Invoice": changed})
    assert prefix_of(before, [SMALL], []) != prefix_of(after, [SMALL], [])


def test_inputs_are_named_by_value_and_type():
    """Equal numbers of other types are other inputs; models and dates are named too; functions cannot be."""
    keys = [
        inputs_key({"x": value})
        for value in (1, 1.0, True, "1", None, [1], {"a": 1}, dt.date(2026, 1, 2), b"1", Invoice)
    ]
    named = [key for key in keys if key is not None]
    assert len(set(named)) == len(named) == 9
    due = dt.date(2026, 1, 2)
    assert inputs_key({"x": Invoice(number="1", due=due)}) == inputs_key({"x": Invoice(number="1", due=due)})
    assert inputs_key({"x": Invoice(number="1", due=due)}) != inputs_key({"x": Invoice(number="2", due=due)})


@pytest.mark.parametrize("wrong", [{"size": 0}, {"ttl_s": 0}, {"ttl_s": -1.0}])
def test_options_are_checked(wrong):
    """A cache without room or time is a mistake."""
    with pytest.raises(DefinitionError, match="size must be at least 1 and its ttl_s above 0"):
        Cache(**wrong)
