import enum
from typing import Annotated, Any, Literal, Optional

import pytest
from annotated_types import Ge, Le, MinLen

from dspex.native.shapes import Shape
from dspex.native.signature import signature
from dspex.native.written import type_text


class Color(enum.Enum):
    RED = 1


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (str, "str"),
        (None, "None"),
        (Any, "Any"),
        (list, "list"),
        (Color, "Color"),
        (list[dict[str, int]], "list[dict[str, int]]"),
        (Optional[int], "int | None"),  # noqa: UP045  # as people write it
        (tuple[int, ...], "tuple[int, ...]"),
        (Literal["a", 1, True], "Literal['a', 1, True]"),
        (Literal["it's", "a\n"], 'Literal["it\'s", "a\\n"]'),
        (Annotated[float, Ge(0), Le(1)], "probability"),
        (Annotated[float, Ge(0), Le(2)], "temperature"),
        (Annotated[int, Ge(1), Le(5)], "int >= 1 <= 5"),
        (Annotated[list[str], MinLen(1)], "list[str] len 1.."),
        (Annotated[list[float], Shape((3,))], "embedding(3)"),
        (list[Annotated[list[list[int]], Shape((3, None), "int")]], "list[tensor(3, *, int)]"),
    ],
)
def test_types_as_text(annotation, text):
    """A type is written as a spec would call it, and read back it is that type."""
    assert type_text(annotation) == text
    if "..." not in text:
        (field, _) = signature(f"x: {text} -> y", types={"Color": Color}).fields
        assert field.annotation == annotation
