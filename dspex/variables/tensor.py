"""Arrays of numbers as variables: embeddings and tensors, whole or in a small subspace."""

from __future__ import annotations

import itertools
import math
import random
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, ClassVar

from dspex.errors import VariableError
from dspex.variables.protocol import Coding, Kind, conditions_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from dspex.variables.protocol import Scale

_NEAR = 0.1
_TOLERANCE = 1e-6
_GAUSS = NormalDist()
_TYPES = {"float": (int, float), "int": (int,)}


class Tensor(Kind):
    """An array of numbers of a fixed shape, as lists within lists; numpy's and torch's are taken too.

    Parameters
    ----------
    shape
        How many numbers along each axis.
    dtype
        "float" or "int".
    low, high
        Bounds of every number.
    default
        Array of the program as it stands; all in the middle if left out.
    rank
        Search only a random subspace of so many dimensions around the default. A configuration then holds
        `rank` coordinates in [-1, 1], and `resolve` gives the array; a whole array is a value too.
    seed
        Of the subspace.

    Notes
    -----
    The unit cube has one column a number, or one a coordinate. A whole array in a space with a `rank` is
    encoded as its projection, so that only coordinates come back as they were.

    References
    ----------
    Wang et al. (2016), "Bayesian optimization in a billion dimensions via random embeddings" (REMBO).

    Examples
    --------
    >>> Tensor((2, 2)).problem_with([[0.5, 0.1], [0.2]])
    'must have shape (2, 2), got a ragged list: row [1] has 1, row [0] has 2'
    >>> Tensor((100, 100), rank=2).default
    [0.0, 0.0]
    """

    kind: ClassVar[str] = "tensor"

    def __init__(
        self,
        shape: Sequence[int],
        *,
        dtype: str = "float",
        low: float = -1.0,
        high: float = 1.0,
        default: Any = None,
        rank: int | None = None,
        seed: int = 0,
        when: Mapping[str, Any] | None = None,
    ) -> None:
        self.shape = tuple([shape] if isinstance(shape, int) else shape)
        self.dtype, self.low, self.high, self.rank, self.seed = dtype, low, high, rank, seed
        self.when = conditions_of(when or {})
        self._check_definition()
        self.size: int = math.prod(self.shape)
        self.width = self.size if rank is None else rank
        self.centre: list[float] = self._middle() if default is None else self._flat(default)
        self.default: Any = self._rows(self.centre) if rank is None else [0.0] * rank

    def _check_definition(self) -> None:
        if not self.shape or any(not _is_whole(size) or size < 1 for size in self.shape):
            raise VariableError(f"a shape is whole numbers >= 1, got {self.shape}")
        if self.dtype not in _TYPES:
            raise VariableError(f"a dtype is {' or '.join(_TYPES)}, got {self.dtype!r}")
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise VariableError(f"low must be < high, got low={self.low}, high={self.high}")
        if self.dtype == "int" and not self._whole_numbers:
            raise VariableError(f"there is no whole number in [{self.low:g}, {self.high:g}]")
        size = math.prod(self.shape)
        if self.rank is not None and not (_is_whole(self.rank) and 1 <= self.rank < size):
            raise VariableError(
                f"a rank is a whole number from 1 to below the {size} numbers there are, got {self.rank!r}"
            )

    def _middle(self) -> list[float]:
        return [self._number((self.low + self.high) / 2)] * self.size

    def _flat(self, default: Any) -> list[float]:
        problem = self._whole_problem(_as_lists(default))
        if problem is not None:
            raise VariableError(f"the default {problem}")
        return list(_leaves(_as_lists(default)))

    @property
    def scale(self) -> Scale:
        """Real numbers are continuous, whole ones ordered."""
        return "continuous" if self.dtype == "float" or self.rank is not None else "ordered"

    @property
    def n_values(self) -> float:
        """How many values there are."""
        if self.scale == "continuous":
            return math.inf
        try:
            return float(len(self._whole_numbers)) ** self.size
        except OverflowError:  # more than anybody will count
            return math.inf

    def problem_with(self, value: object) -> str | None:
        """Say what is wrong with a value, or None."""
        value = _as_lists(value)
        if self.rank is not None and isinstance(value, (list, tuple)) and _shape(value) == (self.rank,):
            wrong = [each for each in value if not _is_number(each) or not -1 <= each <= 1]
            return f"must have coordinates in [-1, 1], got {wrong[0]!r}" if wrong else None
        return self._whole_problem(value)

    def _whole_problem(self, value: Any) -> str | None:
        expected = f"must have shape {self.shape}"
        if not isinstance(value, (list, tuple)):
            return f"{expected}, got {value!r}"
        ragged = _ragged(value, "")
        if ragged is not None:
            return f"{expected}, got a ragged list: {ragged}"
        if _shape(value) != self.shape:
            return f"{expected}, got shape {_shape(value)}"
        for each in _leaves(value):
            if not _is_number(each) or not isinstance(each, _TYPES[self.dtype]):
                return f"must hold {'whole ' if self.dtype == 'int' else ''}numbers, got {each!r}"
            if not self.low <= each <= self.high:
                return f"must hold numbers in [{self.low:g}, {self.high:g}], got {each!r}"
        return None

    def canonical(self, value: Any) -> Any:
        """Return lists of numbers."""
        value = _as_lists(value)
        if _shape(value) != self.shape:
            return [float(each) for each in value]
        return self._rows([self._number(each) for each in _leaves(value)])

    def resolve(self, value: Any) -> Any:
        """Return the array as lists within lists."""
        value = self.canonical(value)
        return value if _shape(value) == self.shape else self._made(self._spanned(value))

    @property
    def _whole_numbers(self) -> range:
        return range(math.ceil(self.low), math.floor(self.high) + 1)

    def grid(self, resolution: int) -> list[Any]:
        """Return every array if there are so few, or else the default alone: a grid would have no end."""
        if self.n_values > resolution:
            return [self.default]
        return [self._rows(each) for each in itertools.product(self._whole_numbers, repeat=self.size)]

    def neighbours(self, value: Any) -> list[Any]:
        """Return the values a tenth of the scale away along each column."""
        places, decode = self.encode(value), self.coding().decode
        moved = (
            decode([*places[:k], min(1.0, max(0.0, places[k] + shift)), *places[k + 1 :]])
            for k in range(self.width)
            for shift in (-_NEAR, _NEAR)
        )
        return [each for each in moved if each != self.canonical(value)]

    def coding(self) -> Coding:
        """Return the ways to the unit cube: one column a number or a coordinate."""
        return self._whole() if self.rank is None else self._in_subspace()

    def _whole(self) -> Coding:
        low, high = self.low, self.high
        if self.dtype == "int":  # a bin of equal size for each number
            low, high = math.ceil(low) - 0.5, math.floor(high) + 0.5
        span = high - low

        def encode(value: Any) -> list[float]:
            return [(each - low) / span for each in _leaves(_as_lists(value))]

        def decode(places: Sequence[float]) -> Any:
            return self._made([self._number(low + place * span) for place in places])

        return Coding(encode, decode, lambda uniform: self._drawn(uniform, decode))

    def _drawn(self, uniform: Callable[[], float], decode: Callable[[Sequence[float]], Any]) -> Any:
        return decode([uniform() for _ in range(self.size)])

    def _in_subspace(self) -> Coding:
        def encode(value: Any) -> list[float]:
            value = self.canonical(value)
            if _shape(value) == self.shape:
                value = self._projected(list(_leaves(value)))
            return [(each + 1) / 2 for each in value]

        def decode(places: Sequence[float]) -> list[float]:
            return [2 * min(1.0, max(0.0, place)) - 1 for place in places]

        return Coding(encode, decode, lambda uniform: decode([uniform() for _ in range(self.width)]))

    def _spanned(self, coordinates: Sequence[float]) -> list[float]:
        """Return the array at some coordinates of the subspace: the default plus their sum of directions."""
        moved = list(self.centre)
        for coordinate, direction in zip(coordinates, self._directions(), strict=True):
            moved = [each + coordinate * part for each, part in zip(moved, direction, strict=True)]
        return [self._number(each) for each in moved]

    def _projected(self, numbers: Sequence[float]) -> list[float]:
        away = [number - middle for number, middle in zip(numbers, self.centre, strict=True)]
        reach = self._reach**2
        return [
            min(1.0, max(-1.0, sum(a * d for a, d in zip(away, direction, strict=True)) / reach))
            for direction in self._directions()
        ]

    @property
    def _reach(self) -> float:
        """How far a coordinate of 1 goes: numbers then move by half their range, as a root mean square."""
        return (self.high - self.low) / 2 * math.sqrt(self.size)

    def _directions(self) -> list[list[float]]:
        """Draw orthogonal directions of length `_reach` (Gram and Schmidt)."""
        rng = random.Random(self.seed)
        found: list[list[float]] = []
        for _ in range(self.width):
            drawn = [rng.gauss(0, 1) for _ in range(self.size)]
            for other in found:
                share = sum(a * b for a, b in zip(drawn, other, strict=True))
                drawn = [a - share * b for a, b in zip(drawn, other, strict=True)]
            length = math.sqrt(sum(each * each for each in drawn))
            found.append([each / length for each in drawn])
        return [[self._reach * each for each in direction] for direction in found]

    def _number(self, value: float) -> Any:
        within = min(self.high, max(self.low, value))
        if self.dtype == "float":
            return float(within)
        return min(math.floor(self.high), max(math.ceil(self.low), round(within)))

    def _made(self, numbers: Sequence[Any]) -> Any:
        """Make a value of numbers that were computed."""
        return self._rows(numbers)

    def _rows(self, numbers: Sequence[Any]) -> Any:
        rows = list(numbers)
        for size in reversed(self.shape[1:]):
            rows = [rows[k : k + size] for k in range(0, len(rows), size)]
        return rows

    def schema(self) -> dict[str, Any]:
        """Describe the values as a JSON schema."""
        inner: dict[str, Any] = {"type": "number"}
        for size in (self.rank,) if self.rank is not None else reversed(self.shape):
            inner = {"type": "array", "items": inner, "minItems": size, "maxItems": size}
        return {**inner, "default": self.default}

    def content(self) -> dict[str, Any]:
        """Describe the variable as JSON."""
        return {
            "kind": self.kind,
            "shape": list(self.shape),
            "dtype": self.dtype,
            "low": self.low,
            "high": self.high,
            "default": self._rows(self.centre),
            "rank": self.rank,
            "seed": self.seed,
            "when": {name: list(values) for name, values in self.when.items()},
        }

    def __repr__(self) -> str:
        said = f"{self.shape!r}, dtype={self.dtype!r}, low={self.low!r}, high={self.high!r}"
        if self.rank is not None:
            said += f", rank={self.rank!r}, seed={self.seed!r}"
        return f"{type(self).__name__}({said}){self._suffix()}"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.content() == self.content()

    def __hash__(self) -> int:
        return hash(repr(self))


class Embedding(Tensor):
    """A vector of real numbers, of length 1 if `normalised`.

    Parameters
    ----------
    dims
        How many numbers.
    normalised
        Whether its length is 1. The unit cube then holds every direction many times: decoding divides by the
        length, so that encoding is not undone exactly.

    Examples
    --------
    >>> Embedding(3, normalised=True).problem_with([1.0, 1.0, 0.0])
    'must have length 1, got 1.41421'
    """

    kind: ClassVar[str] = "embedding"

    def __init__(self, dims: int, *, normalised: bool = False, default: Any = None, **settings: Any) -> None:
        self.normalised = normalised
        super().__init__((dims,), default=default, **settings)

    def _middle(self) -> list[float]:
        return [1.0, *[0.0] * (self.size - 1)] if self.normalised else super()._middle()

    def _whole_problem(self, value: Any) -> str | None:
        problem = super()._whole_problem(value)
        if problem is not None or not self.normalised:
            return problem
        length = math.hypot(*value)
        return None if abs(length - 1) <= _TOLERANCE else f"must have length 1, got {length:g}"

    def _drawn(self, uniform: Callable[[], float], decode: Callable[[Sequence[float]], Any]) -> Any:
        if not self.normalised:
            return super()._drawn(uniform, decode)
        # Every direction is as likely as any other, which a cube's corners would spoil.
        return self._made([_GAUSS.inv_cdf(1 - uniform()) for _ in range(self.size)])

    def _made(self, numbers: Sequence[Any]) -> Any:
        if not self.normalised:
            return list(numbers)
        length = math.hypot(*numbers)
        return [each / length for each in numbers] if length > 0 else list(self.centre)

    def content(self) -> dict[str, Any]:
        """Describe the variable as JSON."""
        said = super().content()
        (dims,) = said.pop("shape")
        del said["dtype"]
        return {**said, "dims": dims, "normalised": self.normalised}


def _as_lists(value: Any) -> Any:
    """Return an array or tensor as lists, known by what it has: neither library is imported here."""
    return value.tolist() if hasattr(value, "tolist") and hasattr(value, "shape") else value


def _shape(value: Any) -> tuple[int, ...]:
    sizes = []
    while isinstance(value, (list, tuple)):
        sizes.append(len(value))
        if not value:
            break
        value = value[0]
    return tuple(sizes)


def _ragged(value: Any, path: str) -> str | None:
    """Name the first row that differs from its neighbours."""
    shapes = [_shape(each) for each in value]
    for k, found in enumerate(shapes):
        if found != shapes[0]:
            said = [" x ".join(map(str, each)) or "a number" for each in (found, shapes[0])]
            return f"row {path}[{k}] has {said[0]}, row {path}[0] has {said[1]}"
    deeper = (
        _ragged(each, f"{path}[{k}]") for k, each in enumerate(value) if isinstance(each, (list, tuple))
    )
    return next((each for each in deeper if each is not None), None)


def _leaves(value: Any) -> Iterator[Any]:
    for each in value:
        if isinstance(each, (list, tuple)):
            yield from _leaves(each)
        else:
            yield each


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
