"""The drop-ins among the rest of DSPy: whatever it does with an adapter, it does with these."""

from __future__ import annotations

import asyncio
import gc
import pickle
import threading

import dspy
import pytest
from dspy.utils.callback import BaseCallback
from dspy.utils.exceptions import AdapterParseError

import dspex as dx
from dspex.adapters import ChatAdapter, JSONAdapter, XMLAdapter, fallbacks
from dspex.bridge import lm as lm_bridge
from dspex.bridge.compiled.accelerate import twin
from dspex.bridge.compiled.chat import ChatPlan
from dspex.bridge.compiled.plans import Plans
from dspex.errors import DefinitionError
from dspex.records import Completion, Price, Usage

PAIRS = [(dspy.ChatAdapter, ChatAdapter), (dspy.JSONAdapter, JSONAdapter), (dspy.XMLAdapter, XMLAdapter)]


class Scripted:
    """Answers with the texts it was given, the last one for ever."""

    def __init__(self, *texts):
        self.texts = list(texts)
        self.prompts = []

    def answer(self, prompt):
        self.prompts.append(prompt)
        text = self.texts.pop(0) if len(self.texts) > 1 else self.texts[0]
        return Completion(text, Usage(calls=1, tokens_in=1, tokens_out=1))

    def state(self):
        return {}

    @classmethod
    def from_state(cls, state):
        return cls("")


def scripted(*texts, name="scripted/one"):
    """Make an LM of a script."""
    return lm_bridge.from_answerer(name, Scripted(*texts), Price(0.0, 0.0))


class Counting(BaseCallback):
    """Writes down every event of an adapter."""

    def __init__(self):
        self.events = []

    def on_adapter_format_start(self, call_id, instance, inputs):
        self.events.append(("format", sorted(inputs)))

    def on_adapter_format_end(self, call_id, outputs, exception):
        self.events.append(("formatted", outputs, repr(exception)))

    def on_adapter_parse_start(self, call_id, instance, inputs):
        self.events.append(("parse", sorted(inputs)))

    def on_adapter_parse_end(self, call_id, outputs, exception):
        self.events.append(("parsed", outputs, repr(exception)))


@pytest.fixture
def qa():
    return dspy.Signature("question -> answer")


def test_a_changed_signature_is_noticed(qa):
    """New instructions and new descriptions, set in place as optimizers and loading do, are in the next message."""
    ours, stock = ChatAdapter(), dspy.ChatAdapter()
    ours.format(qa, [], {"question": "q"})
    qa.instructions = "Answer in French."
    assert "French" in ours.format(qa, [], {"question": "q"})[0]["content"]
    qa.fields["answer"].json_schema_extra["desc"] = "one word"
    assert "one word" in ours.format(qa, [], {"question": "q"})[0]["content"]
    qa.fields["answer"].json_schema_extra = {**qa.fields["answer"].json_schema_extra, "desc": "two words"}
    assert "two words" in ours.format(qa, [], {"question": "q"})[0]["content"]
    qa.fields["answer"].annotation = int
    assert ours.parse(qa, "[[ ## answer ## ]]\n7") == {"answer": 7}
    assert ours.format(qa, [], {"question": "q"}) == stock.format(qa, [], {"question": "q"})


def test_a_loaded_program_says_what_was_saved(qa):
    """Loading a state changes descriptions in place, and the adapter follows."""
    program, other = dspy.Predict(qa), dspy.Predict(qa.with_instructions("Other."))
    state = other.dump_state()
    state["signature"]["fields"][1]["description"] = "loaded"
    ours = ChatAdapter()
    ours.format(program.signature, [], {"question": "q"})
    program.load_state(state)
    said = ours.format(program.signature, [], {"question": "q"})[0]["content"]
    assert "Other." in said
    assert "loaded" in said


def test_plans_are_bounded_and_die_with_their_class():
    """Classes made by the hundred neither pile up nor stay alive."""
    plans = Plans(ChatPlan, limit=8)
    for k in range(40):
        plans.find(dspy.Signature(f"question{k} -> answer"))
    assert len(plans.entries) <= 8
    assert len(plans._shared) <= 8
    gc.collect()
    assert not plans.entries


def test_classes_that_say_the_same_share_a_plan(qa):
    """A class derived anew for each call costs no new plan, and one that differs gets its own."""
    plans = Plans(ChatPlan)
    again = dspy.Signature("question -> answer")
    assert plans.find(qa) is plans.find(again)
    assert plans.find(qa) is not plans.find(again.with_instructions("Other."))
    one, two = dspy.Signature("a: int | str -> b"), dspy.Signature("a: str | int -> b")
    assert plans.find(one) is not plans.find(two)


@pytest.mark.parametrize(("stock", "ours"), PAIRS)
def test_a_changed_demo_is_noticed(qa, stock, ours):
    """Remembered demos are looked at again at every call, down into their lists."""
    typed = dspy.Signature("question, tags: list[str], n: int -> answer: dict[str, list[int]]")
    demos = [
        dspy.Example(question=f"q{k}", tags=["a"], n=1, answer={"x": [k]}).with_inputs("question")
        for k in range(3)
    ]
    inputs = {"question": "q", "tags": [], "n": 2}
    adapter, peer = ours(), stock()
    changes = [
        lambda: demos[1].__setitem__("question", "new"),
        lambda: demos[0]["tags"].append("b"),
        lambda: demos[2]["answer"]["x"].append(9),
        lambda: demos[0].__setitem__("n", True),
        lambda: demos[0].__setitem__("n", 1.0),
        lambda: demos[0].__delitem__("answer"),
        demos.reverse,
        lambda: demos.append({"question": "plain", "tags": ["t"], "n": 0, "answer": {}}),
        demos.pop,
    ]
    for change in [lambda: None, *changes]:
        change()
        for _ in range(3):
            found = adapter.format(typed, demos, inputs)
            assert found == peer.format(typed, demos, inputs)
            found[1]["content"] = "spoilt by its receiver"


@pytest.mark.parametrize(("stock", "ours"), PAIRS)
def test_callbacks_hear_what_they_hear_from_dspy(qa, stock, ours):
    """As many events, with the same content, globally or on the adapter, for subclasses too."""
    heard = []
    for base in (stock, ours):
        for make in (base, type("Sub", (base,), {}), type("SubSub", (type("Sub", (base,), {}),), {})):
            on_adapter, everywhere = Counting(), Counting()
            adapter = make(callbacks=[on_adapter])
            with dspy.context(callbacks=[everywhere]):
                messages = adapter.format(qa, [], {"question": "q"})
                text = stock().format_assistant_message_content(qa, {"answer": "a"})
                adapter.parse(signature=qa, completion=text)
                with pytest.raises(AdapterParseError):
                    adapter.parse(qa, "<nothing")
            heard.append((messages, on_adapter.events, everywhere.events))
    assert heard[:3] == heard[3:]


def test_a_subclass_with_texts_of_its_own_is_respected(qa):
    """Overriding any hook, in a subclass, a mixin or on the instance, does what it does on DSPy's adapter."""

    class Hints:
        def user_message_output_requirements(self, signature):
            return "Be kind."

    def loud(self, signature):
        return "SHOUT"

    made = []
    for base in (dspy.ChatAdapter, ChatAdapter):
        on_instance = base()
        on_instance.format_task_description = lambda signature: "mine"
        adapters = [
            type("Mixed", (Hints, base), {})(),
            type("Loud", (base,), {"format_system_message": loud})(),
            on_instance,
        ]
        made.append([adapter.format(qa, [], {"question": "q"}) for adapter in adapters])
    assert made[0] == made[1]
    assert made[1][0][1]["content"].endswith("Be kind.")
    assert made[1][1][0]["content"] == "SHOUT"
    assert made[1][2][0]["content"].endswith("mine")


@pytest.mark.parametrize(("stock", "ours"), PAIRS)
def test_odd_arguments_fail_or_pass_as_in_dspy(qa, stock, ours):
    """No demos at all, a generator of demos, inputs that are an example, and no completion."""
    demo = dspy.Example(question="a", answer="b")
    calls = [
        lambda adapter: adapter.format(qa, None, {"question": "q"}),
        lambda adapter: adapter.format(qa, (demo,), {"question": "q"}),
        lambda adapter: adapter.format(qa, (each for each in [demo]), {"question": "q"}),
        lambda adapter: adapter.format(signature=qa, demos=[], inputs=dspy.Example(question="q")),
        lambda adapter: adapter.format(qa, ["text"], {"question": "q"}),
        lambda adapter: adapter.format("question -> answer", [], {}),
        lambda adapter: adapter.parse(qa, None),
    ]
    for call in calls:
        said = []
        for adapter in (stock(), ours()):
            try:
                said.append(call(adapter))
            except Exception as error:
                said.append((type(error), str(error)))
        assert said[0] == said[1]


def test_a_subclass_may_make_itself_without_dspys_init(qa):
    """It has no callbacks then, as in DSPy."""

    class Bare(ChatAdapter):
        def __init__(self):
            pass

        def parse(self, signature, completion):
            return super().parse(signature, completion.lower())

    assert Bare().parse(qa, "[[ ## ANSWER ## ]]\nYES") == {"answer": "yes"}


def test_another_dspy_runs_its_own_code(qa, monkeypatch):
    """A version whose texts were not compared gets none of ours."""
    ChatAdapter.plans.clear()
    monkeypatch.setattr(dspy, "__version__", "3.4.2")
    assert ChatAdapter().format(qa, [], {"question": "q"}) == dspy.ChatAdapter().format(
        qa, [], {"question": "q"}
    )
    assert ChatAdapter().parse(qa, "[[ ## answer ## ]]\nyes") == {"answer": "yes"}
    assert not ChatAdapter.plans.entries


def test_adapters_pickle_and_take_dspys_options():
    """They are made, copied and shipped like DSPy's."""
    for _, ours in PAIRS:
        assert type(pickle.loads(pickle.dumps(ours()))) is ours  # noqa: S301  # our own bytes
        assert isinstance(ours(use_native_function_calling=True), dspy.Adapter)
    assert ChatAdapter(use_json_adapter_fallback=False).use_json_adapter_fallback is False


def test_a_whole_prediction_leaves_the_same_history():
    """Messages, outputs and the retry as JSON after an unreadable answer are DSPy's, call by call."""

    class Order(dspy.Signature):
        """Read the order."""

        text: str = dspy.InputField()
        items: list[str] = dspy.OutputField()
        price: float = dspy.OutputField(desc="in dollars")

    script = [
        "no fields here",
        '{"items": ["lamp"], "price": "3.5"}',
        "[[ ## items ## ]]\n[]\n[[ ## price ## ]]\n1",
    ]
    runs = []
    for adapter in (None, ChatAdapter()):
        lm = scripted(*script)
        with dspy.context(lm=lm, adapter=adapter):
            program = dspy.Predict(Order)
            answers = [program(text="a lamp").toDict(), program(text="nothing").toDict()]
        runs.append((answers, [(entry["messages"], entry["outputs"]) for entry in lm.history]))
    assert runs[0] == runs[1]
    assert len(runs[0][1]) == 3


class Conversation(dspy.Signature):
    """Talk."""

    question: str = dspy.InputField()
    history: dspy.History = dspy.InputField()
    answer: str = dspy.OutputField()


@pytest.mark.parametrize(("stock", "ours"), PAIRS)
def test_a_conversation_is_written_the_same(stock, ours):
    """Turns come before the question, and no class is made for each call."""
    history = dspy.History(messages=[{"question": "a", "answer": "b"}, {"question": "c"}])
    demos = [dspy.Example(question="x", history=dspy.History(messages=[]), answer="y")]
    inputs = {"question": "now", "history": history}
    adapter = ours()
    for _ in range(3):
        assert adapter.format(Conversation, demos, inputs) == stock().format(Conversation, demos, inputs)
    kept = adapter.plans.entry(Conversation).without_history
    assert (list(kept.input_fields), list(kept.output_fields)) == (["question"], ["answer"])
    assert "history" in inputs


def test_an_agent_with_tools_runs_the_same():
    """ReAct's tools and trajectory, with and without native calling, give the same prompts."""

    def lookup(word: str) -> str:
        """Look a word up."""
        return f"{word}!"

    steps = [
        '[[ ## next_thought ## ]]\nlook\n[[ ## next_tool_name ## ]]\nlookup\n[[ ## next_tool_args ## ]]\n{"word": "a"}',
        "[[ ## next_thought ## ]]\ndone\n[[ ## next_tool_name ## ]]\nfinish\n[[ ## next_tool_args ## ]]\n{}",
        "[[ ## reasoning ## ]]\nbecause it is so\n[[ ## answer ## ]]\na!",
    ]
    runs = []
    for adapter in (dspy.ChatAdapter(), ChatAdapter()):
        lm = scripted(*steps)
        with dspy.context(lm=lm, adapter=adapter):
            answer = dspy.ReAct("question -> answer", tools=[lookup])(question="q")
        runs.append((answer.answer, answer.trajectory, [entry["messages"] for entry in lm.history]))
    assert runs[0] == runs[1]


def test_reasoning_in_prose_is_read_without_a_search():
    """ChainOfThought's thoughts are what was written, whether they look like data or not."""
    cot = dspy.ChainOfThought("question -> answer").predict.signature
    for thought in [
        "It is so",
        "it's (so)",
        '"quoted"',
        "42",
        '{"content": "x"}',
        "a: b",
        "None",
        "",
        "1, 2",
        "not " * 90,
    ]:
        text = f"[[ ## reasoning ## ]]\n{thought}\n[[ ## answer ## ]]\na"
        assert ChatAdapter().parse(cot, text) == dspy.ChatAdapter().parse(cot, text), thought


class Capable:
    """What JSONAdapter asks of a model."""

    supported_params = frozenset({"response_format"})
    supports_response_schema = True
    supports_function_calling = False


def test_a_response_schema_is_asked_for_as_dspy_does():
    """The same schema, made once; a receiver that changes it spoils only its own copy."""
    typed = dspy.Signature("q -> a: list[int], b: float")
    schemas = []
    for adapter in (dspy.JSONAdapter(), JSONAdapter(), JSONAdapter()):
        settings = {}
        adapter._prepare_response_format(Capable(), settings, typed)
        schema = settings["response_format"].model_json_schema()
        schemas.append(repr(schema))
        schema.clear()
    assert schemas[0] == schemas[1] == schemas[2]
    settings = {}
    JSONAdapter()._prepare_response_format(Capable(), settings, dspy.Signature("q -> a: dict[str, int]"))
    assert settings == {"response_format": {"type": "json_object"}}


def test_refine_subclasses_the_adapter_it_finds():
    """Refine makes a subclass of the adapter in force and calls it without arguments."""
    runs = []
    for adapter in (dspy.ChatAdapter(), ChatAdapter()):
        lm = scripted(
            "[[ ## answer ## ]]\nno",
            '[[ ## discussion ## ]]\nd\n[[ ## advice ## ]]\n{"self": "try"}',
            "[[ ## answer ## ]]\nyes",
        )
        with dspy.context(lm=lm, adapter=adapter):
            refine = dspy.Refine(dspy.Predict("question -> answer"), N=2, reward_fn=_reward, threshold=1.0)
            answer = refine(question="q").answer
        runs.append((answer, [entry["messages"] for entry in lm.history]))
    assert runs[0] == runs[1]
    assert runs[0][0] == "yes"


def _reward(args, prediction):
    return float(prediction.answer == "yes")


@pytest.mark.parametrize(("stock", "ours"), PAIRS)
def test_streaming_finds_its_field(stock, ours):
    """A listener knows the adapter by its name and hands out the same pieces."""
    text = stock().format_assistant_message_content(
        dspy.Signature("question -> answer"), {"answer": "one two three four"}
    )

    async def pieces(adapter):
        with dspy.context(lm=scripted(text), adapter=adapter):
            listener = dspy.streaming.StreamListener(signature_field_name="answer")
            run = dspy.streamify(dspy.Predict("question -> answer"), stream_listeners=[listener])
            return [
                each.chunk if hasattr(each, "chunk") else each.toDict() async for each in run(question="q")
            ]

    found = asyncio.run(pieces(ours()))
    assert found == asyncio.run(pieces(stock()))
    assert found[-1] == {"answer": "one two three four"}


@pytest.fixture
def default_adapter():
    dspy.configure(adapter=None)
    yield
    dspy.configure(adapter=None)


@pytest.mark.usefixtures("default_adapter")
def test_accelerate_switches_over_and_back():
    """The twin has the same options; doing it twice is doing it once; undoing restores what was."""
    chosen = dspy.JSONAdapter(use_native_function_calling=False, callbacks=[Counting()])
    dspy.configure(adapter=chosen)
    handle = dx.accelerate()
    assert type(dspy.settings.adapter) is JSONAdapter
    assert vars(dspy.settings.adapter) == vars(chosen)
    again = dx.accelerate()
    assert repr(again) == "Acceleration(JSONAdapter, inactive)"
    again.undo()
    assert handle.is_active
    handle.undo()
    assert dspy.settings.adapter is chosen
    with dx.accelerate():
        assert type(dspy.settings.adapter) is JSONAdapter
    assert dspy.settings.adapter is chosen


@pytest.mark.usefixtures("default_adapter")
def test_undoing_respects_a_later_choice():
    """An adapter configured meanwhile stays."""
    handle = dx.accelerate()
    later = dspy.XMLAdapter()
    dspy.configure(adapter=later)
    handle.undo()
    assert dspy.settings.adapter is later


def test_accelerated_holds_for_its_block():
    """Within a context it is the way, and afterwards all is as it was."""
    own = type("Own", (dspy.ChatAdapter,), {})()
    with dspy.context(adapter=own), dx.accelerated() as adapter:
        assert adapter is own
        assert twin(own) is own
    with dx.accelerated() as adapter:
        assert type(adapter) is ChatAdapter
        assert dspy.settings.adapter is adapter
        with pytest.raises(DefinitionError, match="accelerated"):
            dx.accelerate()
    assert dspy.settings.adapter is not adapter


@pytest.mark.usefixtures("default_adapter")
def test_another_thread_is_told_the_way():
    """Where DSPy refuses to be configured, the error names the block that works."""
    dspy.configure(adapter=None)
    said = []

    def work():
        try:
            dx.accelerate()
        except DefinitionError as error:
            said.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert "accelerated" in said[0]


def _optimized(optimizer, adapter):
    task = dx.sandbox.task("triage")
    lm = dx.sandbox.lm("small")
    with dspy.context(lm=lm, adapter=adapter):
        program = dspy.Predict(dspy.Signature(task.signature, task.instructions))
        if optimizer == "gepa":
            made = dspy.GEPA(
                metric=lambda gold, pred, trace=None, name=None, step=None: dspy.Prediction(score=task.feedback(gold, pred)[0], feedback=task.feedback(gold, pred)[1]),
                max_metric_calls=30, reflection_lm=lm, num_threads=1, seed=0,
            ).compile(program, trainset=task.train[:6], valset=task.dev[:6])  # fmt: skip
        else:
            made = dspy.MIPROv2(
                metric=task.metric, auto=None, num_candidates=2, max_bootstrapped_demos=1, max_labeled_demos=1,
                num_threads=1, prompt_model=lm, task_model=lm,
            ).compile(program, trainset=task.train[:8], valset=task.dev[:6], num_trials=2, minibatch=False)  # fmt: skip
    return made.dump_state()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("optimizer", ["mipro", "gepa"])
def test_optimizers_find_the_same_program(optimizer):
    """A whole search, every prompt of it, goes the same way."""
    assert _optimized(optimizer, ChatAdapter()) == _optimized(optimizer, dspy.ChatAdapter())


def test_the_benchmark_names_its_peers(monkeypatch, capsys):
    """Each case is printed beside DSPy and beside DSPy with its types cached."""
    from dspex.bench import native

    monkeypatch.setattr(native, "_REPEATS", 2)
    monkeypatch.setattr(native, "_DEMOS", (0, 2))
    native.run()
    first, *lines = capsys.readouterr().out.splitlines()
    assert first.endswith(dx.adapters.path())
    assert len(lines) == 2 * 3 * 2 + 2 * 3 + 6 + 3
    assert all("DSPy " in line and "cached " in line and "dspex " in line for line in lines)


def test_what_dspy_took_over_is_counted_with_its_reason():
    """A fallback is visible: once for what no plan is proven for, once for what cannot be read."""
    adapter, signature = ChatAdapter(), dspy.Signature("question -> answer")
    before = fallbacks()
    adapter.format(signature, iter([]), {"question": "?"})
    with pytest.raises(AdapterParseError):
        adapter.parse(signature, "no header at all")
    adapter.format(signature, [], {"question": "?"})
    taken = {key: count - before.get(key, 0) for key, count in fallbacks().items()}
    assert taken["ChatAdapter.format: not proven"] == 1
    assert sum(count for key, count in taken.items() if key.startswith("ChatAdapter.parse")) == 1
