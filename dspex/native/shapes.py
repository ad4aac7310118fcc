"""Arrays of numbers of a fixed shape: numpy's, torch's, or lists within lists.

An array is known by what it has (``shape``, ``dtype``, ``tolist``), so neither library is imported here.
"""

from __future__ import annotations

import numbers
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from dspex.errors import Failure, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

_KINDS = {"float": ("float", "int", "uint", "bfloat"), "int": ("int", "uint")}


@dataclass(frozen=True, slots=True)
class Shape:
    """How many numbers along each axis, and of which kind; pydantic checks it where it annotates a type.

    Examples
    --------
    >>> Shape((3, None)).check([[1.0], [2.0]])[0].text
    'expected tensor(3, *), got shape (2, 1)'
    """

    sizes: tuple[int | None, ...]
    """None stands for any number of them."""
    dtype: Literal["float", "int"] = "float"

    def __str__(self) -> str:
        sizes = ", ".join("*" if size is None else str(size) for size in self.sizes)
        if len(self.sizes) == 1 and self.dtype == "float":
            return f"embedding({sizes})"
        return f"tensor({sizes}{', int' if self.dtype == 'int' else ''})"

    @property
    def constraint(self) -> str:
        """What a prompt says about it."""
        sizes = " x ".join("any" if size is None else str(size) for size in self.sizes)
        return f"shape: {sizes}"

    @property
    def annotation(self) -> Any:
        """The lists of numbers that it constrains."""
        inner: Any = int if self.dtype == "int" else float
        for _ in self.sizes:
            inner = list[inner]
        return inner

    def check(self, value: Any) -> tuple[Failure, ...]:
        """Return what is wrong with a value, all of it."""
        if is_array(value):
            return self._check_array(value)
        if not isinstance(value, list | tuple):
            return (Failure("", str(self), shown(value), "give a list, a numpy array or a torch tensor"),)
        wrong = tuple(_entries(value, self, "", 0))
        return wrong or self._check_sizes(_lengths(value, len(self.sizes)))

    def _check_array(self, value: Any) -> tuple[Failure, ...]:
        dtype = str(value.dtype).rpartition(".")[2]
        if not dtype.startswith(_KINDS[self.dtype]):
            return (Failure("", str(self), f"dtype {dtype}", f"give numbers: .astype({self.dtype})"),)
        return self._check_sizes(tuple(value.shape))

    def _check_sizes(self, sizes: tuple[int, ...]) -> tuple[Failure, ...]:
        if len(sizes) == len(self.sizes) and all(
            wanted in (None, size) for wanted, size in zip(self.sizes, sizes, strict=True)
        ):
            return ()
        return (Failure("", str(self), f"shape {sizes}"),)

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Let pydantic check the shape, and take arrays as lists."""
        from pydantic_core import core_schema

        def as_lists(value: Any) -> Any:
            failures = self.check(value)
            if failures:
                raise ValueError("; ".join(failure.text for failure in failures))
            return value.tolist() if is_array(value) else value

        return core_schema.no_info_before_validator_function(as_lists, handler(source))

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        """Tell models how long each list must be."""
        made: dict[str, Any] = handler(schema)
        level = made
        for size in self.sizes:
            if size is not None:
                level.update(minItems=size, maxItems=size)
            level = level["items"]
        return made


def is_array(value: Any) -> bool:
    """Say whether a value is an array or tensor."""
    return (
        hasattr(value, "dtype")
        and hasattr(value, "tolist")
        and isinstance(getattr(value, "shape", None), tuple)
    )


def _entries(value: Any, shape: Shape, path: str, depth: int) -> Iterator[Failure]:
    """Name the entries that are no numbers, and the lists that differ in length from their neighbours."""
    if depth == len(shape.sizes):
        kind = numbers.Integral if shape.dtype == "int" else numbers.Real
        if isinstance(value, bool) or not isinstance(value, kind):
            yield Failure(path, "an int" if shape.dtype == "int" else "a number", shown(value))
        return
    if is_array(value):
        value = value.tolist()
    if not isinstance(value, list | tuple):
        yield Failure(path, "a list", shown(value))
        return
    for k, each in enumerate(value):
        yield from _entries(each, shape, f"{path}[{k}]", depth + 1)
    if depth + 1 < len(shape.sizes):
        lengths = [len(each) for each in value if hasattr(each, "__len__")]
        for k, length in enumerate(lengths):
            if length != lengths[0]:
                ragged = f"a ragged list: {length} here, {lengths[0]} at {path}[0]"
                yield Failure(f"{path}[{k}]", str(shape), ragged)


def _lengths(value: Any, depth: int) -> tuple[int, ...]:
    sizes: list[int] = []
    while hasattr(value, "__len__") and len(sizes) < depth:
        sizes.append(len(value))
        if not len(value):
            break
        value = value[0]
    return tuple(sizes)
