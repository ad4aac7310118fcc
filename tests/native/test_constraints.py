from typing import Annotated

import pydantic
import pytest
from annotated_types import Ge, Gt, Interval, Le, Len, MaxLen, MinLen

from dspex.native import constraints
from dspex.native.constraints import Matching
from dspex.native.signature import signature


def metadata(text):
    return constraints.split(signature(f"x: {text} -> y").fields[0].annotation)[1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("int >= 0 <= 120", (Ge(0), Le(120))),
        ("float > -1.5", (Gt(-1.5),)),
        ("float in [0, 1]", (Ge(0), Le(1))),
        ("str len 5", (MinLen(5), MaxLen(5))),
        ("str len 1..80", (MinLen(1), MaxLen(80))),
        ("list[int] len 2..", (MinLen(2),)),
        ("dict len ..9", (MaxLen(9),)),
        ('str len 3 matching "[A-Z]+"', (MinLen(3), MaxLen(3), Matching("[A-Z]+"))),
        ("probability >= 0.5", (Ge(0), Le(1), Ge(0.5))),
        ("int? >= 0", (Ge(0),)),
        ("int | float >= 0", (Ge(0),)),
    ],
)
def test_constraints_are_annotated_types(text, expected):
    """What stands after a type becomes the metadata that pydantic knows."""
    assert metadata(text) == expected


@pytest.mark.parametrize(
    ("text", "right", "wrong"),
    [
        ("int >= 0 <= 120", 120, 121),
        ("str len 2..3", "ab", "a"),
        ('str matching "[A-Z]{3}"', "ABC", "ABCD"),
        ('str? matching "[A-Z]{3}"', None, "x"),
        ("int? > 0", None, 0),
        ("embedding(2)", [1.0, 2.0], [1.0]),
        ("probability", 1.0, 1 + 1e-9),
        ("probability", 0.0, -1e-9),
        ("list[int >= 0]", [0, 1], [0, -1]),
        ("dict[str len 1..2, float in [0, 1]]", {"ab": 1.0}, {"abc": 1.0}),
        ('tuple[int > 0, str matching "[A-Z]"]', (1, "A"), (1, "a")),
    ],
)
def test_pydantic_enforces_them_through_dspys_class(text, right, wrong):
    """An instance of DSPy's class takes what fits and refuses what does not."""
    made = signature(f"x: {text} -> y").to_dspy()
    assert made(x=right, y="").x == right
    with pytest.raises(pydantic.ValidationError):
        made(x=wrong, y="")


def test_prompts_say_them():
    """DSPy's adapters show constraints in DSPy's own words, as its fields with options do."""
    made = signature('x -> age: int >= 0 <= 120, code: str matching "[A-Z]", v: embedding(3)').to_dspy()
    said = [field.json_schema_extra.get("constraints") for field in made.output_fields.values()]
    assert said == [
        "greater than or equal to: 0, less than or equal to: 120",
        "matching: [A-Z]",
        "shape: 3",
    ]


def test_groups_are_unpacked():
    """An interval or a length of annotated_types counts as its parts."""
    assert constraints.split(Annotated[int, Interval(ge=0, le=3)]) == (int, (Ge(0), Le(3)))
    assert constraints.split(Annotated[str, Len(1, 3)])[1] == (MinLen(1), MaxLen(3))
    assert constraints.written([Ge(0), Le(3)]) == ">= 0 <= 3"
    assert constraints.written([MinLen(1)]) == "len 1.."
