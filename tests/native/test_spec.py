import pytest
from annotated_types import Ge, Le
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dspex.errors import SignatureError
from dspex.native import spec as specs
from dspex.native.signature import Signature, signature
from dspex.records import MISSING, Field


class Invoice:
    """A type of the user's own."""


OWN = {"Invoice": Invoice, "billing.Invoice": Invoice}

# ── there and back ──────────────────────────────────────────────────────────────────────────────

NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True).filter(
    lambda name: specs.name_problem(name, ()) is None and name not in {"in", "len", "matching"}
)
TEXTS = st.text("abc ,->:[]|?'\"\\\n=é", max_size=8)
LITERALS = st.lists(
    st.one_of(
        st.integers(-99, 99).map(str),
        st.text("abc ,->:[]|?'", min_size=1, max_size=6).map(lambda text: f'"{text}"'),
        st.sampled_from(["True", "False", "None"]),
    ),
    min_size=1,
    max_size=3,
).map(lambda values: f"Literal[{', '.join(values)}]")
PLAIN = [
    "str",
    "int",
    "float",
    "bool",
    "Any",
    "date",
    "probability",
    "token_count",
    "Invoice",
    "billing.Invoice",
]
SHAPES = st.tuples(
    st.lists(st.sampled_from(["1", "3", "*"]), min_size=1, max_size=3), st.sampled_from(["", ", int"])
).map(lambda two: f"tensor({', '.join(two[0])}{two[1]})")
TYPES = st.recursive(
    st.one_of(st.sampled_from([*PLAIN, "embedding(8)"]), LITERALS, SHAPES),
    lambda inner: st.one_of(
        inner.map("list[{}]".format),
        inner.map("set[{}]".format),
        st.tuples(inner, inner).map(lambda two: f"dict[{two[0]}, {two[1]}]"),
        st.lists(inner, min_size=1, max_size=3).map(lambda some: f"tuple[{', '.join(some)}]"),
        st.lists(inner, min_size=2, max_size=3).map(" | ".join),
        inner.map("Optional[{}]".format),
        inner.map("{}?".format).filter(lambda text: not text.endswith("??")),
    ),
    max_leaves=6,
)
CONSTRAINED = st.sampled_from(
    [
        "int >= 0 <= 120",
        "float>-1.5<1e3",
        "float in [0, 1]",
        "int? > 0 = None",
        "probability >= 0.5 = 0.75",
        "str len 1..80",
        "str len ..80",
        "list[int] len 2.. = [1, 2]",
        "str len 3 matching '[A-Z]+' = \"ABC\"",
        r'str? matching "\d{3}-\"x\""',
        "str = 'none'",
        "float = 3",
        "bool = False",
        "list[str] = []",
        "dict[str, list[int]] = {'a': [1], \"b\": []}",
        'Literal["a", "b"] = "a"',
        "embedding(2) = [0, 1e-5]",
        "list[int>=0 <=9] len ..5 = [1, 9]",
        "dict[str len 1..3, float in [0, 1]] = {'a': 0.5}",
        'tuple[int > 0, list[str? matching "[a-z]+"]]',
        "set[int | None >= 1] | str",
    ]
)


@st.composite
def specs_of_text(draw):
    names = draw(st.lists(NAMES, min_size=2, max_size=6, unique=True))
    written = []
    for name in names:
        kind = draw(st.one_of(st.none(), TYPES, CONSTRAINED))
        note = draw(st.one_of(st.none(), TEXTS))
        text = name if kind is None else f"{name}: {kind}"
        written.append(text if note is None else f"{text} {specs.quoted(note)}")
    cut = draw(st.integers(1, len(names) - 1))
    comma, arrow = draw(st.sampled_from([", ", ",", " ,\n  "])), draw(st.sampled_from([" -> ", "->"]))
    return f"{comma.join(written[:cut])}{arrow}{comma.join(written[cut:])}"


@settings(deadline=None, max_examples=200)
@given(specs_of_text())
def test_written_out_and_read_again_is_the_same(spec):
    """parse(str(signature)) is the signature: types, constraints, defaults, descriptions and key."""
    try:
        first = signature(spec, "Do it.", types=OWN)
    except SignatureError as error:  # `int? | str` is no type: the question mark comes last
        assert "?" in spec, error  # noqa: PT017  # which specs may be refused is the point
        return
    second = signature(str(first), first.instructions, types=OWN)
    assert (second, second.key, str(second)) == (first, first.key, str(first))
    assert [repr(field.default) for field in second.fields] == [repr(field.default) for field in first.fields]


@settings(deadline=None, max_examples=60)
@given(specs_of_text())
def test_through_dspy_and_back_is_the_same(spec):
    """DSPy's class carries roles, types, constraints, defaults and descriptions both ways."""
    try:
        first = signature(spec, "Do it.", types=OWN)
    except SignatureError:
        assume(False)  # hypothesis' own call
    assume("Invoice" not in spec)  # pydantic wants to know the types of a class
    back = Signature.from_dspy(first.to_dspy())
    assert [(one.name, one.role, one.default, one.description or None) for one in back.fields] == [
        (one.name, one.role, one.default, one.description or None) for one in first.fields
    ]
    for one, other in zip(back.fields, first.fields, strict=True):
        assert one.annotation == (type(None) if other.annotation is None else other.annotation)


@given(
    st.lists(NAMES, min_size=2, max_size=5, unique=True),
    st.integers(1, 4),
    st.sampled_from([",", " , ", ",\n"]),
)
def test_plain_names_read_as_the_whole_grammar_reads_them(names, cut, comma):
    """The short way for bare names gives what the grammar gives."""
    cut = min(cut, len(names) - 1)
    text = f" {comma.join(names[:cut])} -> {comma.join(names[cut:])}\n"
    assert specs._plain(text) == specs._read(text, {}, {})


@pytest.mark.parametrize(
    "text", ["a -> a", "a, a -> b", "copy -> b", "a -> model_x", "_a -> b", "a -> é", "a ->"]
)
def test_bad_names_take_no_short_way(text):
    """What is wrong with a bare name is found by the grammar, which says where."""
    assert specs._plain(text) is None


# ── what is read ────────────────────────────────────────────────────────────────────────────────


def test_a_field_holds_all_that_was_written():
    """Type, constraints, default and description of one field."""
    (field, _) = signature('age: int>=0<=120 = 30 "in years, as a whole" -> b').fields
    assert field == Field("age", "input", field.annotation, "int >= 0 <= 120", "in years, as a whole", 30)
    assert field.annotation.__metadata__ == (Ge(0), Le(120))
    assert signature("a -> b").fields[0].default is MISSING


def test_descriptions_given_beside_the_spec_count():
    """The mapping's word stands over the spec's."""
    task = signature('a "old", b "kept" -> c', descriptions={"a": "new"})
    assert [field.description for field in task.fields] == ["new", "kept", None]


def test_a_spec_read_again_comes_from_memory():
    """The same text is parsed once; with types or descriptions beside it, it is read anew."""
    assert signature("a -> b").fields is signature("a -> b").fields
    assert signature("a -> b", descriptions={"a": "x"}).fields[0].description == "x"
    assert signature("a -> b").fields[0].description is None


# ── mistakes ────────────────────────────────────────────────────────────────────────────────────

# Each spec, the caret, the message, the hint.
BAD = [
    ("a: float = 1e400 -> b", "           ^", "1e400 is too large a number", None),
    ("a: float >= 1e400 -> b", "            ^", "1e400 is too large a number", None),
    ("a = 3 -> b", "    ^", "a default must fit its field: expected str, got 3 (int); write str(3)", None),
    (
        "a: int = 'x' -> b",
        "         ^",
        "a default must fit its field: expected int, got 'x' (str); a text is not read as a number",
        None,
    ),
    (
        "a: int = None -> b",
        "         ^",
        "a default must fit its field: expected int, got None",
        "a field that may be None has a type that ends in '?'",
    ),
    (
        "a: int = maybe -> b",
        "         ^",
        "a default is a quoted text, a number, True, False, None, [...] or {...}, found maybe",
        'did you mean "maybe" in quotes?',
    ),
    (
        "a: int = -> b",
        "         ^",
        "a default is a quoted text, a number, True, False, None, [...] or {...}, found ->",
        None,
    ),
    (
        "a: int => 3 -> b",
        "        ^",
        "a default is a quoted text, a number, True, False, None, [...] or {...}, found >",
        "did you mean '>='?",
    ),
    ("a: int >= 5 <= 3 -> b", "            ^", "no number is >= 5 and <= 3", None),
    ("a: int > 3 < 3 -> b", "           ^", "no number is > 3 and < 3", None),
    ("a: float in [1, 0] -> b", "         ^", "no number is >= 1 and <= 0", None),
    ("a: str len 5..2 -> b", "       ^", "no length is >= 5 and <= 2", None),
    ("a: str len -1 -> b", "           ^", "a length is a whole number >= 0, found -1", None),
    ("a: str len 1.5 -> b", "           ^", "a length is a whole number >= 0, found 1.5", None),
    ("a: str len -> b", "           ^", "expected a number, found '->'", None),
    ("a: str >= 3 -> b", "       ^", "'>=' is a constraint on a number, this is str", None),
    ("a: int len 3 -> b", "       ^", "'len' is a constraint on a text or a collection, this is int", None),
    ("a: bool >= 0 -> b", "        ^", "'>=' is a constraint on a number, this is bool", None),
    ("a: list[str >= 3] -> b", "            ^", "'>=' is a constraint on a number, this is str", None),
    ("a: list[int >= 5 <= 3] -> b", "                 ^", "no number is >= 5 and <= 3", None),
    ("a: dict[str, int >= ] -> b", "                    ^", "expected a number, found ']'", None),
    ("a: list[int >= 0 | None] -> b", "                 ^", "expected ']', found '|'", None),
    (
        "a: list[int positive] -> b",
        "            ^",
        "unknown constraint 'positive'; known: >=, >, <=, <, in, len, matching",
        "fields are separated by commas",
    ),
    (
        "a: list[int >= 1] = [3, 0] -> b",
        "                    ^",
        "a default must fit its field: [1]: expected int >= 1, got 0 (int)",
        None,
    ),
    ("a: int | str >= 0 -> b", "             ^", "'>=' is a constraint on a number, this is str", None),
    ('a: int matching "x" -> b', "       ^", "'matching' is a constraint on a text, this is int", None),
    (
        'a: str matching "[" -> b',
        "                ^",
        "'[' is no regular expression: unterminated character set at position 0",
        None,
    ),
    (
        "a: str matching x -> b",
        "                ^",
        "matching needs a quoted regular expression",
        'for example matching "[A-Z]{3}"',
    ),
    (
        "a: int lenght 3 -> b",
        "       ^",
        "unknown constraint 'lenght'; known: >=, >, <=, <, in, len, matching",
        "did you mean 'len'?",
    ),
    (
        "a: int above 3 -> b",
        "       ^",
        "unknown constraint 'above'; known: >=, >, <=, <, in, len, matching",
        "fields are separated by commas",
    ),
    ("a: int >= x -> b", "          ^", "expected a number, found 'x'", None),
    ("a: int in (0, 1) -> b", "          ^", "expected '[', found '('", None),
    (
        "a: int >= 0 = -1 -> b",
        "              ^",
        "a default must fit its field: expected int >= 0, got -1 (int)",
        None,
    ),
    (
        'a: Literal["x"] = "y" -> b',
        "                  ^",
        "a default must fit its field: expected Literal['x'], got 'y' (str)",
        None,
    ),
    ("a: embedding -> b", "   ^", "embedding needs its sizes", "for example embedding(1536)"),
    ("a: embedding() -> b", "   ^", "embedding takes a size", "for example embedding(1536)"),
    (
        "a: embedding(0) -> b",
        "             ^",
        "a size is a whole number >= 1, or * for any, found '0'",
        "for example embedding(1536)",
    ),
    ("a: embedding(3, 4) -> b", "   ^", "embedding takes 1 size", "for example embedding(1536)"),
    (
        "a: tensor(x) -> b",
        "          ^",
        "a size is a whole number >= 1, or * for any, found 'x'",
        "for example tensor(3, 4)",
    ),
    ("a: tensor(3 -> b", "            ^", "expected ')', found '->'", None),
    (
        'a "one" "two" -> b',
        "        ^",
        "a signature needs '->' between its inputs and its outputs",
        "for example 'question -> answer'",
    ),
    (
        "a: list[int] = [1, 'x'] -> b",
        "               ^",
        "a default must fit its field: [1]: expected int, got 'x' (str); a text is not read as a number",
        None,
    ),
    ("a: dict = {1 -> b", "             ^", "expected ':', found '->'", None),
    (
        "a: dict = {[1]: 2} -> b",
        "           ^",
        "a key is a quoted text, a number, True, False or None, found [",
        None,
    ),
    (
        "a: probability = 2 -> b",
        "                 ^",
        "a default must fit its field: expected probability (float >= 0 <= 1), got 2 (int)",
        None,
    ),
    ("a: Any >= 0 -> b", "       ^", "'>=' is a constraint on a number, this is Any", None),
    ("a: str? len .. -> b", "               ^", "expected a number, found '->'", None),
]


@pytest.mark.parametrize(("text", "caret", "message", "hint"), BAD, ids=[case[0] for case in BAD])
def test_mistakes_are_shown_where_they_are(text, caret, message, hint):
    """A wrong default, bound, length, pattern or shape is refused with a caret under it and what to do."""
    with pytest.raises(SignatureError) as caught:
        signature(text)
    assert caught.value.message.splitlines() == [message, f"  {text}", f"  {caret}"]
    assert caught.value.hint == hint
