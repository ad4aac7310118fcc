"""Numbers: whole or real, on a linear or a logarithmic scale, in steps or not."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self

from dspex.errors import VariableError
from dspex.variables.priors import Normal
from dspex.variables.protocol import Coding, Conditions, Kind, Scale, check_default, conditions_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_NEAR = 0.1
"""How far a continuous variable's neighbours are, as a share of its scale."""

_FEW = 1000
"""Up to so many steps are worked out beforehand."""


@dataclass(frozen=True, repr=False)
class _Number(Kind):
    """What Float and Int share: a range on a linear or logarithmic scale."""

    low: Any
    high: Any
    default: Any = None
    log: bool = False
    step: Any = None
    prior: Normal | None = None
    when: Conditions = field(default_factory=dict, hash=False, kw_only=True)

    usual: ClassVar[float | None] = None
    """What a special kind has for a default, where the bounds allow it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "when", conditions_of(self.when))
        _check_range(self.low, self.high, self.step)
        if self.log and self.low <= 0:
            raise VariableError(f"a log scale needs low > 0, got low={self.low}")
        if self.prior is not None and not isinstance(self.prior, Normal):
            raise VariableError(f"a prior is Normal(mean, sd), got {self.prior!r}", hint="Normal(0.7, 0.2)")
        if self.prior is not None and self.log and self.prior.mean <= 0:
            raise VariableError(f"on a log scale a prior needs mean > 0, got mean={self.prior.mean}")

    def __repr__(self) -> str:
        said = [
            f"{each.name}={getattr(self, each.name)!r}"
            for each in fields(self)[2:]
            if each.name != "when" and getattr(self, each.name) != self._unsaid(each.name)
        ]
        return f"{type(self).__name__}({', '.join([f'{self.low!r}, {self.high!r}', *said])}){self._suffix()}"

    def _unsaid(self, name: str) -> Any:
        if name == "default":
            return self._usual()
        return {each.name: each.default for each in fields(self)}[name]

    def _usual(self) -> Any:
        raise NotImplementedError

    @property
    def scale(self) -> Scale:
        """Steps and whole numbers are ordered, real numbers continuous."""
        return "continuous" if math.isinf(self.n_values) else "ordered"

    @property
    def n_values(self) -> float:
        """How many values there are."""
        raise NotImplementedError

    def neighbours(self, value: Any) -> list[Any]:
        """Return the values a tenth of the scale away, and those a step away."""
        place, decode = self.encode(value), self.coding().decode
        around = {decode(min(1.0, max(0.0, place + shift))) for shift in (-_NEAR, _NEAR)}
        if self.step is not None:
            stepped = (value - self.step, value + self.step)
            around |= {self.canonical(each) for each in stepped if self.problem_with(each) is None}
        return sorted(around - {self.canonical(value)})

    def problem_with(self, value: object) -> str | None:
        """Say what is wrong with a value, or None."""
        raise NotImplementedError

    def schema(self) -> dict[str, Any]:
        """Describe the values as a JSON schema."""
        return {"minimum": self.low, "maximum": self.high, "default": self.default}

    def content(self) -> dict[str, Any]:
        """Describe the variable as JSON."""
        said: dict[str, Any] = {"kind": self.kind}
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name == "prior" and value is not None:
                value = {"mean": value.mean, "sd": value.sd}
            said[each.name] = value
        return {**said, "when": {name: list(values) for name, values in self.when.items()}}

    @classmethod
    def from_dict(cls, arguments: Mapping[str, Any]) -> Self:
        """Make it from what `to_dict` said."""
        prior = arguments.get("prior")
        return cls(**{**arguments, "prior": None if prior is None else Normal(**prior)})

    def _warp(self, place: Callable[[float], float], span: float) -> Callable[[float], float]:
        """Turn uniform draws into the prior's, within the unit cube; `span` is the scale's length."""
        if self.prior is None:
            return lambda share: share
        warp = self.prior.within(place, span)
        if warp is None:
            raise VariableError(f"the prior {self.prior} leaves nothing in [{self.low}, {self.high}]")
        return warp


@dataclass(frozen=True, repr=False)
class Float(_Number):
    """A real number in ``[low, high]``.

    Parameters
    ----------
    low, high
        Bounds, inclusive.
    default
        Value of the program as it stands; the middle of the range if left out.
    log
        Search on a logarithmic scale; `low` must then be positive.
    step
        The precision: only ``low + k * step``.
    prior
        Where good values are likely; draws follow it, the unit cube does not.

    Examples
    --------
    >>> Float(0.0, 1.5, default=0.7)
    Float(0.0, 1.5, default=0.7)
    >>> Float(1.0, 16.0, log=True).decode(0.5), Float(0.0, 1.0, step=0.25).decode(0.5)
    (4.0, 0.5)
    """

    low: float
    high: float
    default: float | None = None
    step: float | None = None

    kind: ClassVar[str] = "float"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.log and self.step is not None:
            raise VariableError(f"a log scale has no step, got step={self.step}")
        if self.default is None:
            object.__setattr__(self, "default", self._usual())
        check_default(self)
        for name in ("low", "high", "default", "step"):
            value = getattr(self, name)
            # 1 and 1.0 are one number, and make one key.
            object.__setattr__(self, name, None if value is None else float(value))
        object.__setattr__(self, "default", self._on_step(self.default))
        self.coding()

    def _usual(self) -> float:
        middle = math.sqrt(self.low * self.high) if self.log else (self.low + self.high) / 2
        usual = middle if self.usual is None else self.usual
        return float(self._on_step(min(self.high, max(self.low, usual))))

    @property
    def n_values(self) -> float:
        """How many values there are."""
        return math.inf if self.step is None else self._n_steps + 1

    @property
    def _n_steps(self) -> int:
        assert self.step is not None
        return math.floor((self.high - self.low) / self.step + 1e-9)

    def problem_with(self, value: object) -> str | None:
        """Say what is wrong with a value, or None."""
        if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
            return f"must be a number, got {value!r}"
        if not self.low <= value <= self.high:
            return f"must be in [{self.low:g}, {self.high:g}], got {value!r}"
        if self.step is not None and not math.isclose(self._on_step(value), value, abs_tol=1e-9):
            return f"must be {self.low:g} plus a multiple of {self.step:g}, got {value!r}"
        return None

    def canonical(self, value: Any) -> float:
        """Return the float, on its exact step."""
        return float(self._on_step(value))

    def grid(self, resolution: int) -> list[Any]:
        """Return every step, or `resolution` values evenly spaced on its scale."""
        n = int(min(self.n_values, resolution))
        if n == 1:
            return [self.default]
        if self.step is not None:
            return [self.at_step(round(k * self._n_steps / (n - 1))) for k in range(n)]
        decode = self.coding().decode
        return sorted({decode(k / (n - 1)) for k in range(n)})

    def coding(self) -> Coding:
        """Return the ways to the unit cube: linear or logarithmic, and one bin a step."""
        return self._stepped() if self.step is not None else self._continuous()

    def _continuous(self) -> Coding:
        low, high, log, exp = self.low, self.high, math.log, math.exp
        if self.log:
            start, span = log(low), log(high) - log(low)

            def encode(value: float) -> float:
                return (log(value) - start) / span

            def decode(share: float) -> float:
                value = exp(start + share * span)
                # Only the ends themselves are exact: exp does not quite undo log.
                return low if share <= 0 or value < low else high if share >= 1 or value > high else value
        else:
            start, span = low, high - low

            def encode(value: float) -> float:
                return (value - low) / span

            def decode(share: float) -> float:
                value = low + share * span
                return low if value < low else value if value < high else high  # noqa: FURB136  # a call takes longer

        warp = self._warp(encode, span)
        if self.prior is None:
            return Coding(encode, decode, lambda uniform: decode(uniform()))
        return Coding(encode, decode, lambda uniform: decode(warp(uniform())))

    def _stepped(self) -> Coding:
        low, step, n, at_step = self.low, self.step, int(self.n_values), self.at_step
        assert step is not None
        values = [at_step(k) for k in range(n)] if n <= _FEW else None

        # Comparisons rather than min and max: a space decodes thousands of points.
        def encode(value: float) -> float:
            k = round((value - low) / step)
            return ((k if k < n else n - 1) + 0.5) / n

        def decode(share: float) -> float:
            k = int(share * n)
            k = 0 if k < 0 else k if k < n else n - 1
            return at_step(k) if values is None else values[k]

        warp = self._warp(lambda value: ((value - low) / step + 0.5) / n, n * step)
        return Coding(encode, decode, lambda uniform: decode(warp(uniform())))

    def schema(self) -> dict[str, Any]:
        """Describe the values as a JSON schema."""
        return {"type": "number", **super().schema()}

    def _on_step(self, value: Any) -> Any:
        if self.step is None:
            return value
        return self.at_step(min(self._n_steps, round((value - self.low) / self.step)))

    def at_step(self, k: int) -> float:
        """Return ``low + k * step`` as one would write it: 0.3 rather than 0.1 + 0.2, and never past `high`."""
        assert self.step is not None
        return min(self.high, round(self.low + k * self.step, self._decimals))

    @cached_property
    def _decimals(self) -> int:
        """How many decimals the steps need."""
        written = (Decimal(repr(float(each))).as_tuple().exponent for each in (self.low, self.step or 1.0))
        return max(-exponent for exponent in written if isinstance(exponent, int))


@dataclass(frozen=True, repr=False)
class Int(_Number):
    """A whole number in ``[low, high]``, both included, `low` by default.

    On a log scale each number has the share that its unit interval has of the logarithm.

    Examples
    --------
    >>> Int(0, 8, step=2).grid(9)
    [0, 2, 4, 6, 8]
    """

    low: int
    high: int
    default: int | None = None
    step: int = 1

    kind: ClassVar[str] = "int"

    def __post_init__(self) -> None:
        for name in ("low", "high", "step"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise VariableError(f"an Int's {name} must be a whole number, got {value!r}")
        super().__post_init__()
        if self.log and self.step != 1:
            raise VariableError(f"a log scale has no step, got step={self.step}")
        if self.default is None:
            object.__setattr__(self, "default", self._usual())
        check_default(self)
        self.coding()

    def _usual(self) -> int:
        usual = self.low if self.usual is None else min(self.high, max(self.low, round(self.usual)))
        return self.low + (usual - self.low) // self.step * self.step

    @property
    def n_values(self) -> float:
        """How many values there are."""
        return (self.high - self.low) // self.step + 1

    def problem_with(self, value: object) -> str | None:
        """Say what is wrong with a value, or None."""
        if isinstance(value, bool) or not isinstance(value, int):
            return f"must be a whole number, got {value!r}"
        if not self.low <= value <= self.high:
            return f"must be in [{self.low}, {self.high}], got {value}"
        if (value - self.low) % self.step:
            return f"must be {self.low} plus a multiple of {self.step}, got {value}"
        return None

    def grid(self, resolution: int) -> list[Any]:
        """Return every value, or `resolution` of them evenly spaced."""
        values = range(self.low, self.high + 1, self.step)
        if resolution == 1:
            return [self.default]
        if len(values) <= resolution:
            return list(values)
        return [*sorted({values[round(k * (len(values) - 1) / (resolution - 1))] for k in range(resolution)})]

    def coding(self) -> Coding:
        """Return the ways to the unit cube: one bin a value, of equal size on its scale."""
        low, step, n = self.low, self.step, int(self.n_values)
        if self.log:
            return self._logarithmic()

        def encode(value: int) -> float:
            return ((value - low) // step + 0.5) / n

        def decode(share: float) -> int:
            k = int(share * n)
            return low + step * (0 if k < 0 else k if k < n else n - 1)

        warp = self._warp(lambda value: ((value - low) / step + 0.5) / n, n * step)
        if self.prior is None:
            return Coding(encode, decode, lambda uniform: low + step * int(uniform() * n))
        return Coding(encode, decode, lambda uniform: decode(warp(uniform())))

    def _logarithmic(self) -> Coding:
        low, high, log, exp = self.low, self.high, math.log, math.exp
        # Half a step beyond each end gives the ends their full share.
        start, span = log(low - 0.5), log(high + 0.5) - log(low - 0.5)

        def encode(value: float) -> float:
            return (log(value) - start) / span

        def decode(share: float) -> int:
            return min(high, max(low, round(exp(start + share * span))))

        warp = self._warp(encode, span)
        return Coding(encode, decode, lambda uniform: decode(warp(uniform())))

    def schema(self) -> dict[str, Any]:
        """Describe the values as a JSON schema."""
        return {"type": "integer", **super().schema()}


def _check_range(low: float, high: float, step: float | None) -> None:
    for name, value in (("low", low), ("high", high)):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise VariableError(f"{name} must be a finite number, got {value!r}")
    if low >= high:
        raise VariableError(
            f"low must be < high, got low={low}, high={high}", hint="swap them?" if low > high else None
        )
    if step is not None and (isinstance(step, bool) or not isinstance(step, (int, float))):
        raise VariableError(f"step must be a number, got {step!r}")
    if step is not None and not 0 < step <= high - low:
        raise VariableError(
            f"step must be in (0, high - low], got step={step} with high - low = {high - low}"
        )
