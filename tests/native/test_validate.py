import dataclasses
import datetime as dt
import enum

import numpy as np
import pydantic
import pytest

import dspex as dx
from dspex.errors import UnknownNameError, ValuesError
from dspex.native.signature import signature
from dspex.native.validate import validator


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Item(pydantic.BaseModel):
    name: str
    price: float


@dataclasses.dataclass
class Point:
    x: int


class Plain:
    pass


OWN = {"Color": Color, "Item": Item, "Point": Point, "Plain": Plain}

# Each type, a value that does not fit it, and everything that is said about it.
UNFIT = [
    ("int", "3", ["input field 'value': expected int, got '3' (str); a text is not read as a number"]),
    (
        "int",
        True,
        ["input field 'value': expected int, got True (bool); a truth value is not read as a number"],
    ),
    (
        "int",
        3.5,
        ["input field 'value': expected int, got 3.5 (float); round it first: a fraction is not cut off"],
    ),
    ("int", None, ["input field 'value': expected int, got None"]),
    (
        "float",
        "0.5",
        ["input field 'value': expected float, got '0.5' (str); a text is not read as a number"],
    ),
    (
        "list[int >= 0]",
        [1, 2, -3, True],
        [
            "input field 'value[2]': expected int >= 0, got -3 (int)",
            "input field 'value[3]': expected int, got True (bool); a truth value is not read as a number",
        ],
    ),
    (
        "dict[str len 1..2, list[float in [0, 1]]]",
        {"abc": [2.0], "a": [0.5]},
        [
            "input field 'value key 'abc'': expected str len 1..2, got 'abc' (str)",
            "input field 'value['abc'][0]': expected probability (float >= 0 <= 1), got 2.0 (float)",
        ],
    ),
    ("str", 3, ["input field 'value': expected str, got 3 (int); write str(3)"]),
    ("str", b"x", ["input field 'value': expected str, got b'x' (bytes)"]),
    ("bool", 1, ["input field 'value': expected bool, got 1 (int)"]),
    ("bytes", "x", ["input field 'value': expected bytes, got 'x' (str)"]),
    (
        "date",
        "2026-01-01",
        [
            "input field 'value': expected date, got '2026-01-01' (str); write date.fromisoformat('2026-01-01')"
        ],
    ),
    (
        "date",
        dt.datetime(2026, 1, 1),  # noqa: DTZ001  # zones are another matter
        ["input field 'value': expected date, got datetime.datetime(2026, 1, 1, 0, 0) (datetime)"],
    ),
    ("int >= 0 <= 120", -1, ["input field 'value': expected int >= 0 <= 120, got -1 (int)"]),
    ("str len 1..3", "abcd", ["input field 'value': expected str len 1..3, got 'abcd' (str)"]),
    (
        'str matching "[A-Z]{3}"',
        "abc",
        ["input field 'value': expected str matching \"[A-Z]{3}\", got 'abc' (str)"],
    ),
    ("probability", 1.5, ["input field 'value': expected probability (float >= 0 <= 1), got 1.5 (float)"]),
    (
        "probability",
        -1e-09,
        ["input field 'value': expected probability (float >= 0 <= 1), got -1e-09 (float)"],
    ),
    (
        "int?",
        "x",
        ["input field 'value': expected int or None, got 'x' (str); a text is not read as a number"],
    ),
    ("int | str", None, ["input field 'value': expected int or str, got None"]),
    (
        'Literal["bug", "question"]',
        "bugs",
        ["input field 'value': expected Literal['bug', 'question'], got 'bugs' (str); did you mean 'bug'?"],
    ),
    ("Literal[1, 2]", "1", ["input field 'value': expected Literal[1, 2], got '1' (str); did you mean 1?"]),
    ("Literal[1, 2]", True, ["input field 'value': expected Literal[1, 2], got True (bool)"]),
    (
        "list[int]",
        [1, "2", 3.5],
        [
            "input field 'value[1]': expected int, got '2' (str); a text is not read as a number",
            "input field 'value[2]': expected int, got 3.5 (float); round it first: a fraction is not cut off",
        ],
    ),
    ("list[int]", (1, 2), ["input field 'value': expected list[int], got (1, 2) (tuple); write list(...)"]),
    (
        "list[int]",
        np.array([1, 2]),
        ["input field 'value': expected list[int], got array([1, 2]) (ndarray); write .tolist()"],
    ),
    ("list[str]", "a", ["input field 'value': expected list[str], got 'a' (str); write ['a']"]),
    (
        "dict[str, int]",
        {"a": 1, "b": "c", 3: 4},
        [
            "input field 'value['b']': expected int, got 'c' (str); a text is not read as a number",
            "input field 'value key 3': expected str, got 3 (int); write str(3)",
        ],
    ),
    ("dict[str, int]", [1], ["input field 'value': expected dict[str, int], got [1] (list)"]),
    ("tuple[int, str]", (1, 2), ["input field 'value[1]': expected str, got 2 (int); write str(2)"]),
    ("tuple[int, str]", (1,), ["input field 'value': expected tuple[int, str], got (1,) (tuple)"]),
    ("set[int]", [1], ["input field 'value': expected set[int], got [1] (list); write set(...)"]),
    (
        "Color",
        "red",
        ["input field 'value': expected Color.RED, Color.BLUE, got 'red' (str); did you mean Color.RED?"],
    ),
    (
        "list[Item]",
        [{"name": "a", "price": 1}, {"name": "b"}, {"name": "c", "price": "x"}],
        [
            "input field 'value[1].price': is required",
            "input field 'value[2].price': expected a valid number, got 'x' (str)",
        ],
    ),
    ("Item", 3, ["input field 'value': expected Item, got 3 (int)"]),
    ("Point", {"x": "a"}, ["input field 'value': expected Point, got {'x': 'a'} (dict)"]),
    ("Point", 5, ["input field 'value': expected Point, got 5 (int)"]),
    ("Plain", 5, ["input field 'value': expected Plain, got 5 (int)"]),
    ("embedding(3)", [1, 2], ["input field 'value': expected embedding(3), got shape (2,)"]),
    ("embedding(3)", np.zeros((3, 1)), ["input field 'value': expected embedding(3), got shape (3, 1)"]),
    (
        "tensor(2, 2)",
        [[1, 2], [3]],
        ["input field 'value[1]': expected tensor(2, 2), got a ragged list: 1 here, 2 at [0]"],
    ),
    ("tensor(2, 2)", [[1, "a"], [3, 4]], ["input field 'value[0][1]': expected a number, got 'a' (str)"]),
    (
        "tensor(2, *, int)",
        np.zeros((2, 2)),
        ["input field 'value': expected tensor(2, *, int), got dtype float64; give numbers: .astype(int)"],
    ),
    (
        "embedding(3)",
        "abc",
        [
            "input field 'value': expected embedding(3), got 'abc' (str); give a list, a numpy array or a torch tensor"
        ],
    ),
    (
        "embedding(2)",
        np.array(["a", "b"]),
        ["input field 'value': expected embedding(2), got dtype <U1; give numbers: .astype(float)"],
    ),
    ("token_count", -1, ["input field 'value': expected int >= 0, got -1 (int)"]),
    ("temperature", 3, ["input field 'value': expected temperature (float >= 0 <= 2), got 3 (int)"]),
    (
        "list[list[int?]]",
        [[1, None], ["x"]],
        ["input field 'value[1][0]': expected int or None, got 'x' (str); a text is not read as a number"],
    ),
    ("list[int] len 2..", [1], ["input field 'value': expected list[int] len 2.., got [1] (list)"]),
    ("list[Literal['a']] | None", ["b"], ["input field 'value[0]': expected Literal['a'], got 'b' (str)"]),
]


@pytest.mark.parametrize(
    ("kind", "value", "messages"), UNFIT, ids=[f"{kind}-{k}" for k, (kind, _, _) in enumerate(UNFIT)]
)
def test_what_does_not_fit_is_named(kind, value, messages):
    """Path, what was expected, what was there, and what to do about it: all at once."""
    with pytest.raises(ValuesError) as caught:
        signature(f"value: {kind} -> answer", types=OWN).validate_inputs({"value": value})
    assert [failure.text for failure in caught.value.failures] == messages


FIT = [
    ("int", np.int32(3)),
    ("float", 3),
    ("float", np.float32(0.5)),
    ("float", np.int64(3)),
    ("bool", np.bool_(True)),
    ("str", np.str_("x")),
    ("Any", object()),
    ("None", None),
    ("int?", None),
    ("int | str", "x"),
    ("date", dt.date(2026, 1, 1)),
    ("datetime", dt.datetime(2026, 1, 1)),  # noqa: DTZ001  # zones are another matter
    ("probability", 1),
    ("int? >= 0", None),
    ("list[int]", []),
    ("list", [1, "a"]),
    ("dict", {1: "a"}),
    ("dict[str, list[float]]", {"a": [1, 2.5]}),
    ("tuple[int, str]", (1, "a")),
    ("set[int]", {1}),
    ("Color", Color.RED),
    ("Item", Item(name="a", price=1)),
    ("Item", {"name": "a", "price": 1}),
    ("Point", Point(1)),
    ("Plain", Plain()),
    ("Literal[1, 2]", 2),
]


@pytest.mark.parametrize(("kind", "value"), FIT, ids=[f"{kind}-{k}" for k, (kind, _) in enumerate(FIT)])
def test_what_fits_passes(kind, value):
    """An int is a float, numpy's scalars are Python's, a mapping of the right entries is a model."""
    signature(f"value: {kind} -> answer", types=OWN).validate_inputs({"value": value})


TASK = signature("age: int, name, limit: int = 3 -> answer: probability", name="Check")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {},
            (
                "Check cannot use these inputs:\n"
                "  - input field 'age': is required\n"
                "  - input field 'name': is required"
            ),
        ),
        (
            {"age": "3", "nam": "Ada"},
            (
                "Check cannot use these inputs:\n"
                "  - input field 'age': expected int, got '3' (str); a text is not read as a number\n"
                "  - input field 'name': is required\n"
                "  - input field 'nam': is not known; did you mean 'name'?"
            ),
        ),
        (
            {"age": 3, "name": "Ada", "zzz": 1},
            "Check cannot use these inputs:\n  - input field 'zzz': is not known; known: age, name, limit",
        ),
    ],
)
def test_everything_is_said_at_once(given, message):
    """Missing, unfit and unknown inputs are one error."""
    with pytest.raises(ValuesError) as caught:
        TASK.validate_inputs(given)
    assert str(caught.value) == message


def test_outputs_are_checked_alike():
    """What came out is checked by the same rules."""
    TASK.validate_outputs({"answer": 0.5})
    with pytest.raises(ValuesError) as caught:
        TASK.validate_outputs({"answer": 1.5})
    assert str(caught.value) == (
        "Check cannot use these outputs:\n"
        "  - output field 'answer': expected probability (float >= 0 <= 1), got 1.5 (float)"
    )


def test_more_failures_than_one_reads_are_counted():
    """Past twenty lines, the message says how many more there are; `failures` holds them all."""
    with pytest.raises(ValuesError) as caught:
        signature("values: list[int] -> answer").validate_inputs({"values": ["x"] * 50})
    lines = str(caught.value).splitlines()
    assert (len(lines), lines[-1], len(caught.value.failures)) == (22, "  - and 30 more", 50)


def test_own_checks_come_on_top():
    """A check of one's own runs after the type's; one for no field is refused."""
    strict = dx.validator(TASK, name=dx.validators.where(str.istitle, "a name with a capital"))
    strict.inputs({"age": 3, "name": "Ada"})
    with pytest.raises(ValuesError, match="input field 'name': expected a name with a capital, got 'ada'"):
        strict.inputs({"age": 3, "name": "ada"})
    with pytest.raises(UnknownNameError, match="did you mean 'name'"):
        dx.validator(TASK, nam=dx.validators.of(str))
    assert repr(validator(TASK)) == "<Validator of Check: age, name, limit -> answer>"


def test_checks_are_compiled_once(monkeypatch):
    """A thousand checks of one signature make no check anew."""
    TASK.validate_inputs({"age": 3, "name": "Ada"})
    monkeypatch.setattr(dx.validators, "_of", None)
    for _ in range(1000):
        TASK.validate_inputs({"age": 3, "name": "Ada"})
