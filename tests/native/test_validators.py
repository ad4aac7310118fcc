import pytest

from dspex.native import validators
from dspex.native.validators import all_of, any_of, each, keys, of, optional, where

POSITIVE = where(lambda value: value > 0, "a number > 0")


@pytest.mark.parametrize(
    ("check", "value", "messages"),
    [
        (all_of(of(int), POSITIVE), 3, []),
        (all_of(of(int), POSITIVE), "3", ["expected int, got '3' (str); a text is not read as a number"]),
        (all_of(of(int), POSITIVE), -3, ["expected a number > 0, got -3 (int)"]),
        (any_of(of(int), of(str)), "x", []),
        (any_of(of(bool), of(bytes)), "x", ["expected bool or bytes, got 'x' (str)"]),
        (any_of(of(list[bool]), of(bytes)), [1], ["[0]: expected bool, got 1 (int)"]),
        (optional(of(int)), None, []),
        (optional(of(bool)), 1, ["expected bool, got 1 (int)"]),
        (
            each(of(bool)),
            [True, 1, "x"],
            ["[1]: expected bool, got 1 (int)", "[2]: expected bool, got 'x' (str)"],
        ),
        (each(of(int), at_least=2), [1], ["expected at least 2 items, got 1"]),
        (each(of(int)), 3, ["expected a list, got 3 (int)"]),
        (keys(a=of(int)), {"a": 1, "b": 2}, []),
        (keys(a=of(bool), b=of(int)), {"a": 1}, ["['a']: expected bool, got 1 (int)", "['b']: is required"]),
        (keys(a=of(int)), 3, ["expected a mapping, got 3 (int)"]),
        (
            each(keys(a=each(optional(POSITIVE)))),
            [{"a": [1, None, -2]}, {}],
            ["[0]['a'][2]: expected a number > 0, got -2 (int)", "[1]['a']: is required"],
        ),
    ],
)
def test_checks_compose(check, value, messages):
    """Checks of checks report paths from the outside in."""
    assert [failure.text for failure in check(value)] == messages


def test_long_values_are_shortened():
    """A message stays readable whatever the value is."""
    (failure,) = of(int)("x" * 10_000)
    assert len(failure.text) < 120


def test_types_that_cannot_be_hashed_are_checked_too():
    """An odd annotation is compiled anew rather than refused."""
    from typing import Annotated

    assert validators.of(Annotated[int, {"odd": 1}])(3) == ()
