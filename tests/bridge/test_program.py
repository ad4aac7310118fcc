import dspy
import numpy as np
import pytest
from dspy.utils.exceptions import AdapterParseError

from dspex import adapters
from dspex.bridge import lm as bridge
from dspex.bridge import prices, program
from dspex.bridge.observe import Stopped
from dspex.errors import DefinitionError, RateLimitedError, UnavailableError, UnknownNameError
from dspex.records import Completion, Price, Usage

DEMO = dspy.Example(question="2+2?", answer="4").with_inputs("question")


class Own(dspy.ChatAdapter):
    """An adapter of the user's own."""


class Echo:
    """Says its own name as every field, or raises."""

    def __init__(self, name="echo", error=None, text=None):
        self.name, self.error, self.text, self.asked = name, error, text, []

    def answer(self, prompt):
        self.asked.append(prompt)
        if self.error is not None:
            raise self.error
        fields = "".join(f"[[ ## {name} ## ]]\n{self.name}\n\n" for name in ("reasoning", "draft", "answer"))
        return Completion(self.text or f"{fields}[[ ## completed ## ]]", Usage(1, 10, 5, 0.0, 0.25))

    def state(self):
        return {}

    def __deepcopy__(self, memo):
        return self


class Writer(dspy.Module):
    """Drafts, then answers; has settings of its own."""

    def __init__(self):
        super().__init__()
        self.draft = dspy.ChainOfThought("question -> draft")
        self.answer = dspy.Predict(dspy.Signature("question, draft -> answer: str", "Answer well."))
        self.rounds = 2
        self.tone = "kind"
        self._hidden = "hidden"
        self.helpers = [1, 2]

    def forward(self, question):
        draft = self.draft(question=question).draft
        for _ in range(self.rounds - 1):
            draft = self.draft(question=draft).draft
        return self.answer(question=question, draft=draft)


@pytest.fixture(autouse=True)
def own_prices(monkeypatch):
    monkeypatch.setattr(prices, "_declared", {})


def lm_of(name="echo", **settings):
    error, text = settings.pop("error", None), settings.pop("text", None)
    return bridge.from_answerer(f"echo/{name}", Echo(name, error, text), Price(10, 100), **settings)


def asked_of(lm):
    return lm._engine_spec.answerer.asked


# ── finding modules ─────────────────────────────────────────────────────────────────────────────


def test_modules_by_name_import_string_class_and_factory():
    """Whatever names a module leads to it, and `make` makes the program."""

    def careful(signature):
        return dspy.ChainOfThought(signature)

    assert program.module_class("ChainOfThought") is dspy.ChainOfThought
    assert program.module_class("dspy:Predict") is dspy.Predict
    assert program.module_class(Writer) is Writer
    assert program.module_class(careful) is careful
    made = program.make(dspy.Signature("question -> answer"), careful)
    assert isinstance(made, dspy.ChainOfThought)
    assert program.is_program(made)
    assert not program.is_program(dspy.Predict)


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        ("Predikt", UnknownNameError, "unknown DSPy module 'Predikt'; known: "),
        ("Example", UnknownNameError, "unknown DSPy module 'Example'; known: "),
        ("nowhere:X", DefinitionError, "cannot import the module 'nowhere:X': No module named 'nowhere'"),
        ("json:X", DefinitionError, "cannot import the module 'json:X': module 'json' has no attribute 'X'"),
        ("json:JSONDecoder", DefinitionError, "a module must be a dspy.Module class, got JSONDecoder"),
        (dict, DefinitionError, "a module must be a dspy.Module class, got dict"),
        (5, DefinitionError, "a module must be a dspy.Module class or a function that makes one, got 5"),
        (":X", DefinitionError, "cannot import the module ':X': "),
        (".json:X", DefinitionError, "cannot import the module '.json:X': "),
    ],
)
def test_bad_modules(value, kind, message):
    """What is no module is refused with what a module is."""
    with pytest.raises(kind) as caught:
        program.module_class(value)
    assert str(caught.value).startswith(message)


# ── looking at programs ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("make", "inputs", "outputs"),
    [
        (lambda: dspy.Predict("question, context -> answer: int"), ["question", "context"], ["answer"]),
        (lambda: dspy.ChainOfThought("question -> answer"), ["question"], ["answer"]),
        (lambda: dspy.Predict("question -> reasoning, answer"), ["question"], ["reasoning", "answer"]),
        (Writer, ["question"], ["answer"]),
    ],
    ids=["Predict", "ChainOfThought", "own reasoning", "composite"],
)
def test_signature_from_outside(make, inputs, outputs, caplog):
    """A program is called with its inputs and gives its last predictor's outputs; looking is silent."""
    made = make()
    found = program.signature_of(made)
    assert (list(found.input_fields), list(found.output_fields)) == (inputs, outputs)
    assert program.input_names(made) == inputs
    assert caplog.records == []


def test_signature_keeps_types_and_instructions():
    """Types and instructions are those of the predictors."""
    found = program.signature_of(dspy.ChainOfThought(dspy.Signature("n: int -> sure: float", "Be sure.")))
    assert (found.instructions, found.input_fields["n"].annotation) == ("Be sure.", int)
    assert found.output_fields["sure"].annotation is float
    assert program.signature_of(Writer()).instructions == "Answer well."


def test_parameters_with_a_default_are_not_demanded():
    """A parameter that `forward` can do without is no input that every example must have."""

    class Optional(dspy.Module):
        def __init__(self):
            super().__init__()
            self.ask = dspy.Predict("question -> answer")

        def forward(self, question, n=3, *, tone="kind"):
            return self.ask(question=question)

    assert program.input_names(Optional()) == ["question"]


def test_programs_that_take_any_keyword_know_their_inputs():
    """DSPy's own modules that pass their inputs on are called with their signature's inputs."""
    react = dspy.ReAct("question, context -> answer", tools=[])
    assert program.input_names(react) == ["question", "context"]
    assert list(program.signature_of(react).output_fields) == ["answer"]


def test_a_program_without_predictors_is_refused():
    """There is nothing to run or to vary in it."""
    with pytest.raises(
        DefinitionError, match="Module holds no predictor, so there is nothing to run or to vary"
    ):
        program.signature_of(dspy.Module())


def test_models_of():
    """The models that predictors are tied to are told by name, each once."""
    made = Writer()
    assert program.models_of(made) == []
    made.set_lm(lm_of("b"))
    assert program.models_of(made) == ["echo/b"]
    made.answer.lm = lm_of("a")
    assert program.models_of(made) == ["echo/a", "echo/b"]


def test_text_key_follows_what_is_said():
    """Instructions, fields, demos and the class change the key; a copy and the model do not."""
    made = dspy.Predict("question -> answer")
    key = program.text_key(made)
    assert program.text_key(made.deepcopy()) == key
    with_model = made.deepcopy()
    with_model.lm = lm_of()
    assert program.text_key(with_model) == key
    with_demo = made.deepcopy()
    with_demo.demos = [DEMO]
    others = [
        with_demo,
        dspy.Predict("question -> answers"),
        dspy.Predict(dspy.Signature("question -> answer", "Be brief.")),
        dspy.ChainOfThought("question -> answer"),
    ]
    assert len({key, *(program.text_key(each) for each in others)}) == 5


# ── running ─────────────────────────────────────────────────────────────────────────────────────


def test_a_run_says_what_it_took():
    """The output's fields, the calls, tokens, dollars and seconds are in the outcome."""
    prediction, outcome = program.run(Writer(), {"question": "?"}, lm_of())
    assert prediction.answer == "echo"
    assert outcome.ok
    assert outcome.output == {"answer": "echo"}
    assert outcome.usage == Usage(3, 30, 15, pytest.approx(3 * (10 * 10 + 5 * 100) / 1e6), 0.75)


def test_a_program_that_returns_something_else():
    """What is no prediction is kept as the field "output"."""

    class Count(dspy.Module):
        def forward(self, text):
            return len(text)

    assert program.run(Count(), {"text": "abc"}, lm_of())[1].output == {"output": 3}


@pytest.mark.parametrize(
    ("error", "described"),
    [
        (
            RateLimitedError("slow down", retry_after_s=2),
            "RateLimitedError: echo/echo asks to be called again later: slow down",
        ),
        (UnavailableError("it is down"), "UnavailableError: echo/echo is not available: it is down"),
    ],
)
def test_model_failures_become_outcomes(error, described):
    """A model that fails leaves an outcome that names the trouble in one line, and its traceback."""
    prediction, outcome = program.run(
        dspy.Predict("question -> answer"), {"question": "?"}, lm_of(error=error)
    )
    assert prediction is None
    assert (outcome.ok, outcome.output, outcome.usage.calls) == (False, None, 0)
    assert outcome.error.startswith(described)
    assert "\n" not in outcome.error
    assert outcome.traceback.startswith("Traceback (most recent call last):")
    assert error.message in outcome.traceback


def test_an_unreadable_answer_is_an_outcome_that_was_paid_for():
    """An answer in no known form fails, but its calls count."""
    _, outcome = program.run(
        dspy.Predict("question -> answer: int"), {"question": "?"}, lm_of(text="no idea")
    )
    assert outcome.error.startswith(AdapterParseError.__name__)
    assert len(outcome.error) <= 500
    assert outcome.usage.calls >= 1


def test_bugs_pass_through():
    """What is no model's failure is a bug, and is raised as it is."""

    class Buggy(dspy.Module):
        def forward(self, question):
            return 1 / 0

    with pytest.raises(ZeroDivisionError):
        program.run(Buggy(), {"question": "?"}, lm_of())
    _, outcome = program.run(
        Buggy(), {"question": "?"}, lm_of(), failures=(*program.MODEL_FAILURES, ZeroDivisionError)
    )
    assert outcome.error == "ZeroDivisionError: division by zero"


def test_a_run_can_be_stopped():
    """When `stop` says yes after a call, the run ends there."""
    lm = lm_of()
    with pytest.raises(Stopped):
        program.run(Writer(), {"question": "?"}, lm, stop=lambda: len(asked_of(lm)) == 1)
    assert len(asked_of(lm)) == 1


def test_a_predictors_own_model_comes_first():
    """The given model serves predictors without one of their own."""
    made, own, given = Writer(), lm_of("own"), lm_of("given")
    made.answer.lm = own
    program.run(made, {"question": "?"}, given)
    assert (len(asked_of(own)), len(asked_of(given))) == (1, 2)


# ── scoring ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, 1.0),
        (False, 0.0),
        (0.25, 0.25),
        (3, 3.0),
        (np.float32(0.5), 0.5),
        (np.bool_(True), 1.0),
        (dspy.Prediction(score=0.75, feedback="good"), 0.75),
    ],
)
def test_metrics_return_numbers(value, expected):
    """Numbers, truth values, and GEPA's predictions with a score are scores."""
    assert program.score(lambda example, prediction: value, DEMO, dspy.Prediction()) == (expected, None)
    assert program.number(lambda example, prediction: value, DEMO, dspy.Prediction(), lm_of()) == expected


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "a metric must return a number or a bool, judge returned None"),
        ("0.5", "a metric must return a number or a bool, judge returned '0.5'"),
        (float("nan"), "a metric must return a number"),
        (float("inf"), "a metric must return a number"),
        ([0.5], "a metric must return a number"),
        ({"score": 1}, "a metric must return a number"),
    ],
)
def test_what_is_no_number_is_refused(value, message):
    """Tried out, such a metric is a definition's error; within a study, it scores 0 and says why."""

    def judge(example, prediction):
        return value

    with pytest.raises(DefinitionError) as caught:
        program.number(judge, DEMO, dspy.Prediction(), lm_of())
    assert str(caught.value).startswith(message)
    score, trace = program.score(judge, DEMO, dspy.Prediction())
    assert score == 0.0
    assert message in trace


def test_a_metric_that_raises_is_a_data_point():
    """It scores 0 and leaves its traceback; tried out, it raises as it is."""

    def judge(example, prediction):
        return prediction.nothing

    score, trace = program.score(judge, DEMO, dspy.Prediction(answer="4"))
    assert score == 0.0
    assert trace.startswith("Traceback (most recent call last):")
    assert "in judge" in trace
    with pytest.raises(AttributeError):
        program.number(judge, DEMO, dspy.Prediction(answer="4"), lm_of())


def test_ideal_prediction():
    """The labels stand for the answer, and outputs without a label are empty."""
    ideal = program.ideal_prediction(DEMO, ["reasoning", "answer"])
    assert dict(ideal.items()) == {"reasoning": "", "answer": "4"}


@pytest.mark.parametrize(
    ("configured", "in_force"),
    [(None, adapters.ChatAdapter), (dspy.JSONAdapter(), adapters.JSONAdapter), (Own(), Own)],
    ids=["none", "json", "own"],
)
def test_a_run_writes_through_the_compiled_twin_of_the_adapter_in_force(configured, in_force):
    """DSPy's own adapters are stood in for; one of the user's is left alone."""
    seen = []

    class Looking(dspy.Module):
        def forward(self):
            seen.append(type(dspy.settings.adapter))
            return dspy.Prediction()

    with dspy.context(adapter=configured):
        program.run(Looking(), {}, lm_of())
    assert seen == [in_force]


@pytest.mark.filterwarnings("ignore:ProgramOfThought is deprecated:DeprecationWarning")
@pytest.mark.parametrize("name", program.module_names())
def test_every_module_that_is_offered_can_be_made_of_a_signature(name):
    """What Tab offers as a module is one of DSPy's, and needs nothing else."""
    made = program.make(dspy.Signature("question -> answer"), name)
    assert type(made) is getattr(dspy, name)
