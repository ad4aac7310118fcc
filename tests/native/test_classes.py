from typing import Annotated, Literal

import pytest
from annotated_types import Ge

import dspex as dx
from dspex.errors import DefinitionError
from dspex.native.signature import signature


@dx.signature
class Triage:
    """Sort the message.

    Refunds are escalations.
    """

    message: Annotated[str, "what the customer wrote"]
    limit: Annotated[int, Ge(1)] = 3
    label: Literal["bug", "question"] = dx.output("the queue", default="question")
    sure: "probability" = dx.output()  # noqa: F821  # a type of ours, named in quotes


def test_a_class_is_a_signature():
    """Annotations are fields, `output` marks outputs, the docstring says what to do."""
    assert Triage == signature(
        'message "what the customer wrote", limit: int >= 1 = 3 '
        "-> label: Literal['bug', 'question'] = \"question\" \"the queue\", sure: probability",
        "Sort the message.\n\nRefunds are escalations.",
        name="Triage",
    )
    assert signature(str(Triage), Triage.instructions, name="Triage") == Triage


def test_a_class_without_a_docstring_gets_dspys_sentence():
    """Options of the call count for a class as for a text."""

    class Brief:
        question: str
        answer: str = dx.output()

    assert signature(Brief).instructions == signature("question -> answer").instructions
    assert signature(Brief, "Be brief.", name="QA").instructions == "Be brief."
    assert signature(Brief, name="QA").name == "QA"


class NoOutput:
    question: str


class NoInput:
    answer: str = dx.output()


class BadName:
    copy: str
    answer: str = dx.output()


class BadDefault:
    question: str
    score: int = dx.output(default="x")


class Unknown:
    question: "Nowhere"  # noqa: F821  # the point
    answer: str = dx.output()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            NoOutput,
            (
                "NoOutput has no outputs\n"
                "  → annotate inputs as 'message: str', mark outputs as 'label: str = dx.output()'"
            ),
        ),
        (
            NoInput,
            (
                "NoInput has no inputs\n"
                "  → annotate inputs as 'message: str', mark outputs as 'label: str = dx.output()'"
            ),
        ),
        (BadName, "BadName: 'copy' is a name that DSPy's signatures use themselves"),
        (
            BadDefault,
            (
                "BadDefault.score: a default must fit its field: expected int, got 'x' (str); "
                "a text is not read as a number"
            ),
        ),
        (
            Unknown,
            (
                "Unknown names a type that cannot be found: name 'Nowhere' is not defined\n"
                "  → define it at the top of the module, or write a spec with types={...}"
            ),
        ),
    ],
)
def test_mistakes_in_a_class(given, message):
    """What is wrong with a class is said with its name and the field's."""
    with pytest.raises(DefinitionError) as caught:
        signature(given)
    assert str(caught.value) == message
