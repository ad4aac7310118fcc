import datetime as dt
from typing import Annotated, Any, Literal

import pytest

from dspex.native.fitting import fits
from dspex.native.shapes import Shape


class Animal:
    pass


class Dog(Animal):
    pass


def array(*sizes):
    return Annotated[list[float], Shape(sizes)]


@pytest.mark.parametrize(
    ("made", "wanted", "answer"),
    [
        (str, str, True),
        (str, int, False),
        (int, float, True),
        (float, int, False),
        (bool, int, False),
        (bool, bool, True),
        (int, object, True),
        (Dog, Animal, True),
        (Animal, Dog, False),
        (str, Any, True),
        (Any, int, True),
        (int, int | None, True),
        (int | None, int, False),
        (int | bool, int | bool | str, True),
        (None, int | None, True),
        (Literal["a"], Literal["a", "b"], True),
        (Literal["a", "c"], Literal["a", "b"], False),
        (Literal[1], Literal[True], False),
        (Literal["a"], str, True),
        (Literal[1, 2], float, True),
        (Literal["a", 1], str, False),
        (str, Literal["a"], False),
        (list[int], list[float], True),
        (list[float], list[int], False),
        (list[int], list, True),
        (list, list[int], True),
        (dict[str, int], dict[str, float], True),
        (dict[int, int], dict[str, int], False),
        (list[int], set[int], False),
        (tuple[int, str], tuple[float, str], True),
        (tuple[int, str], tuple[int], False),
        (tuple[int, int], tuple[float, ...], True),
        (tuple[int, ...], tuple[float, ...], True),
        (list[Literal["a"]], list[str], True),
        (dt.datetime, dt.date, True),
        (Annotated[float, "any"], float, True),
        (array(3), array(3), True),
        (array(3), array(4), False),
        (array(None), array(4), True),
        (array(3), list[float], True),
        (list[float], array(3), True),
    ],
)
def test_what_fits(made, wanted, answer):
    """Narrower goes into wider: int into float, a subclass into its base, fewer options into more."""
    assert fits(made, wanted) is answer
