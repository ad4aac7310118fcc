from dspex.variables import views
from dspex.variables.base import Bool, Choice, Composite, Constraint, Cost, Embedding, Float, Int
from dspex.variables.space import Space

SPACE = Space(
    rate=Float(0.01, 1, log=True),
    price=Cost(),
    tone=Choice(["brief", "to the point"], weights=[2, 1], default="to the point"),
    strict=Bool(default=True),
    n=Int(2, 6, step=2).given(strict=True, tone=["brief", "to the point"]),
    direction=Embedding(8, rank=2),
    total=Composite("n * 2"),
    constraints=["rate < 0.5 or strict", Constraint("cheap", lambda price: price < 1)],
    frozen={"strict": False},
)


def test_a_table_says_all_of_a_space():
    """Each definition and each constraint is a row of words."""
    assert [tuple(row) for row in views.table(SPACE)] == [
        ("rate", "float", "0.01 .. 1.0", "0.1", "", "log"),
        ("price", "cost", "1e-05 .. 1.0", "0.00316", "", "USD"),
        ("tone", "choice", 'brief | "to the point"', "to the point", "", "weights 2 1"),
        ("strict", "bool", "true | false", "True", "", "frozen at False"),
        ("n", "int", "2 .. 6", "2", 'strict = true and tone = brief | "to the point"', "step 2"),
        ("direction", "embedding", "8", "2 numbers", "", "low -1.0, high 1.0, rank 2, seed 0"),
        ("total", "composite", "n * 2", "", "", "computed"),
        ("rate < 0.5 or strict", "constraint", "rate < 0.5 or strict", "", "", ""),
        ("cheap", "constraint", "price", "", "", ""),
    ]


def test_a_form_has_a_field_for_what_is_searched():
    """Numbers slide, labels drop down, truth values are ticked; conditions come along."""
    entries = {entry.name: entry for entry in views.form(SPACE)}
    assert list(entries) == ["rate", "price", "tone", "n", "direction"]
    assert [entry.widget for entry in entries.values()] == [
        "log_slider",
        "log_slider",
        "dropdown",
        "whole_slider",
        "text",
    ]
    assert entries["n"].settings == {"min": 2, "max": 6, "step": 2}
    assert entries["n"].when == SPACE["n"].when
    assert (entries["tone"].options, entries["tone"].value) == (["brief", "to the point"], "to the point")
    assert views.form(Space(flag=Bool()))[0].widget == "checkbox"
