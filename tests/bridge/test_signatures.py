from typing import Annotated, Literal

import dspy
import pytest
from annotated_types import Ge, Le

from dspex.bridge import signatures
from dspex.errors import DefinitionError
from dspex.records import Field

FIELDS = (
    Field("question", "input", str, "str", "what is asked"),
    Field("limit", "input", int, "int"),
    Field("answer", "output", Literal["a", "b"], "Literal['a', 'b']"),
    Field("sure", "output", Annotated[float, Ge(0), Le(1)], "float", "how sure, {0..1}"),
)


def test_there_and_back_without_loss():
    """Name, instructions, roles, types, constraints and descriptions survive both ways."""
    made = signatures.to_class("QA", "Be brief.", FIELDS)
    assert issubclass(made, dspy.Signature)
    assert list(made.input_fields) == ["question", "limit"]
    assert list(made.output_fields) == ["answer", "sure"]
    assert signatures.from_class(made) == ("QA", "Be brief.", FIELDS)


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
