"""Checks of values: made from a type by `of`, put together by `all_of`, `any_of`, `optional`, `each` and `keys`.

A check is a function that returns what is wrong with a value, all of it, as a tuple of `Failure`; an empty
tuple means that nothing is. It never changes the value: what it lets pass is passed on as it is.
"""

from __future__ import annotations

import datetime as dt
import enum
import functools
import math
import numbers
import types
from collections.abc import Callable, Mapping
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen

from dspex.errors import Failure, shown
from dspex.native import constraints
from dspex.native.constraints import Matching
from dspex.native.shapes import Shape, is_array
from dspex.native.written import type_text

Check = Callable[[Any], tuple[Failure, ...]]

_NUMERIC: dict[type, type] = {int: numbers.Integral, float: numbers.Real}


def where(test: Callable[[Any], bool], expected: str, *, hint: str | None = None) -> Check:
    """Make a check of a predicate.

    Examples
    --------
    >>> where(str.isupper, "capitals")("abc")[0].text
    "expected capitals, got 'abc' (str)"
    """
    return lambda value: () if test(value) else (Failure("", expected, shown(value), hint),)


def all_of(*checks: Check) -> Check:
    """Pass what every check passes; the first that fails is reported, as later ones may build on it."""

    def check(value: Any) -> tuple[Failure, ...]:
        for one in checks:
            failures = one(value)
            if failures:
                return failures
        return ()

    return check


def any_of(*checks: Check) -> Check:
    """Pass what any check passes; if none does, say what each of them expected.

    Examples
    --------
    >>> any_of(of(bool), of(bytes))("x")[0].text
    "expected bool or bytes, got 'x' (str)"
    """

    def check(value: Any) -> tuple[Failure, ...]:
        missed: list[tuple[Failure, ...]] = []
        for one in checks:
            failures = one(value)
            if not failures:
                return ()
            missed.append(failures)
        # A value that got further than the door of one option was meant for that one.
        deep = [failures for failures in missed if any(failure.path for failure in failures)]
        if len(deep) == 1:
            return deep[0]
        expected = " or ".join(dict.fromkeys(failure.expected for failures in missed for failure in failures))
        return (
            Failure("", expected, shown(value), next((one[0].hint for one in missed if one[0].hint), None)),
        )

    return check


def optional(check: Check) -> Check:
    """Pass None, and what the check passes."""
    return lambda value: () if value is None else check(value)


def each(check: Check, *, at_least: int = 0) -> Check:
    """Apply a check to every item of a list, tuple or set.

    Examples
    --------
    >>> [failure.path for failure in each(of(int))([1, "2", 3, "4"])]
    ['[1]', '[3]']
    """

    def checked(value: Any) -> tuple[Failure, ...]:
        if not isinstance(value, list | tuple | set | frozenset):
            return (Failure("", "a list", shown(value)),)
        if len(value) < at_least:
            return (Failure("", f"at least {at_least} items", f"{len(value)}"),)
        return _items(value, check)

    return checked


def keys(**checks: Check) -> Check:
    """Apply a check to each named entry of a mapping; every entry named is required.

    Examples
    --------
    >>> [failure.text for failure in keys(price=of(float), name=of(str))({"price": "3"})]
    ["['price']: expected float, got '3' (str); a text is not read as a number", "['name']: is required"]
    """

    def checked(value: Any) -> tuple[Failure, ...]:
        if not isinstance(value, Mapping):
            return (Failure("", "a mapping", shown(value)),)
        failures: list[Failure] = []
        for name, check in checks.items():
            if name not in value:
                failures.append(Failure(f"[{name!r}]", "is required"))
            else:
                failures += [failure.under(f"[{name!r}]") for failure in check(value[name])]
        return tuple(failures)

    return checked


def of(annotation: Any) -> Check:
    """Return the check that a type asks for.

    An int passes for a float, and numpy's scalars for Python's; nothing else is taken for what it is not.
    Types that are no plain Python ones (pydantic models, dataclasses, typed dictionaries) are left to
    pydantic, in strict mode.

    Examples
    --------
    >>> of(list[int])([1, "2"])[0].text
    "[1]: expected int, got '2' (str); a text is not read as a number"
    """
    try:
        return _cached(annotation, repr(annotation))
    except TypeError:  # an annotation that cannot be hashed
        return _of(annotation)


@functools.lru_cache(maxsize=512)
def _cached(annotation: Any, _text: str) -> Check:
    # The text keeps Ge(0) and Ge(0.0), which are equal, in their own words.
    return _of(annotation)


def _of(annotation: Any) -> Check:
    bare, metadata = constraints.split(annotation)
    if metadata:
        return _constrained(annotation, bare, metadata)
    return _plain(bare) or _generic(bare) or _left_to_pydantic(bare)


def _plain(bare: Any) -> Check | None:
    """Return the check of a type without arguments."""
    if bare is Any or bare is object:
        return lambda _: ()
    if bare is None or bare is types.NoneType:
        return where(lambda value: value is None, "None")
    if bare is bool:
        return where(lambda value: isinstance(value, bool) or _is_numpy_bool(value), "bool")
    if bare in _NUMERIC:
        return _number(bare)
    if bare in (str, bytes, dt.datetime, dt.date):
        return _instance(bare)
    return _member(bare) if isinstance(bare, type) and issubclass(bare, enum.Enum) else None


def _generic(bare: Any) -> Check | None:
    """Return the check of a type that may have arguments."""
    origin, arguments = get_origin(bare) or bare, get_args(bare)
    if origin is Literal:
        return _literal(bare, arguments)
    if origin in (Union, types.UnionType):
        return any_of(*map(of, sorted(arguments, key=lambda one: one is types.NoneType)))
    return _COLLECTIONS[origin](bare, arguments) if origin in _COLLECTIONS else None


def _instance(kind: type) -> Check:
    """Make the check of a plain type; a datetime is no date, though Python says so."""

    def check(value: Any) -> tuple[Failure, ...]:
        if type(value) is kind or (
            isinstance(value, kind) and not (kind is dt.date and isinstance(value, dt.datetime))
        ):
            return ()
        hint = None
        if kind is str and value is not None:
            hint = f"write str({value!r})" if isinstance(value, int | float) else None
        elif kind in (dt.date, dt.datetime) and isinstance(value, str):
            hint = f"write {kind.__name__}.fromisoformat({shown(value).rpartition(' ')[0]})"
        return (Failure("", kind.__name__, shown(value), hint),)

    return check


def _number(kind: type) -> Check:
    abstract, name = _NUMERIC[kind], kind.__name__

    def check(value: Any) -> tuple[Failure, ...]:
        if type(value) is kind or (isinstance(value, abstract) and not isinstance(value, bool)):
            return ()
        hint = None
        if isinstance(value, str):
            hint = "a text is not read as a number"
        elif isinstance(value, bool):
            hint = "a truth value is not read as a number"
        elif isinstance(value, numbers.Real) and math.isfinite(value):
            hint = "round it first: a fraction is not cut off"
        return (Failure("", name, shown(value), hint),)

    return check


def _literal(bare: Any, options: tuple[Any, ...]) -> Check:
    allowed = {(type(option), option) for option in options}
    name = type_text(bare)

    def check(value: Any) -> tuple[Failure, ...]:
        try:
            if (type(value), value) in allowed:
                return ()
        except TypeError:  # cannot be hashed, so it is none of them
            pass
        return (Failure("", name, shown(value), _nearest(value, options)),)

    return check


def _nearest(value: Any, options: tuple[Any, ...]) -> str | None:
    from dspex.errors import did_you_mean

    same = [option for option in options if str(option) == str(value)]
    if same:
        return f"did you mean {same[0]!r}?"
    if not isinstance(value, str):
        return None
    return did_you_mean(value.strip(), [option for option in options if isinstance(option, str)])


def _member(kind: type[enum.Enum]) -> Check:
    names = ", ".join(f"{kind.__name__}.{member.name}" for member in kind)

    def check(value: Any) -> tuple[Failure, ...]:
        if isinstance(value, kind):
            return ()
        meant = [member for member in kind if value in (member.value, member.name)]
        return (Failure("", names, shown(value), f"did you mean {meant[0]}?" if meant else None),)

    return check


def _constrained(annotation: Any, bare: Any, metadata: tuple[Any, ...]) -> Check:
    shapes = [one for one in metadata if isinstance(one, Shape)]
    if shapes:
        return all_of(*(shape.check for shape in shapes))
    if not all(isinstance(one, Ge | Gt | Le | Lt | MinLen | MaxLen | Matching) for one in metadata):
        return _left_to_pydantic(annotation)
    expected = type_text(annotation)
    if " " not in expected:  # a name of ours, such as probability
        expected += f" ({type_text(bare)} {constraints.written(metadata)})"
    fits = [_fit(one) for one in metadata]

    def check(value: Any) -> tuple[Failure, ...]:
        if value is None or all(fit(value) for fit in fits):
            return ()
        return (Failure("", expected, shown(value)),)

    return all_of(of(bare), check)


def _fit(constraint: Any) -> Callable[[Any], bool]:
    if isinstance(constraint, Matching):
        return constraint.fits
    (bound,) = constraints.vars_of(constraint)
    tests: dict[type, Callable[[Any], bool]] = {
        Ge: lambda value: value >= bound,
        Gt: lambda value: value > bound,
        Le: lambda value: value <= bound,
        Lt: lambda value: value < bound,
        MinLen: lambda value: len(value) >= bound,
        MaxLen: lambda value: len(value) <= bound,
    }
    return tests[type(constraint)]


def _items(values: Any, check: Check) -> tuple[Failure, ...]:
    failures: list[Failure] = []
    for k, value in enumerate(values):
        found = check(value)
        if found:
            failures += [failure.under(f"[{k}]") for failure in found]
    return tuple(failures)


def _collection(kind: type) -> Callable[[Any, tuple[Any, ...]], Check]:
    def make(bare: Any, arguments: tuple[Any, ...]) -> Check:
        name = type_text(bare)
        item = of(arguments[0]) if arguments else None

        def check(value: Any) -> tuple[Failure, ...]:
            if not isinstance(value, kind):
                return (Failure("", name, shown(value), _how_to_list(value, kind)),)
            return () if item is None else _items(value, item)

        return check

    return make


def _how_to_list(value: Any, kind: type) -> str | None:
    if is_array(value):
        return "write .tolist()"
    if isinstance(value, list | tuple | set):
        return f"write {kind.__name__}(...)"
    return f"write [{value!r}]" if kind is list and isinstance(value, str) and len(value) < 20 else None  # noqa: PLR2004  # as fits on a line


def _mapping(bare: Any, arguments: tuple[Any, ...]) -> Check:
    name = type_text(bare)
    of_key, of_value = map(of, arguments) if arguments else (None, None)

    def check(value: Any) -> tuple[Failure, ...]:
        if not isinstance(value, dict):
            return (Failure("", name, shown(value)),)
        failures: list[Failure] = []
        if of_key is not None and of_value is not None:
            for key, one in value.items():
                failures += [failure.under(f" key {key!r}") for failure in of_key(key)]
                failures += [failure.under(f"[{key!r}]") for failure in of_value(one)]
        return tuple(failures)

    return check


def _tuple(bare: Any, arguments: tuple[Any, ...]) -> Check:
    if not arguments or arguments[-1] is Ellipsis:
        return _collection(tuple)(bare, arguments[:1])
    name, checks = type_text(bare), list(map(of, arguments))

    def check(value: Any) -> tuple[Failure, ...]:
        if not isinstance(value, tuple) or len(value) != len(checks):
            hint = None if isinstance(value, tuple) else _how_to_list(value, tuple)
            return (Failure("", name, shown(value), hint),)
        return tuple(failure.under(f"[{k}]") for k, one in enumerate(checks) for failure in one(value[k]))

    return check


_COLLECTIONS: dict[type, Callable[[Any, tuple[Any, ...]], Check]] = {
    list: _collection(list),
    set: _collection(set),
    frozenset: _collection(frozenset),
    tuple: _tuple,
    dict: _mapping,
}


def _left_to_pydantic(annotation: Any) -> Check:
    from pydantic import TypeAdapter, ValidationError
    from pydantic.errors import PydanticSchemaGenerationError

    name = type_text(annotation)
    try:
        validate = TypeAdapter(annotation).validate_python
    except PydanticSchemaGenerationError:
        # A class that pydantic knows nothing of: being one is all that can be asked.
        return (
            where(lambda value: isinstance(value, annotation), name)
            if isinstance(annotation, type)
            else lambda _: ()
        )

    def check(value: Any) -> tuple[Failure, ...]:
        try:
            validate(value, strict=True)
        except ValidationError as error:
            return tuple(_translated(one, name) for one in error.errors(include_url=False))
        return ()

    return check


def _translated(error: Any, name: str) -> Failure:
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error["loc"])
    if error["type"] == "missing":
        return Failure(path, "is required")
    if not path:
        return Failure(path, name, shown(error["input"]))
    said = error["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    return Failure(path, said, shown(error["input"]))


def _is_numpy_bool(value: Any) -> bool:
    return type(value).__module__ == "numpy" and type(value).__name__ in {"bool", "bool_"}
