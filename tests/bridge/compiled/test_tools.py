"""Programs whose model answers with tool calls of its own: the same requests and results, accelerated or not."""

from __future__ import annotations

import dspy
import pytest
from dspy import lm15

import dspex as dx
from dspex.bridge import prices
from dspex.records import Price


class ToolCaller:
    """An engine that answers with one message after the other, and keeps the requests."""

    supports_function_calling = True
    supports_reasoning = False
    supports_response_schema = True
    supported_params = frozenset({"tools", "tool_choice", "parallel_tool_calls", "response_format"})

    def __init__(self, *turns):
        self.turns = list(turns)
        self.requests = []

    def complete(self, request):
        self.requests.append(request)
        parts = self.turns[len(self.requests) - 1]
        called = any(type(part) is lm15.ToolCallPart for part in parts)
        return lm15.Response(
            id=f"turn-{len(self.requests)}",
            model=request.model,
            message=lm15.Message.assistant(parts),
            finish_reason="tool_call" if called else "stop",
            usage=lm15.Usage(input_tokens=1, output_tokens=1),
        )


def lookup(word: str, times: int = 1) -> str:
    """Look a word up."""
    return f"{word}!" * times


def call(name, number=1, **given):
    """Make a call as a model writes it."""
    return lm15.ToolCallPart(id=f"call-{number}", name=name, input=given)


def text(said):
    """Make a text as a model writes it."""
    return lm15.TextPart(text=said)


class Act(dspy.Signature):
    """Use the tools."""

    question: str = dspy.InputField()
    tools: list[dspy.Tool] = dspy.InputField()
    note: str | None = dspy.OutputField()
    calls: dspy.ToolCalls = dspy.OutputField()


def predict(adapter):
    """Ask for tool calls three times: with a text, without one, and in vain."""
    program = dspy.Predict(Act)
    program.demos = [dspy.Example(question="before", tools=[dspy.Tool(lookup)], note="n", calls=None)]
    given = {"question": "look up cat", "tools": [dspy.Tool(lookup)]}
    return [_outcome(program, given) for _ in range(3)]


def _outcome(program, given):
    try:
        return repr(program(**given).toDict())
    except Exception as error:
        return type(error), str(error)


NOTE = {
    dspy.ChatAdapter: "[[ ## note ## ]]\nlooking\n\n[[ ## completed ## ]]",
    dspy.JSONAdapter: '{"note": "looking"}',
    dspy.XMLAdapter: "<note>looking</note>",
}


def both_ways(stock, program, turns, **options):
    """Run a program on DSPy's adapter, then accelerated; return what came out, was asked and was noted."""
    prices.declare("tools/one", Price(0.0, 0.0))
    runs = []
    before = dspy.settings.adapter
    for is_accelerated in (False, True):
        engine = ToolCaller(*turns)
        lm = dspy.LM("tools/one", engine=engine, cache=False)
        dspy.configure(adapter=stock(**options))
        handle = dx.accelerate() if is_accelerated else None
        try:
            with dspy.context(lm=lm):
                found = program(dspy.settings.adapter)
        finally:
            dspy.configure(adapter=before)
        assert handle is None or type(handle.adapter) is not stock
        history = [(entry["messages"], entry["outputs"], entry["kwargs"]) for entry in lm.history]
        runs.append((found, engine.requests, repr(history)))
    return runs


@pytest.mark.parametrize("stock", [dspy.ChatAdapter, dspy.JSONAdapter, dspy.XMLAdapter])
def test_a_prediction_with_native_tool_calls(stock):
    """The tools go out as tools, and the calls come back as calls."""
    turns = [
        [text(NOTE[stock]), call("lookup", word="cat")],
        [call("lookup", word="cat"), call("lookup", 2, word="dog", times=2)],
        [text("nothing that can be read")],
        [text("nothing that can be read")],
    ]
    stock_run, our_run = both_ways(stock, predict, turns, use_native_function_calling=True)
    assert stock_run == our_run
    found, requests, _ = our_run
    assert [tool.name for tool in requests[0].tools] == ["lookup"]
    assert "looking" in found[0]
    assert "'dog'" in found[1]


def agent(adapter):
    """Run DSPy's agent that calls tools natively."""
    answer = dspy.ReActV2("question -> answer, sure: bool", tools=[lookup])(question="what is a cat?")
    return repr(answer.toDict())


def test_an_agent_with_native_tool_calls():
    """Look a word up, fail once, then submit: every request is the same, and so is the history."""
    turns = [
        [call("lookup", word="cat")],
        [text("[[ ## next_thought ## ]]\nagain"), call("lookup", 2, wrong="cat")],
        [call("submit", 3, answer="an animal", sure=True)],
    ]
    stock_run, our_run = both_ways(dspy.ChatAdapter, agent, turns, use_native_function_calling=True)
    assert stock_run == our_run
    found, requests, _ = our_run
    assert "an animal" in found
    assert len(requests) == 3
    assert {tool.name for tool in requests[0].tools} == {"lookup", "submit"}


def react(adapter):
    """Run the agent that writes its calls as fields."""
    answer = dspy.ReAct("question -> answer", tools=[lookup])(question="what is a cat?")
    return answer.answer, answer.trajectory


def test_an_agent_that_writes_its_calls():
    """ReAct's prompts and trajectory, with an adapter that would call natively."""
    turns = [
        [text('[[ ## next_thought ## ]]\nlook\n[[ ## next_tool_name ## ]]\nlookup\n[[ ## next_tool_args ## ]]\n{"word": "cat"}')],
        [text("[[ ## next_thought ## ]]\ndone\n[[ ## next_tool_name ## ]]\nfinish\n[[ ## next_tool_args ## ]]\n{}")],
        [text("[[ ## reasoning ## ]]\nso it is\n[[ ## answer ## ]]\ncat!")],
    ]  # fmt: skip
    stock_run, our_run = both_ways(dspy.ChatAdapter, react, turns, use_native_function_calling=True)
    assert stock_run == our_run
    assert our_run[0][0] == "cat!"
    assert our_run[0][1]["observation_0"] == "cat!"
