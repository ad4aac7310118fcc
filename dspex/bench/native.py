"""The compiled adapters beside DSPy's own, and beside DSPy's own with its one hot spot cached.

The second peer keeps pydantic's type adapters between calls, as one cache upstream would: what is left is
what specialising per signature is worth. It is timed right after the others, which take turns. Times are of
single calls, less what an empty call takes. Columns: DSPy, DSPy cached, dspex with demos never seen, and with
the same demos again, each with its ratio to either peer. For whole predictions the last column is "no adapter":
one that has its messages and values ready, the most that any adapter can bring.
"""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from unittest import mock

import dspy
import pydantic
from dspy import lm15
from dspy.adapters import utils as dspy_utils
from dspy.adapters import xml_adapter as dspy_xml

from dspex import adapters
from dspex.bench.timing import medians_us
from dspex.bridge import prices
from dspex.bridge.compiled.readers import reader_for
from dspex.records import Price

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_DEMOS = (0, 4, 16)
_REPEATS = 150
_PAIRS = {
    "Chat": (dspy.ChatAdapter, adapters.ChatAdapter),
    "JSON": (dspy.JSONAdapter, adapters.JSONAdapter),
    "XML": (dspy.XMLAdapter, adapters.XMLAdapter),
}


class Place(pydantic.BaseModel):
    """A field of a type that has fields."""

    x: int
    name: str


class Rich(dspy.Signature):  # type: ignore[misc]  # DSPy is untyped
    """Read the report and say what it says."""

    title: str = dspy.InputField(desc="as printed")
    tags: list[str] = dspy.InputField()
    pages: int = dspy.InputField()
    score: float = dspy.InputField()
    urgent: bool = dspy.InputField()
    place: Place = dspy.InputField()
    summary: str = dspy.OutputField(desc="one sentence")
    count: int = dspy.OutputField()
    weight: float = dspy.OutputField()
    right: bool = dspy.OutputField()
    names: list[str] = dspy.OutputField()
    kind: Literal["memo", "bill"] = dspy.OutputField()
    target: Place = dspy.OutputField()


class Task(NamedTuple):
    """A signature, and how to make the k-th example of it."""

    signature: Any
    values: Callable[[int], dict[str, Any]]

    def inputs(self) -> dict[str, Any]:
        """Return the values of a call."""
        return {name: value for name, value in self.values(99).items() if name in self.signature.input_fields}

    def demos(self, count: int) -> list[Any]:
        """Return new demos."""
        return [dspy.Example(**self.values(k)) for k in range(count)]


def _qa_values(k: int) -> dict[str, Any]:
    return {"question": f"What is {k} and {k}?", "answer": f"It is {2 * k}."}


def _rich_values(k: int) -> dict[str, Any]:
    asked = {"title": f"Report {k}", "tags": ["new", "long"], "pages": k, "score": k + 0.5, "urgent": True}
    answered = {"summary": "All is well.", "count": 3, "weight": 2.5, "right": False, "names": ["Ann", "Bo"]}
    return {
        **asked, "place": Place(x=k, name="here"), **answered, "kind": "memo", "target": Place(x=2, name="there"),
    }  # fmt: skip


def _tasks() -> dict[str, Task]:
    return {"QA": Task(dspy.Signature("question -> answer"), _qa_values), "Rich": Task(Rich, _rich_values)}


@contextlib.contextmanager
def strengthened() -> Iterator[None]:
    """Let DSPy keep pydantic's type adapters, by type, between calls."""
    cached = functools.lru_cache(maxsize=1024)(pydantic.TypeAdapter)

    def look_up(kind: Any) -> Any:
        try:
            return cached(kind)
        except TypeError:  # not hashable
            return pydantic.TypeAdapter(kind)

    stand_in = mock.Mock(wraps=pydantic, TypeAdapter=look_up, ValidationError=pydantic.ValidationError)
    with (
        mock.patch.object(dspy_utils, "TypeAdapter", look_up),
        mock.patch.object(dspy_utils, "pydantic", stand_in),
        mock.patch.object(dspy_xml, "TypeAdapter", look_up),
    ):
        yield


def run() -> None:
    """Print the figures."""
    print(f"  the part of dspex that exists in C too runs {adapters.path()}")
    for name, task in _tasks().items():
        for adapter, (stock, ours) in _PAIRS.items():
            for count in _DEMOS:
                _formatting(f"{adapter}.format {name}, {count} demos", task, stock(), ours(), count)
    for name, task in _tasks().items():
        for adapter, (stock, ours) in _PAIRS.items():
            _parsing(f"{adapter}.parse {name}", task, stock(), ours())
    _reading()
    _predicting()


def _formatting(title: str, task: Task, stock: Any, ours: Any, count: int) -> None:
    signature, inputs, demos = task.signature, task.inputs(), task.demos(count)
    fresh = iter([task.demos(count) for _ in range(_REPEATS + 1)])
    calls: dict[str, Callable[[], object]] = {"ours": lambda: ours.format(signature, next(fresh), inputs)}
    if count:
        calls["again"] = lambda: ours.format(signature, demos, inputs)
        for _ in range(3):
            calls["again"]()
    _print(title, _times(lambda: stock.format(signature, demos, inputs), calls))


def _parsing(title: str, task: Task, stock: Any, ours: Any) -> None:
    text = stock.format_assistant_message_content(task.signature, task.values(3))
    theirs = functools.partial(stock.parse, task.signature, text)
    _print(title, _times(theirs, {"ours": lambda: ours.parse(task.signature, text)}))


def _reading() -> None:
    texts = {"int": "42", "float": "2.5", "bool": "True", "list[str]": '["a", "b"]', "Literal": "memo"}
    kinds = {
        "int": int,
        "float": float,
        "bool": bool,
        "list[str]": list[str],
        "Literal": Literal["memo", "bill"],
    }
    for name, text in texts.items():
        read = reader_for(kinds[name])
        theirs = functools.partial(dspy_utils.parse_value, text, kinds[name])
        _print(f"one value: {name}", _times(theirs, {"ours": functools.partial(read, text)}))
    read, text = reader_for(Place), '{"x": 1, "name": "here"}'
    theirs = functools.partial(dspy_utils.parse_value, text, Place)
    _print("one value: a pydantic model", _times(theirs, {"ours": functools.partial(read, text)}))


class _Echo:
    """An engine that takes no time: it has its response ready."""

    def __init__(self, text: str) -> None:
        self.response = lm15.Response(
            id="echo",
            model="bench/echo",
            message=lm15.Message.assistant(text),
            finish_reason="stop",
            usage=lm15.Usage(input_tokens=1, output_tokens=1),
        )

    def complete(self, request: lm15.Request) -> lm15.Response:  # noqa: ARG002  # every request has the same answer
        """Answer."""
        return self.response


def _predicting() -> None:
    prices.declare("bench/echo", Price(0.0, 0.0))
    for name, task, count in [("QA", _tasks()["QA"], 0), *(("Rich", _tasks()["Rich"], k) for k in (0, 16))]:
        stock, ours = dspy.ChatAdapter(), adapters.ChatAdapter()
        text = stock.format_assistant_message_content(task.signature, task.values(3))
        lm = dspy.LM("bench/echo", engine=_Echo(text), cache=False)
        program, inputs = dspy.Predict(task.signature), task.inputs()
        program.demos = task.demos(count)

        def call(adapter: Any, program: Any = program, lm: Any = lm, inputs: Any = inputs) -> None:
            with dspy.context(lm=lm, adapter=adapter, trace=None):
                program(**inputs)

        ready = _ready(stock.format(task.signature, program.demos, inputs), stock.parse(task.signature, text))
        calls = {"ours": functools.partial(call, ours), "free": functools.partial(call, ready)}
        _print(f"whole Predict {name}, {count} demos", _times(functools.partial(call, stock), calls))


def _ready(messages: list[dict[str, Any]], values: dict[str, Any]) -> Any:
    """Make an adapter that takes no time."""
    made = dspy.ChatAdapter()
    # DSPy's own steps, each without its work: what it was given third is the signature.
    made._call_preprocess = lambda *given: given[2]  # noqa: SLF001
    made.format = lambda *_: list(map(dict.copy, messages))
    made._call_postprocess = lambda *_: [dict(values)]  # noqa: SLF001
    return made


def _times(theirs: Callable[[], object], ours: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    taken = medians_us({"empty": _nothing, "DSPy": theirs, **ours}, repeats=_REPEATS)
    with strengthened():
        taken |= {"cached": medians_us({"cached": theirs}, repeats=_REPEATS)["cached"]}
    empty = taken.pop("empty")
    return {name: max(time - empty, 0.01) for name, time in taken.items()}


def _nothing() -> None:
    """Take what taking the time takes."""


def _print(title: str, taken: Mapping[str, float]) -> None:
    stock, cached = taken["DSPy"], taken["cached"]
    parts = [f"  {title:<30}DSPy {stock:9,.1f}  cached {cached:8,.1f}"]
    for name, label in (("ours", "dspex"), ("again", "demos again"), ("free", "no adapter")):
        if name in taken:
            parts.append(
                f"  {label} {taken[name]:7,.1f} us {stock / taken[name]:6.1f}x {cached / taken[name]:6.1f}x"
            )
    print("".join(parts))
