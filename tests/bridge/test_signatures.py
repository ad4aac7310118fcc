import pickle
from typing import Annotated, Any, Literal

import cloudpickle
import dspy
import pytest
from annotated_types import Ge, Le

from dspex.bridge import signatures
from dspex.errors import DefinitionError
from dspex.native.signature import signature
from dspex.records import MISSING, Field

FIELDS = (
    Field("question", "input", str, "str", "what is asked"),
    Field("limit", "input", int, "int"),
    Field("answer", "output", Literal["a", "b"], "Literal['a', 'b']"),
    Field("sure", "output", Annotated[float, Ge(0), Le(1)], "float", "how sure, {0..1}", 0.5),
    Field("notes", "output", list[str], "list", None, MISSING, "My notes:"),
)


def bare_name(annotation):
    return str(annotation).replace("typing.", "") if "Literal" in str(annotation) else bare(annotation)


def bare(annotation):
    return getattr(annotation, "__origin__", annotation).__name__


def test_there_and_back_without_loss():
    """Name, instructions, roles, types, constraints and descriptions survive both ways."""
    made = signatures.to_class("QA", "Be brief.", FIELDS)
    assert issubclass(made, dspy.Signature)
    assert list(made.input_fields) == ["question", "limit"]
    assert list(made.output_fields) == ["answer", "sure", "notes"]
    assert signatures.from_class(made, bare_name) == ("QA", "Be brief.", FIELDS)


def test_placeholder_is_no_description():
    """DSPy writes "${name}" where no description was given; that is not taken for one."""
    _, _, fields = signatures.from_class(dspy.Signature("question -> answer"))
    assert [field.description for field in fields] == [None, None]


def test_constraints_of_a_class_are_kept():
    """What pydantic keeps beside the type comes back to it."""

    class Rated(dspy.Signature):
        """Rate it."""

        text: str = dspy.InputField()
        stars: int = dspy.OutputField(ge=1, le=5)

    _, _, fields = signatures.from_class(Rated)
    made = signatures.to_class("Rated", "Rate it.", fields)
    assert made.output_fields["stars"].metadata == Rated.output_fields["stars"].metadata == [Ge(1), Le(5)]


@pytest.mark.parametrize("value", [None, 3, "question -> answer", dspy.Predict, dspy.Example(a=1)])
def test_only_signature_classes_are_read(value):
    """Anything else is refused with what a signature is."""
    with pytest.raises(
        DefinitionError, match=r"a signature is a spec such as 'question -> answer' or a dspy.Signature"
    ):
        signatures.from_class(value)


# ── copies of a class ───────────────────────────────────────────────────────────────────────────

ADAPTERS = [dspy.ChatAdapter(), dspy.JSONAdapter(), dspy.XMLAdapter()]


def stock(name, instructions, fields):
    """Build the class as one does by hand."""
    made = {}
    for field in fields:
        kind = dspy.InputField if field.role == "input" else dspy.OutputField
        options = {"desc": field.description} if field.description else {}
        if field.default is not MISSING:
            options["default"] = field.default
        made[field.name] = (field.annotation, kind(**options))
        if field.prefix:
            made[field.name][1].json_schema_extra["prefix"] = field.prefix
        if field.name == "sure":
            made[field.name][1].json_schema_extra["constraints"] = (
                "greater than or equal to: 0, less than or equal to: 1"
            )
    return dspy.make_signature(made, instructions, name)


@pytest.mark.parametrize("instructions", ["Be brief.", "First.\n  Then\nlast.", ""])
def test_a_copy_is_what_dspy_would_have_built(instructions):
    """A class made by copying equals the one DSPy builds: fields, messages of every adapter, and parsing."""
    signatures.to_class("Other", "Something else.", FIELDS)
    made, built = signatures.to_class("QA", instructions, FIELDS), stock("QA", instructions, FIELDS)
    assert made.equals(built)
    assert built.equals(made)
    assert (made.__name__, made.signature, made.dump_state()) == (
        built.__name__,
        built.signature,
        built.dump_state(),
    )
    demos = [{"question": "?", "limit": 1, "answer": "a", "sure": 0.5, "notes": ["x"]}]
    inputs = {"question": "Why?", "limit": 2}
    answer = "[[ ## answer ## ]]\na\n\n[[ ## notes ## ]]\n[]"
    for adapter in ADAPTERS:
        assert adapter.format(made, demos, inputs) == adapter.format(built, demos, inputs)
    assert ADAPTERS[0].parse(made, answer) == ADAPTERS[0].parse(built, answer)
    assert made.model_json_schema() == built.model_json_schema()


def test_copies_do_not_touch_each_other():
    """What one class is told, such as a new description, another one made of the same fields does not hear."""
    first, second = (signatures.to_class("QA", "Be brief.", FIELDS) for _ in range(2))
    first.instructions = "Be long."
    first.fields["answer"].json_schema_extra["desc"] = "changed"
    assert second.instructions == "Be brief."
    assert second.fields["answer"].json_schema_extra["desc"] == "${answer}"


def test_a_copy_makes_instances_of_its_own():
    """Each class validates with pydantic, into its own instances, and knows them from another's."""
    first, second = (signatures.to_class(name, "Be brief.", FIELDS) for name in ("One", "Two"))
    values = {"question": "?", "limit": 1, "answer": "a", "notes": []}
    for made in (first, second):
        assert type(made.model_validate(values)) is made
    assert isinstance(first(**values), first)
    assert not isinstance(first(**values), second)
    assert isinstance(first(**values), dspy.Signature)
    with pytest.raises(ValueError, match="less than or equal to 1"):
        first(**values, sure=1.5)


def test_a_copy_travels_between_processes():
    """Cloudpickle takes a copy, and it says the same on arrival."""
    made = signatures.to_class("QA", "Be brief.", FIELDS)
    arrived = pickle.loads(cloudpickle.dumps(made))  # noqa: S301  # our own bytes
    assert arrived.equals(made)
    assert ADAPTERS[0].format(arrived, [], {"question": "?"}) == ADAPTERS[0].format(
        made, [], {"question": "?"}
    )


class Own(dspy.Signature):
    """Answer."""

    question: str = dspy.InputField(desc="what is asked")
    answers: list[int] = dspy.OutputField(default_factory=list, min_length=1)


@pytest.mark.parametrize(
    "first", ["question, limit: int = 3 -> answer: probability", Own], ids=["spec", "class"]
)
def test_generations_do_not_grow(first):
    """After 200 rounds of new instructions a class is as large as after two, and still says the same."""
    task = signature(first)
    sizes = []
    for k in range(200):
        task = task.with_instructions(f"Take {k:03}.")
        if k in (1, 199):
            sizes.append(len(cloudpickle.dumps(task.to_dspy())))
    assert sizes[0] == sizes[1]
    before = signature(first).to_dspy()
    assert task.to_dspy().equals(before.with_instructions("Take 199."))


def test_equal_defaults_of_different_types_are_kept_apart():
    """1 and True are equal for Python; each class keeps its own."""
    made = [
        signatures.to_class("S", "", [Field("a", "input", Any, "Any", None, default), Field("b", "output")])
        for default in (1, True, 1.0)
    ]
    assert [repr(each.fields["a"].default) for each in made] == ["1", "True", "1.0"]


def test_a_type_that_cannot_be_hashed_is_built_whole():
    """Where no copy can be made, the class is built as DSPy builds it."""
    odd = Annotated[int, {"not": "hashable"}]
    made = signatures.to_class("S", "Go.", [Field("a", "input", odd, "int"), Field("b", "output")])
    assert made.fields["a"].annotation is int
