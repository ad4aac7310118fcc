"""Whether what one task puts out can go into another."""

from __future__ import annotations

from typing import Any, Literal, get_args, get_origin

from dspex.native import constraints
from dspex.native.shapes import Shape

_WIDER: dict[type, tuple[type, ...]] = {bool: (bool,), int: (int, float)}


def fits(producer: Any, consumer: Any) -> bool:
    """Say whether every value of one type is one of the other, as far as types tell.

    Bounds and patterns are not compared: they are checked when values flow. Shapes are.

    Examples
    --------
    >>> fits(list[int], list[float]), fits(float, int), fits(Literal["a"], Literal["a", "b"])
    (True, False, True)
    """
    (made, made_facts), (wanted, wanted_facts) = constraints.split(producer), constraints.split(consumer)
    if wanted in (Any, object) or made is Any:
        return True
    options = constraints.options_of(made)
    if len(options) > 1:
        return all(fits(option, consumer) for option in options)
    if not _shapes_fit(made_facts, wanted_facts):
        return False
    return any(_single_fits(options[0], option) for option in constraints.options_of(wanted))


def _shapes_fit(made: tuple[Any, ...], wanted: tuple[Any, ...]) -> bool:
    known = [fact for fact in made if isinstance(fact, Shape)]
    needed = [fact for fact in wanted if isinstance(fact, Shape)]
    if not (known and needed):
        return True
    return len(known[0].sizes) == len(needed[0].sizes) and all(
        None in (size, other) or size == other
        for size, other in zip(known[0].sizes, needed[0].sizes, strict=True)
    )


def _single_fits(made: Any, wanted: Any) -> bool:
    if wanted is Any or made == wanted:
        return True
    if get_origin(made) is Literal:
        return _literal_fits(get_args(made), wanted)
    made_kind, wanted_kind = get_origin(made) or made, get_origin(wanted) or wanted
    if not (isinstance(made_kind, type) and isinstance(wanted_kind, type)):
        return False
    if made_kind in _WIDER:  # bool is a subclass of int for Python only
        return wanted_kind in (*_WIDER[made_kind], object)
    return issubclass(made_kind, wanted_kind) and _arguments_fit(made_kind, get_args(made), get_args(wanted))


def _literal_fits(made: tuple[Any, ...], wanted: Any) -> bool:
    if get_origin(wanted) is Literal:
        allowed = {(type(one), one) for one in get_args(wanted)}
        return all((type(one), one) in allowed for one in made)
    return all(_single_fits(type(one), wanted) for one in made)


def _arguments_fit(kind: type, made: tuple[Any, ...], wanted: tuple[Any, ...]) -> bool:
    if not (made and wanted):  # bare list: the items are not known, and may fit
        return True
    if kind is tuple:
        made, wanted = _spread(made, len(wanted)), _spread(wanted, len(made))
    return len(made) == len(wanted) and all(map(fits, made, wanted))


def _spread(arguments: tuple[Any, ...], length: int) -> tuple[Any, ...]:
    """Write ``tuple[int, ...]`` out to a length."""
    if len(arguments) == 2 and arguments[1] is Ellipsis:  # noqa: PLR2004  # a type and the dots
        return (arguments[0],) * max(length, 1) if length else arguments
    return arguments
