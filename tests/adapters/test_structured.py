"""The structured adapter: schemas from signatures, one correction, and ways that are refused once."""

import pydantic
import pytest

import dspex as dx
from dspex.adapters.structured import StructuredAdapter
from dspex.errors import ModelNotFoundError, SchemaRefusedError, UnknownNameError, UnreadableAnswerError

from .test_direct import Said

TASK = "question -> answer: int, confidence: probability"
GOOD = '{"answer": 7, "confidence": 0.5}'


class Person(pydantic.BaseModel):
    name: str
    age: int | None = None


def asking(*texts, **settings):
    client = Said(*texts)
    return StructuredAdapter(client, **settings), client


def test_the_schema_is_the_signatures():
    """Every output is in the schema with its type, bounds and description; each object is closed and complete."""
    adapter, client = asking('{"person": {"name": "Ann", "age": null}, "score": 0.5}')
    task = dx.signature(
        'text -> person: Person "who it is about", score: probability', types={"Person": Person}
    )
    answer = adapter.generate(task, text="Ann wrote.")
    assert answer["person"] == Person(name="Ann")
    schema = client.prompts[0].response_schema
    assert schema["required"] == ["person", "score"]
    assert schema["additionalProperties"] is False
    assert schema["$defs"]["Person"]["required"] == ["name", "age"]
    assert schema["properties"]["score"]["maximum"] == 1.0
    assert "who it is about" in str(schema["properties"]["person"])


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("nonsense", "Invalid JSON"),
        ('{"answer": "x", "confidence": 0.5}', "answer: Input should be a valid integer"),
        ('{"answer": 7}', "confidence: Field required"),
        ('{"answer": 7, "confidence": 2}', "confidence"),
    ],
)
def test_what_is_wrong_is_sent_back_once(bad, reason):
    """The model gets its answer back with every reason; both calls are counted."""
    adapter, client = asking(bad, GOOD)
    answer = adapter.generate(dx.signature(TASK), question="?")
    assert dict(answer.output) == {"answer": 7, "confidence": 0.5}
    assert (answer.attempts, answer.usage.calls, answer.usage.tokens_in) == (2, 2, 20)
    said = client.prompts[1].messages
    assert said[1] == ("assistant", bad)
    assert reason in said[2][1]


def test_twice_wrong_is_an_error():
    """After one correction nothing is asked again."""
    adapter, client = asking("no", "never", GOOD)
    with pytest.raises(UnreadableAnswerError, match="never"):
        adapter.generate(dx.signature(TASK), question="?")
    assert len(client.prompts) == 2


def test_a_way_that_is_refused_is_not_tried_again():
    """A provider that refuses the schema is asked by a tool, then in words, and from then on so at once."""
    refused = SchemaRefusedError("no schemas here")
    adapter, client = asking(refused, refused, GOOD, GOOD)
    first = adapter.generate(dx.signature(TASK), question="?")
    second = adapter.generate(dx.signature(TASK), question="?")
    assert (first.how, second.how) == ("words", "words")
    hows = [(prompt.response_schema is not None, prompt.schema_by) for prompt in client.prompts]
    assert hows == [(True, "format"), (True, "tool"), (False, "format"), (False, "format")]


def test_what_is_wrong_otherwise_is_not_tried_in_other_ways():
    """A model that is not there is not there in words either; a way that was asked for is the only one."""
    adapter, client = asking(ModelNotFoundError("nobody"), GOOD)
    with pytest.raises(ModelNotFoundError):
        adapter.generate(dx.signature(TASK), question="?")
    adapter, client = asking(SchemaRefusedError("no"), GOOD, how="tool")
    with pytest.raises(SchemaRefusedError):
        adapter.generate(dx.signature(TASK), question="?")
    assert len(client.prompts) == 1


def test_what_was_shown_is_not_taken_back():
    """A stream whose answer breaks the schema ends with the reason: a correction would say it twice."""
    adapter, client = asking('{"answer": "x"}', GOOD)
    stream = adapter.stream(dx.signature(TASK), question="?")
    assert next(stream).text + next(stream).text == '{"answer": "x"}'
    with pytest.raises(UnreadableAnswerError, match="confidence") as caught:
        next(stream)
    assert "Answer again" not in str(caught.value)
    assert len(client.prompts) == 1


def test_a_refusal_before_the_first_piece_costs_nothing():
    """A stream tries the next way as long as nothing was shown."""
    adapter, _ = asking(SchemaRefusedError("no"), GOOD)
    chunks = list(adapter.stream(dx.signature(TASK), question="?"))
    assert chunks[-1].answer.how == "tool"


def test_unknown_ways_are_named():
    """A way that does not exist is refused when the adapter is made."""
    with pytest.raises(UnknownNameError, match="format"):
        StructuredAdapter(Said(), how="formal")


@pytest.mark.parametrize("how", ["format", "tool"])
@pytest.mark.parametrize(("wire", "path"), [("openai", "/v1"), ("anthropic", "/v1"), ("gemini", "/v1beta")])
def test_choices_are_read_on_every_wire(server, wire, path, how):
    """An answer that is one of several is read whole and in pieces, however the form was asked for."""
    triage = dx.sandbox.task("triage")
    task = dx.signature(triage.signature, triage.instructions)
    base = server.url.removesuffix("/v1") + path
    adapter = dx.adapters.structured(f"{wire}/large", api_base=base, api_key="any", how=how)
    message, labels = triage.dev[0].message, {each.label for each in triage.dev}
    with adapter:
        assert adapter.generate(task, message=message)["label"] in labels
        *_, last = adapter.stream(task, message=message)
        assert last.answer["label"] in labels
