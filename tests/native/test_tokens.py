import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.native.tokens import Reader, joined, quoted, tokens_of, unquoted, written_value

VALUES = st.recursive(
    st.one_of(
        st.text(max_size=6),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.booleans(),
        st.none(),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.text(max_size=3), inner, max_size=3),
    ),
    max_leaves=5,
)


@given(st.text(st.characters(exclude_categories=[])))
def test_quoted_texts_say_the_same(text):
    """Any text, lone surrogates too, survives being written and read, on one line."""
    assert unquoted(quoted(text)) == text
    assert len(quoted(text).splitlines()) == 1
    assert [token.kind for token in tokens_of(quoted(text))] == ["string"]


@given(VALUES)
def test_literals_are_read_as_they_were_written(value):
    """A default survives being written and read, type included."""
    assert repr(Reader(written_value(value)).read_value()) == repr(value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (r'"a\nb\t\"c\" \'d\' \\ \x41 \u00e9"', "a\nb\t\"c\" 'd' \\ A é"),
        (r'"\d{3}\.\w"', r"\d{3}\.\w"),
        ("'two\nlines'", "two\nlines"),
    ],
)
def test_escapes(text, said):
    """Python's common escapes mean what they mean there; other backslashes stand for themselves."""
    assert unquoted(text) == said
    if "\n" not in text and r"\d" not in text:
        assert ast.literal_eval(text) == said


@pytest.mark.parametrize(
    ("text", "tidy"),
    [
        ("list [ str|int ]", "list[str | int]"),
        ("tensor( 3,* , int )", "tensor(3, *, int)"),
        ("int>=0<=120", "int >= 0 <= 120"),
        ("float in[0,1]", "float in [0, 1]"),
        ("str len 1 .. 80", "str len 1..80"),
        ("str len ..80", "str len ..80"),
        ("int ?", "int?"),
        ('str  matching  "a  b"', 'str matching "a  b"'),
    ],
)
def test_spaces_are_written_one_way(text, tidy):
    """However a type was spaced, it is written the same, and that is read as the same words."""
    assert joined(tokens_of(text)) == tidy
    assert [token[:2] for token in tokens_of(tidy)] == [token[:2] for token in tokens_of(text)]


def test_tokens_know_where_they_stand():
    """Each word carries its kind and its place."""
    assert tokens_of('a -> b: Literal["x"]') == [
        ("name", "a", 0),
        ("arrow", "->", 2),
        ("name", "b", 5),
        ("mark", ":", 6),
        ("name", "Literal", 8),
        ("mark", "[", 15),
        ("string", '"x"', 16),
        ("mark", "]", 19),
    ]
