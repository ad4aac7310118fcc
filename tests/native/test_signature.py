import os
import pickle
import subprocess
import sys
from typing import Annotated, Literal

import annotated_types
import dspy
import pytest

import dspex as dx
from dspex.errors import DefinitionError, UnknownNameError, ValuesError
from dspex.native.signature import Signature, signature


class Ticket(dspy.Signature):
    """Sort the ticket."""

    message: str = dspy.InputField(desc="what the customer wrote")
    urgency: Annotated[int, annotated_types.Ge(1), annotated_types.Le(5)] = dspy.OutputField(
        desc="1 is lowest"
    )
    category: Literal["bug", "question"] = dspy.OutputField(default="question")
    tags: list[str] | None = dspy.OutputField()


def test_reads_fields_types_and_default_instructions():
    """Fields keep their order, role and type; instructions default to DSPy's own sentence."""
    task = signature("message, limit: int -> category: Literal['a', 'b'], sure: probability")
    assert (task.inputs, task.outputs) == (("message", "limit"), ("category", "sure"))
    assert [field.type_text for field in task.fields] == ["str", "int", "Literal['a', 'b']", "probability"]
    assert task.instructions == "Given the fields `message`, `limit`, produce the fields `category`, `sure`."
    assert task.instructions == dspy.Signature("message, limit: int -> category, sure: float").instructions
    assert repr(task) == "<Signature: message, limit: int -> category: Literal['a', 'b'], sure: probability>"


def test_name_instructions_and_descriptions_are_used():
    """What is said about a task reaches DSPy's class."""
    task = signature(
        "question -> answer", "Be brief.", name="QA", descriptions={"answer": "one word, no dot"}
    )
    made = task.to_dspy()
    assert (made.__name__, made.instructions) == ("QA", "Be brief.")
    assert made.output_fields["answer"].json_schema_extra["desc"] == "one word, no dot"
    assert repr(task) == "<QA: question -> answer>"


def test_class_is_made_once():
    """DSPy's class is made when it is first asked for and then kept."""
    task = signature("question -> answer")
    assert task.to_dspy() is task.to_dspy()


def test_unknown_description_names_the_nearest_field():
    """A description for a field that is not there is refused."""
    with pytest.raises(UnknownNameError) as caught:
        signature("question -> answer", descriptions={"anwser": "short"})
    assert str(caught.value) == "unknown field 'anwser'; known: answer, question\n  → did you mean 'answer'?"


def test_types_reach_dspy():
    """DSPy's class holds the very types and constraints that were written."""
    made = signature("text: str -> sure: probability, kind: Literal['a'], n: int?").to_dspy()
    assert made.output_fields["sure"].annotation is float
    assert made.output_fields["sure"].metadata == [annotated_types.Ge(0), annotated_types.Le(1)]
    assert made.output_fields["kind"].annotation == Literal["a"]
    assert made.output_fields["n"].annotation == int | None


# ── from DSPy and back ──────────────────────────────────────────────────────────────────────────


def test_dspy_class_in_and_out():
    """A DSPy class is read without loss, and it is the same class that comes out."""
    task = signature(Ticket)
    assert task.to_dspy() is Ticket
    assert (task.name, task.instructions) == ("Ticket", "Sort the ticket.")
    assert str(task) == (
        'message "what the customer wrote" -> urgency: int >= 1 <= 5 "1 is lowest", '
        "category: Literal['bug', 'question'] = \"question\", tags: list[str] | None"
    )
    assert task.fields[2].default == "question"
    assert [field.description for field in task.fields] == [
        "what the customer wrote",
        "1 is lowest",
        None,
        None,
    ]
    assert [field.role for field in task.fields] == ["input", "output", "output", "output"]
    assert task.fields[1].annotation == Annotated[int, annotated_types.Ge(1), annotated_types.Le(5)]


def test_dspy_class_made_anew_says_the_same():
    """A class that dspex makes from the record has the fields, types, constraints and words of the first one."""
    read = signature(Ticket)
    made = Signature(read.fields, read.instructions, read.name).to_dspy()
    assert made.instructions == Ticket.instructions
    for name, field in Ticket.fields.items():
        assert (made.fields[name].annotation, made.fields[name].metadata) == (
            field.annotation,
            field.metadata,
        )
        assert made.fields[name].json_schema_extra["desc"] == field.json_schema_extra["desc"]


def test_new_instructions_keep_the_rest_of_a_dspy_class():
    """Other instructions do not cost the user's class what our record does not know, such as a default."""
    made = signature(Ticket, "Sort it well.").to_dspy()
    assert made.instructions == "Sort it well."
    assert made.fields["category"].default == "question"


def test_signature_passes_through():
    """A signature given again is itself, or itself under new instructions."""
    task = signature("question -> answer")
    assert signature(task) is task
    assert signature(task, "Be brief.").instructions == "Be brief."
    assert task.instructions != "Be brief."


@pytest.mark.parametrize("given", [Ticket, signature("message -> category")], ids=["dspy", "dspex"])
@pytest.mark.parametrize(
    "option", [{"name": "Other"}, {"descriptions": {"category": "which one"}}, {"types": {"X": int}}]
)
def test_options_are_never_ignored(given, option):
    """An option beside a ready-made signature takes effect or is refused."""
    try:
        made = signature(given, **option)
    except DefinitionError:
        return
    descriptions = {field.name: field.description for field in made.fields}
    assert made.name == option.get("name", made.name)
    assert descriptions["category"] == option.get("descriptions", descriptions)["category"]
    assert "types" not in option


@pytest.mark.parametrize("given", [3, dspy.Predict, None, ["question -> answer"]])
def test_what_is_no_signature_is_refused(given):
    """The message says what a signature is."""
    with pytest.raises(DefinitionError, match=r"a signature is a spec such as 'question -> answer'"):
        signature(given)


# ── identity ────────────────────────────────────────────────────────────────────────────────────


def test_key_follows_content():
    """Fields, types, descriptions and instructions change the key; the name does not."""
    first = signature("question -> answer")
    assert signature("question->answer", name="Other").key == first.key
    others = [
        signature("question -> answers"),
        signature("question -> answer: int"),
        signature("question -> answer", "Be brief."),
        signature("question -> answer", descriptions={"answer": "short"}),
        signature("question, context -> answer"),
    ]
    assert len({first.key, *(other.key for other in others)}) == 6


@pytest.mark.process
def test_key_is_the_same_in_every_process():
    """The hash seed of a process does not reach the key."""
    code = (
        "import dspex as dx; print(dx.signature("
        "'a: list[dict[str, int]], b -> c: Literal[\"x\", \"y\"]', descriptions={'b': 'text'}).key)"
    )
    keys = {
        subprocess.run(
            [sys.executable, "-c", code],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout.strip()
        for seed in ("0", "1")
    }
    here = dx.signature('a: list[dict[str, int]], b -> c: Literal["x", "y"]', descriptions={"b": "text"})
    assert keys == {here.key}


def test_survives_pickling_also_once_used():
    """A signature is plain data, whether or not DSPy's class has been made."""
    task = signature("question -> answer: float")
    assert pickle.loads(pickle.dumps(task)) == task  # noqa: S301  # our own bytes
    task.to_dspy()
    assert pickle.loads(pickle.dumps(task)) == task  # noqa: S301  # our own bytes


# ── inputs ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {},
            "QA needs the input(s) question, context; got none\n  → call it with question=..., context=...",
        ),
        (
            {"question": "?"},
            "QA needs the input(s) context; got question\n  → call it with question=..., context=...",
        ),
        (
            {"question": "?", "context": "", "contxt": ""},
            "unknown input of QA 'contxt'; known: context, question\n  → did you mean 'context'?",
        ),
        (
            {"question": "?", "context": "", "model": "sandbox/small"},
            (
                "unknown input of QA 'model'; known: context, question\n"
                "  → how a task runs is said by pin=dx.Strategy(model, module)"
            ),
        ),
    ],
)
def test_inputs_are_checked(given, message):
    """Missing inputs are all named; an unknown one names the nearest."""
    with pytest.raises(DefinitionError) as caught:
        signature("question, context -> answer", name="QA").check_inputs(given)
    assert str(caught.value) == message


def test_right_inputs_pass():
    """Exactly the inputs are accepted, None among their values too."""
    signature("question -> answer").check_inputs({"question": None})


def test_wrong_values_are_all_named_before_anything_runs():
    """A call with values that do not fit names each of them; None stands for what is not known."""
    task = signature("age: int, sure: probability, note -> ok: bool", name="Check")
    with pytest.raises(ValuesError) as caught:
        dx.execute(task, age="3", sure=2.0, note=None)
    assert str(caught.value) == (
        "Check cannot use these inputs:\n"
        "  - input field 'age': expected int, got '3' (str); a text is not read as a number\n"
        "  - input field 'sure': expected probability (float >= 0 <= 1), got 2.0 (float)"
    )


def test_an_input_with_a_default_may_be_left_out():
    """The door lets a call through that leaves out what has a default."""
    signature("question, limit: int = 3 -> answer").check_inputs({"question": "?"})


# ── signatures made of others ───────────────────────────────────────────────────────────────────


def test_extend_adds_to_either_side():
    """More inputs and outputs are added at the end of their side; DSPy's sentence follows the fields."""
    task = signature("question -> answer")
    more = task.extend("context: list[str] -> sources: list[str] = []", sure="probability")
    assert str(more) == "question, context: list[str] -> answer, sources: list[str] = [], sure: probability"
    assert more.instructions == signature(str(more)).instructions
    assert signature(task, "Be brief.").extend("context ->").instructions == "Be brief."
    assert list(more.to_dspy().fields) == ["question", "context", "answer", "sources", "sure"]


def test_extend_refuses_a_name_that_is_taken():
    """A field that is there already is an error under a caret."""
    with pytest.raises(DefinitionError, match="every field needs its own name, 'answer' is there twice"):
        signature("question -> answer").extend("answer ->")


def test_without_takes_a_field_away():
    """A field can be taken away, but not the last of its side, nor one that is not there."""
    task = signature("question, context -> answer")
    assert str(task.without("context")) == "question -> answer"
    with pytest.raises(DefinitionError) as last:
        task.without("answer")
    assert str(last.value) == "'answer' is the last output of Signature; a signature needs one"
    with pytest.raises(UnknownNameError, match="did you mean 'context'"):
        task.without("contxt")


def test_changes_keep_what_a_dspy_class_carries():
    """A default factory and a constraint's words survive extending, shortening and new instructions."""

    class Listed(dspy.Signature):
        """List them."""

        text: str = dspy.InputField()
        extra: str = dspy.InputField()
        items: list[str] = dspy.OutputField(default_factory=list, min_length=2)

    task = signature(Listed).extend("-> sure: probability").without("extra").with_instructions("Go.")
    made = task.to_dspy()
    assert (made.__name__, made.instructions, list(made.fields)) == (
        "Listed",
        "Go.",
        ["text", "items", "sure"],
    )
    items = made.fields["items"]
    assert (items.default_factory, items.json_schema_extra) == (
        list,
        Listed.fields["items"].json_schema_extra,
    )


def test_incompatible_stages_are_refused_by_field():
    """Every input that the first stage does not make, or makes otherwise, is named."""
    first = signature("question -> answer, score: float", name="First")
    then = signature("answer: int, context, score: int, limit: int = 3 -> verdict", name="Then")
    with pytest.raises(DefinitionError) as caught:
        first.compatible_with(then)
    assert str(caught.value) == (
        "First cannot feed Then:\n"
        "  - answer: First makes str, Then takes int\n"
        "  - context: Then needs it, First has no such output\n"
        "  - score: First makes float, Then takes int\n"
        "  → the outputs are answer, score"
    )
    first.compatible_with(signature("answer, score: float -> verdict"))
