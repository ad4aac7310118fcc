# ruff: noqa: C901, PIE796, PLR0911, PLR0912, PYI061, SLOT000, TC003, UP007, UP042, UP045  # odd types are the point
"""Random cases for the comparison with DSPy, each from its own seed so that a failure is one number."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import json
import random
import typing
import uuid
from dataclasses import dataclass
from typing import Any, Literal, Optional, Union

import dspy
import pydantic


class Color(enum.Enum):
    RED = "red"
    GREEN = "green"
    ALSO_RED = "red"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Size(str, enum.Enum):
    S = "small"
    L = "large"


class Tricky(enum.Enum):
    a = "b"
    b = "a"
    c = (1, 2)


class Point(pydantic.BaseModel):
    x: int
    name: str = "origin"


class Nested(pydantic.BaseModel):
    """A nested thing."""

    point: Point
    tags: list[str] = []
    when: dt.date | None = None
    weight: float = 1.0
    by: dict[str, int] = pydantic.Field(default_factory=dict, alias="byName")


class Upper(pydantic.BaseModel):
    text: str

    @pydantic.field_validator("text")
    @classmethod
    def _upper(cls, text: str) -> str:
        if text == "bad":
            raise ValueError("bad text")
        return text.upper()

    @pydantic.computed_field
    @property
    def size(self) -> int:
        return len(self.text)


@dataclass
class Pair:
    left: int
    right: str


class Shape(typing.TypedDict):
    sides: int
    label: str


class Event(dspy.Type):
    """A type of the user's own."""

    at: str

    def format(self):
        return [{"type": "text", "text": f"event at {self.at}"}]

    @classmethod
    def description(cls):
        return "Something that happened."


class Odd:
    """Nothing pydantic can describe."""

    def __str__(self):
        return "odd«thing"


class Broken:
    def __str__(self):
        raise RuntimeError("cannot print")


class Text(str):
    def __str__(self):
        return "other"


ANNOTATIONS: list[Any] = [
    str, str, str, str, int, float, bool, list[str], list[int], list[float], dict[str, int], dict[str, Any], dict,
    list, Any, str | None, Optional[int], Union[int, str], int | float | None, Union[str, int, None], Literal["a", "b c"],
    Literal[1, 2, "three"], Literal[True, None], Literal["it's", 'say "x"', "2"], Color, Level, Size, Tricky, Point, Nested,
    Upper, list[Point], dict[str, Point], Point | None, list[Color], Optional[Color], dt.date, dt.datetime, bytes,
    decimal.Decimal, tuple[int, str], set[int], Pair, Shape, list[dict[str, list[int]]], dspy.Image, dspy.Audio,
    dspy.Code["python"], dspy.Reasoning, dspy.Tool, list[dspy.Tool], dspy.ToolCalls, list[dspy.Image], dspy.File, Event,
    dspy.History, uuid.UUID, Literal[Color.RED, "red"], typing.Annotated[int, pydantic.Field(ge=0)], Point | Pair,
    list[Optional[str]], frozenset[str], type(None), complex, Odd,
]  # fmt: skip

PIECES = [
    "", " ", "\n", "\r\n", "\r", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x1f", "\x85", "\u2028", "\u2029", "«", "»",
    "«««", "»»»", "plain words", "it's", '"quoted"', "'single'", "{", "}", "[", "]", '{"a": 1}', "[1, 2]", "null", "None",
    "True", "false", "NaN", "-0", "007", "1e5", "3.14", "42", "-17", "[[ ## answer ## ]]", "[[ ## f0 ## ]]", "[[ ##",
    " ## ]]", "[[ ## completed ## ]]", "<f0>", "</f0>", "<a>&amp;</a>", "&", "<", ">", "]]>", "```json", "```", "%s", "%",
    "{name}", "\x00", "\x07", "\x7f", "\t", "é", "日本", "🎉", "\ufeff", "\u200b", "\ud800", "\\n", "\\", "#", "//",
    "<<CUSTOM-TYPE-START-IDENTIFIER>>", "<<CUSTOM-TYPE-END-IDENTIFIER>>",
    '<<CUSTOM-TYPE-START-IDENTIFIER>>[{"type": "text", "text": "x"}]<<CUSTOM-TYPE-END-IDENTIFIER>>', "9" * 40, "a, b",
    "1 + 2j", "not x", "lambda: 0", "red", "RED", "small", "a", "b", "three", "Literal['a']", "str[b c]", "2024-02-30",
    "2024-01-31", "(", ")", ":", "x: y", "- item", "# note", "u'x'", "b'x'",
]  # fmt: skip

NAMES = [
    "question",
    "answer",
    "f0",
    "f1",
    "x",
    "reasoning",
    "context",
    "résumé",
    "a·b",
    "_ok",
    "completed",
    "Größe",
]


def text(rng: random.Random) -> str:
    """Draw a text, plain or full of what could confuse a reader."""
    if rng.random() < 0.3:
        return " ".join(rng.choices(["the", "cat", "sat", "on", "a", "mat"], k=rng.randint(1, 8)))
    return "".join(rng.choices(PIECES, k=rng.randint(0, 5)))


def number(rng: random.Random) -> Any:
    """Draw a number, whole or not, small, huge, or none at all."""
    return rng.choice(
        [
            0,
            1,
            -1,
            7,
            2**63,
            -(10**40),
            10**5000,
            0.0,
            -0.0,
            1.5,
            1e16,
            1e-7,
            1e300,
            float("nan"),
            float("inf"),
            True,
        ]
    )


def anything(rng: random.Random, depth: int = 0) -> Any:
    """Draw a value of any type."""
    kind = rng.randrange(34)
    if depth > 2:
        kind %= 8
    makers: dict[int, Any] = {
        0: lambda: text(rng), 1: lambda: text(rng), 2: lambda: number(rng), 3: lambda: None, 4: lambda: rng.random() < 0.5,
        5: lambda: text(rng).encode("utf8", "surrogatepass"), 6: lambda: rng.choice(list(Color)),
        7: lambda: rng.choice([Level.LOW, Size.L, Tricky.c]),
        8: lambda: [anything(rng, depth + 1) for _ in range(rng.randint(0, 3))],
        9: lambda: [text(rng) for _ in range(rng.randint(0, 4))],
        10: lambda: [text(rng) for _ in range(rng.randint(0, 4))],
        11: lambda: {text(rng): anything(rng, depth + 1) for _ in range(rng.randint(0, 3))},
        12: lambda: {rng.choice([1, None, True, 1.5, "k", (1, 2), Color.RED]): anything(rng, depth + 1)},
        13: lambda: Point(x=3, name=text(rng)),
        14: lambda: Nested(point=Point(x=1), tags=[text(rng)], byName={"k": 1}, weight=rng.choice([1.5, float("nan")])),
        15: lambda: Upper(text="abc"), 16: lambda: Pair(1, text(rng)), 17: lambda: dt.date(2024, 1, 31),
        18: lambda: dt.datetime(2024, 1, 31, 12, 30, tzinfo=rng.choice([None, dt.UTC])),
        19: lambda: decimal.Decimal("1.10"), 20: lambda: uuid.UUID(int=7), 21: lambda: {1, 2}, 22: lambda: (1, text(rng)),
        23: lambda: dspy.Image(url="https://example.com/a.png"), 24: lambda: dspy.Audio(data="QUJD", audio_format="wav"),
        25: lambda: dspy.Code(code="print(1)"), 26: lambda: dspy.Reasoning(content=text(rng)), 27: lambda: dspy.Tool(add),
        28: lambda: dspy.ToolCalls.from_dict_list([{"name": "add", "args": {"a": 1}}]), 29: lambda: Event(at=text(rng)),
        30: lambda: rng.choice([Odd(), Broken(), Odd, Text("x")]), 31: lambda: [dspy.Image(url="https://example.com/b.png")],
        32: lambda: frozenset(["z"]), 33: lambda: complex(1, 2),
    }  # fmt: skip
    return makers[kind]()


def add(a: int, b: int = 2) -> int:
    """Add two numbers."""
    return a + b


def fitting(rng: random.Random, annotation: Any) -> Any:
    """Draw a value of an annotation, where that is easy, or else anything."""
    made: dict[Any, Any] = {
        str: lambda: text(rng), int: lambda: rng.randint(-5, 5), float: lambda: rng.choice([1.5, -0.0, float("nan"), 2.0]),
        bool: lambda: rng.random() < 0.5, list[str]: lambda: [text(rng) for _ in range(3)], list[int]: lambda: [1, 2],
        Color: lambda: Color.RED, Point: lambda: Point(x=1), Nested: lambda: Nested(point=Point(x=1), byName={"a": 1}),
        list[Point]: lambda: [Point(x=1), Point(x=2)], dict[str, int]: lambda: {text(rng): 1}, Size: lambda: Size.S,
        dspy.Image: lambda: dspy.Image(url="https://example.com/a.png"), Level: lambda: Level.HIGH,
        dspy.Reasoning: lambda: dspy.Reasoning(content=text(rng)), bytes: lambda: b"abc", Upper: lambda: Upper(text="a"),
        dt.date: lambda: dt.date(2024, 1, 31), dspy.Tool: lambda: dspy.Tool(add),
        list[dspy.Tool]: lambda: [dspy.Tool(add)], Event: lambda: Event(at="noon"),
    }  # fmt: skip
    if annotation in made and rng.random() < 0.85:
        return made[annotation]()
    return anything(rng)


def signature(rng: random.Random) -> type[dspy.Signature]:
    """Draw a signature of 2 to 14 fields."""
    count = rng.choice([2, 2, 3, 4, 6, 10, 14])
    names = rng.sample([*NAMES, *(f"field_{k}" for k in range(10))], count)
    inputs = rng.randint(1, count - 1) if rng.random() < 0.95 else 0
    fields: dict[str, Any] = {}
    pool = ANNOTATIONS if rng.random() < 0.6 else ANNOTATIONS[:12]
    order = list(range(count))
    if rng.random() < 0.2:
        rng.shuffle(order)
    for k in order:
        make = dspy.InputField if k < inputs else dspy.OutputField
        options: dict[str, Any] = {}
        if rng.random() < 0.5:
            options["desc"] = text(rng)
        if rng.random() < 0.1:
            options["ge"] = 0
        if k >= inputs and rng.random() < 0.1:
            options["default"] = rng.choice([None, "fallback", 3])
        elif k >= inputs and rng.random() < 0.05:
            options["default_factory"] = list
        fields[names[k]] = (rng.choice(pool), make(**options))
    instructions = rng.choice(
        [None, "Answer.", text(rng) + "\n  " + text(rng), "\n\n    Do it.\n      Well.\n    "]
    )
    try:
        return dspy.Signature(fields, instructions)
    except Exception:
        return dspy.Signature("question -> answer")


def turn(rng: random.Random, fields: dict[str, Any], keep: float) -> dict[str, Any]:
    """Draw values for some of the fields."""
    values = {
        name: fitting(rng, info.annotation) if rng.random() < 0.8 else anything(rng)
        for name, info in fields.items()
        if rng.random() < keep
    }
    if rng.random() < 0.15:
        values["extra"] = anything(rng)
    return values


def inputs(rng: random.Random, made: type[dspy.Signature]) -> dict[str, Any]:
    """Draw the inputs of a call."""
    values = turn(rng, made.input_fields, rng.choice([1.0, 1.0, 0.8]))
    for name, info in made.input_fields.items():
        if info.annotation is dspy.History and rng.random() < 0.8:
            turns = [turn(rng, made.fields, 0.8) for _ in range(rng.randint(0, 2))]
            for each in turns:
                each.pop(name, None)
            values[name] = dspy.History(messages=turns)
    return values


def demos(rng: random.Random, made: type[dspy.Signature]) -> list[Any]:
    """Draw demos, complete or not, as dicts or examples."""
    found = []
    for _ in range(rng.choice([0, 0, 1, 2, 4])):
        values = turn(rng, made.fields, rng.choice([1.0, 1.0, 0.7]))
        found.append(
            rng.choice([dict, dspy.Example, dspy.Example, dspy.Prediction])(
                **{k: v for k, v in values.items() if k != "self"}
            )
        )
    return found


def completion(rng: random.Random, made: type[dspy.Signature], adapter: Any) -> str:
    """Draw a completion: what the adapter would write for an answer, usually damaged."""
    values = {name: fitting(rng, info.annotation) for name, info in made.output_fields.items()}
    try:
        written = adapter.format_assistant_message_content(made, values)
    except Exception:
        written = text(rng)
    damage = rng.randrange(16)
    if damage < 4:
        return written
    if damage == 4:
        return written.replace(
            "\n", rng.choice(["\r\n", "\r", "\x0b", "\x85", "\u2028", "\x1c", " \n", "\n  "])
        )
    if damage == 5:
        return f"```json\n{written}\n```"
    if damage == 6:
        return written[: rng.randint(0, len(written))]
    if damage == 7:
        return written + "\n" + text(rng) + "\n" + written
    if damage == 8:
        names = [*made.output_fields, "nobody"]
        lines = [
            f"{rng.choice(['', ' ', '  ', 'x ', chr(9)])}[[ ## {rng.choice(names)} ## ]]{rng.choice(['', ' ', text(rng)])}\n{text(rng)}"
            for _ in range(rng.randint(1, 6))
        ]
        return rng.choice(["\n", "\r\n", "\n\n"]).join(lines)
    if damage == 9:
        return json.dumps({rng.choice([*made.output_fields, "nobody"]): jsonable(rng) for _ in range(4)})
    if damage == 10:
        return json.dumps({name: jsonable(rng) for name in made.output_fields}, ensure_ascii=False)
    if damage == 11:
        return "".join(
            f"<{name}>{rng.choice([text(rng), '<item>1</item><item>2</item>', '<x>3</x>', ''])}</{name}>\n"
            for name in made.output_fields
        )
    if damage == 12:
        return "\n".join(f"[[ ## {name} ## ]]\n{text(rng)}" for name in made.output_fields)
    if damage == 13:
        return "\n\n".join(f"[[ ## {name} ## ]]\n{json.dumps(jsonable(rng))}" for name in made.output_fields)
    if damage == 14:
        k = rng.randint(0, len(written))
        return written[:k] + text(rng) + written[k:]
    return text(rng)


def jsonable(rng: random.Random) -> Any:
    """Draw JSON data."""
    return rng.choice(
        [1, 0, -2, 1.5, 1e30, True, False, None, "a", "red", "RED", "b c", "small", "3", "three", "2024-01-31", "", [], {}, ["x", "y"], [1, "2"], {"x": 1},
         {"x": "1", "name": "n"}, {"point": {"x": 1}, "byName": {"a": 1}}, {"a": 1}, "true", '"a"', {"content": "c"}, {"sides": 3, "label": "l"}, {"left": 1, "right": "r"}, {"text": "bad"}]
    )  # fmt: skip
