import datetime as dt
from typing import Annotated, Any, Literal, Union

import annotated_types
import pytest

from dspex.errors import SignatureError
from dspex.native.shapes import Shape
from dspex.native.signature import signature

UNIT = Annotated[float, annotated_types.Ge(0), annotated_types.Le(1)]


class Invoice:
    """A type of the user's own."""


def read(text, **types):
    (field,) = [each for each in signature(f"x -> y: {text}", types=types).fields if each.name == "y"]
    return field.annotation


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("str", str),
        ("int", int),
        ("float", float),
        ("bool", bool),
        ("bytes", bytes),
        ("date", dt.date),
        ("datetime", dt.datetime),
        ("Any", Any),
        ("None", None),
        ("list", list),
        ("dict", dict),
        ("probability", UNIT),
        ("cost", Annotated[float, annotated_types.Ge(0)]),
        ("latency", Annotated[float, annotated_types.Ge(0)]),
        ("temperature", Annotated[float, annotated_types.Ge(0), annotated_types.Le(2)]),
        ("token_count", Annotated[int, annotated_types.Ge(0)]),
        ("embedding(1536)", Annotated[list[float], Shape((1536,))]),
        ("tensor(3, *)", Annotated[list[list[float]], Shape((3, None))]),
        ("tensor(4, int)", Annotated[list[int], Shape((4,), "int")]),
        ("list[embedding(2)]?", Union[list[Annotated[list[float], Shape((2,))]], None]),  # noqa: UP007  # what is built, not written
        ("confidence", UNIT),
        ("list[str]", list[str]),
        ("set[int]", set[int]),
        ("dict[str, int]", dict[str, int]),
        ("tuple[int, str, bool]", tuple[int, str, bool]),
        ("list[dict[str, list[float]]]", list[dict[str, list[float]]]),
        ("int | None", Union[int, None]),  # noqa: UP007  # what is built, not written
        ("int?", Union[int, None]),  # noqa: UP007  # as above
        ("int | str?", Union[int, str, None]),  # noqa: UP007  # as above
        ("Optional[int]", Union[int, None]),  # noqa: UP007  # as above
        ("Union[int, str]", Union[int, str]),  # noqa: UP007  # as above
        ("list[int?]", list[Union[int, None]]),  # noqa: UP007  # as above
        ('Literal["bug", "question"]', Literal["bug", "question"]),
        ("Literal['it\\'s', \"a, b -> c\"]", Literal["it's", "a, b -> c"]),
        ("Literal[1, -2, True, None]", Literal[1, -2, True, None]),  # noqa: PYI061  # what is built, not written
        ('list[Literal["a", "b"]] | None', Union[list[Literal["a", "b"]], None]),  # noqa: UP007  # as above
        ("  list [ str ]  ", list[str]),
    ],
)
def test_types(text, expected):
    """A type in a spec is the Python type that it names."""
    assert read(text) == expected


def test_own_types():
    """Types that the caller brings along are read by name, dotted names and nesting included."""
    assert read("Invoice", Invoice=Invoice) is Invoice
    assert read("list[Invoice]?", Invoice=Invoice) == Union[list[Invoice], None]  # noqa: UP007  # as above
    assert read("billing.Invoice", **{"billing.Invoice": Invoice}) is Invoice


def test_literals_escape_as_python_does():
    """An escape within a literal means what it means in Python."""
    assert read(r'Literal["a\nb", "tab\t"]') == Literal["a\nb", "tab\t"]


# Each spec with its caret on the line below, and the message.
BAD = [
    ("question", "        ^", "a signature needs '->' between its inputs and its outputs"),
    ("", "^", "expected an input field's name, found the end"),
    ("-> answer", "^", "expected an input field's name, found '->'"),
    ("question ->", "           ^", "expected an output field's name, found the end"),
    ("question, -> a", "          ^", "expected an input field's name, found '->'"),
    ("a -> b,", "       ^", "expected an output field's name, found the end"),
    ("a -> b -> c", "       ^", "expected ',' or the end, found '->'"),
    ("a -> b c", "       ^", "expected ',' or the end, found 'c'"),
    ("a b -> c", "  ^", "a signature needs '->' between its inputs and its outputs"),
    ("1a -> b", "^", "expected an input field's name, found '1'"),
    ("a.b -> c", "^", "expected an input field's name, found 'a.b'"),
    ("a -> b: strin", "        ^", "unknown type 'strin'; known: "),
    ("a: Foo -> b", "   ^", "unknown type 'Foo'; known: "),
    ("a -> b:", "       ^", "expected a type, found the end"),
    ("a -> b: 3", "        ^", "expected a type, found '3'"),
    ("a -> b: list[", "             ^", "expected a type, found the end"),
    ("a -> b: list[]", "             ^", "expected a type, found ']'"),
    ("a -> b: list[int", "                ^", "expected ']', found the end"),
    ("a -> b: list[int, str]", "        ^", "list[...] takes 1 type(s), got 2"),
    ("a -> b: dict[str]", "        ^", "dict[...] takes 2 type(s), got 1"),
    ("a -> b: Optional[int, str]", "        ^", "Optional[...] takes 1 type(s), got 2"),
    ("a -> b: int[str]", "           ^", "expected ',' or the end, found '['"),
    ("a -> b: Literal", "               ^", "expected '[', found the end"),
    (
        "a -> b: Literal[bug]",
        "                ^",
        "Literal[...] takes quoted strings, numbers, True, False or None",
    ),
    (
        "a -> b: Literal[]",
        "                ^",
        "Literal[...] takes quoted strings, numbers, True, False or None",
    ),
    ("a -> b: int ; c", "            ^", "a signature cannot hold ';' here"),
    ('a -> b: Literal["x]', "                ^", "a signature cannot hold '\"' here"),
    ("a; b -> c", " ^", "a signature cannot hold ';' here"),
    ("a -> b: int |", "             ^", "expected a type, found the end"),
    ("a -> b, b", "        ^", "every field needs its own name, 'b' is there twice"),
    ("a -> a", "     ^", "every field needs its own name, 'a' is there twice"),
    ("_a -> b", "^", "a field's name cannot begin with '_'"),
    ("a -> model_config", "     ^", ""),
]


@pytest.mark.parametrize(("spec", "caret", "message"), BAD, ids=[spec or "empty" for spec, _, _ in BAD])
def test_errors_point_at_the_place(spec, caret, message):
    """What cannot be read is refused when it is written, with a caret under the place."""
    with pytest.raises(SignatureError) as caught:
        signature(spec)
    shown = caught.value.message.splitlines()
    assert shown[0].startswith(message)
    assert shown[1:] == [f"  {spec}", f"  {caret}"]


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("strin", "did you mean 'str'?"),
        ("Sting", "did you mean 'str'?"),
        ("Zzz", "bring your own: types={'Zzz': Zzz}"),
        ("invoice", "did you mean 'Invoice'?"),
        ("Literal[bug]", 'did you mean "bug" in quotes?'),
    ],
)
def test_errors_say_what_to_do(text, hint):
    """The hint names the nearest type, own ones included, or how to bring one."""
    with pytest.raises(SignatureError) as caught:
        read(text, Invoice=Invoice)
    assert caught.value.hint == hint


def test_caret_in_a_longer_spec():
    """In a spec of several lines, the line with the mistake is shown."""
    with pytest.raises(SignatureError) as caught:
        signature("message: str\n  -> category: strr,\n     urgency: int")
    assert caught.value.message.splitlines()[1:] == ["    -> category: strr,", "                 ^"]
