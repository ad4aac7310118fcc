"""Every adapter keeps to the suite: over a real socket where it speaks HTTP, in memory where it does not."""

import pytest

import dspex as dx
from dspex import sandbox
from dspex.adapters.base import Adapter, Answer
from dspex.adapters.conformance import AdapterConformance
from dspex.records import Usage

WIRES = {"openai": "/v1", "anthropic": "/v1", "gemini": "/v1beta"}
NOBODY = "http://127.0.0.1:9/v1"


class OverSocket(AdapterConformance):
    """Asks the sandbox's server."""

    wire = "openai"
    settings = {}  # noqa: RUF012  # each class has its own

    @pytest.fixture(autouse=True)
    def at(self, server):
        self.base = server.url.removesuffix("/v1") + WIRES[self.wire]

    def made(self, base):
        raise NotImplementedError

    def make(self):
        return self.made(self.base)

    def make_failing(self):
        return self.made(NOBODY)


class Direct(OverSocket):
    def made(self, base):
        return dx.adapters.direct(f"{self.wire}/large", api_base=base, api_key="any", **self.settings)


class Structured(OverSocket):
    def made(self, base):
        return dx.adapters.structured(f"{self.wire}/large", api_base=base, api_key="any", **self.settings)

    def test_choices_and_truths_keep_their_types(self):
        """Every wire brings one of a few words, and true or false, as what they are, and not only text."""
        with self.make() as adapter:
            chosen = adapter.structured(
                dx.signature("question -> size: Literal['small', 'large']"), question="?"
            )
            assert chosen["size"] in {"small", "large"}
            decided = adapter.structured(dx.signature("question -> is_even: bool"), question="?")
            assert isinstance(decided["is_even"], bool)


class TestDirectOpenAI(Direct):
    wire = "openai"


class TestDirectAnthropic(Direct):
    wire = "anthropic"


class TestDirectGemini(Direct):
    wire = "gemini"


class TestDirectThinking(Direct):
    settings = {"module": "ChainOfThought"}  # noqa: RUF012


class TestStructuredByFormat(Structured):
    settings = {"how": "format"}  # noqa: RUF012


class TestStructuredByTool(Structured):
    settings = {"how": "tool"}  # noqa: RUF012


class TestStructuredByWords(Structured):
    settings = {"how": "words"}  # noqa: RUF012


class TestStructuredAnthropic(Structured):
    wire = "anthropic"


class TestStructuredGemini(Structured):
    wire = "gemini"


class TestStructuredGeminiByTool(Structured):
    wire = "gemini"
    settings = {"how": "tool"}  # noqa: RUF012


class TestBridged(OverSocket):
    def made(self, base):
        return dx.adapters.bridged("ChainOfThought", _lm("openai/large", base))


class TestInstructed(OverSocket):
    def made(self, base):
        pytest.importorskip("instructor")
        return dx.adapters.instructed("openai/large", api_base=base, api_key="any")


class TestDirectInProcess(AdapterConformance):
    def make(self):
        return dx.adapters.direct(sandbox.lm("large"))


class TestDirectThroughDspyLM(OverSocket):
    """A model with settings that only DSPy knows what to do with is asked by DSPy."""

    def made(self, base):
        return dx.adapters.direct(_lm("openai/large", base, top_p=0.9))


class TestScripted(AdapterConformance):
    def make(self):
        return dx.adapters.scripted(otherwise={"answer": 265, "confidence": 0.5, "text": "265"})

    def make_failing(self):
        return dx.adapters.scripted(otherwise="1", failure_rate=1.0)


class Echo(Adapter):
    """The least that an adapter can be."""

    name, model = "echo", "nobody"

    def answer(self, ask):
        if ask.signature is None:
            return Answer({"text": "1"}, "1", Usage(1), self.name, self.model)
        fields = [field for field in ask.signature.fields if field.role == "output"]
        return Answer(
            {field.name: "1" if field.annotation is str else 1 for field in fields},
            "1",
            Usage(1),
            self.name,
            self.model,
        )


class TestEcho(AdapterConformance):
    """An adapter of one's own needs nothing but `answer`."""

    def make(self):
        return Echo()


def _lm(model, base, **settings):
    import dspy

    return dspy.LM(model, api_base=base, api_key="any", cache=False, num_retries=0, **settings)
