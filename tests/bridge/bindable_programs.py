"""Programs and models to bind: they answer anything, and remember what they were asked."""

from __future__ import annotations

import threading

import dspy

from dspex.bridge import lm as bridge
from dspex.records import Completion, Price, Usage

DEMO = dspy.Example(question="2+2?", answer="4").with_inputs("question")
_FIELDS = ("reasoning", "plan", "answer")


class Echo:
    """Answers in whichever of DSPy's formats the prompt asks for, and keeps the prompts."""

    def __init__(self, name="echo"):
        self.name, self.asked = name, []

    def answer(self, prompt):
        self.asked.append(prompt)
        return Completion(written(prompt, self.name), Usage(1, 10, 5, 0.0, 0.25))

    def state(self):
        return {"name": self.name}

    @classmethod
    def from_state(cls, state):
        return cls(state["name"])

    def __deepcopy__(self, memo):
        return self


def form_of(prompt):
    """Say which adapter wrote a prompt."""
    if "Outputs will be a JSON object" in prompt.system:
        return "json"
    return "chat" if "[[ ## completed ## ]]" in prompt.system else "xml"


def written(prompt, text):
    """Write every field in the prompt's format."""
    outputs = prompt.system.partition("Your output fields are:")[2].partition("All interactions")[0]
    fields = [name for name in _FIELDS if f"`{name}`" in outputs]
    form = form_of(prompt)
    if form == "json":
        return "{" + ", ".join(f'"{name}": "{text}"' for name in fields) + "}"
    if form == "xml":
        return "".join(f"<{name}>\n{text}\n</{name}>\n" for name in fields)
    return "".join(f"[[ ## {name} ## ]]\n{text}\n\n" for name in fields) + "[[ ## completed ## ]]"


class Two(dspy.Module):
    """Plans, then answers; has settings of its own."""

    def __init__(self):
        super().__init__()
        self.plan = dspy.ChainOfThought("question -> plan")
        self.answer = dspy.Predict(dspy.Signature("question, plan -> answer: str", "Answer well."))
        self.rounds = 2
        self.tone = "kind"
        self.retriever = Retriever()
        self.seen = []
        self._hidden = "hidden"

    def forward(self, question):
        for _ in range(self.rounds - 1):
            plan = self.plan(question=question).plan
        self.seen.append(question)
        return self.answer(question=question, plan=plan)

    async def aforward(self, question):
        plan = (await self.plan.acall(question=question)).plan
        return await self.answer.acall(question=question, plan=plan)


class Retriever:
    """No module, but with a number that one may want to vary."""

    def __init__(self, k=3):
        self.k = k


class Nested(dspy.Module):
    """Holds modules in every way there is."""

    def __init__(self):
        super().__init__()
        self.inner = Two()
        self.tools = [dspy.Predict("question -> answer"), dspy.Predict("question -> answer")]
        self.routes = {"de": dspy.ChainOfThought("question -> answer")}
        self.fixed = (dspy.Predict("question -> answer"),)

    def forward(self, question):
        return self.inner(question=question)


class Locked(dspy.Module):
    """Holds what cannot be copied."""

    def __init__(self):
        super().__init__()
        self.answer = dspy.Predict("question -> answer")
        self.lock = threading.Lock()
        self.client = Client()
        self.rounds = 1

    def forward(self, question):
        return self.answer(question=question)


class Client:
    """Refuses to be copied."""

    def __init__(self):
        self.retries = 3

    def __reduce_ex__(self, protocol):
        raise TypeError("a connection cannot be copied")


def lm_of(name="echo", **settings):
    """Make a model that echoes."""
    return bridge.from_answerer(f"echo/{name}", Echo(name), Price(10, 100), **settings)


def asked_of(lm):
    """Return the prompts that a model, or a copy of it, was asked."""
    return lm._engine_spec.answerer.asked


class Careful(dspy.ChatAdapter):
    """An adapter of the user's own."""

    def format_task_description(self, signature):
        return "Be careful. " + super().format_task_description(signature)


def asked_by(program, lm, **inputs):
    """Run a program, and return how each prompt was written, and at which temperature."""
    asked_of(lm).clear()
    program(**(inputs or {"question": "?"}))
    return [(form_of(prompt), prompt.temperature) for prompt in asked_of(lm)]


WAY = {"adapter": "json", "plan.temperature": 0.9, "answer.temperature": 0.2, "rounds": 3, "retriever.k": 9}
RUNS = [("json", 0.9), ("json", 0.9), ("json", 0.2)]
