"""Kinds with bounds and units that machine learning gives them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dspex.errors import VariableError
from dspex.variables.numeric import Float, Int

# Each is a number with its usual bounds; those, the default, steps, scale and prior may be said otherwise.


@dataclass(frozen=True, repr=False)
class Probability(Float):
    """A probability, in [0, 1].

    Examples
    --------
    >>> Probability().problem_with(1 + 1e-9)
    'must be in [0, 1], got 1.000000001'
    """

    low: float = 0.0
    high: float = 1.0
    kind: ClassVar[str] = "probability"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.low < self.high <= 1:
            raise VariableError(f"a {self.kind} lies in [0, 1], got low={self.low:g}, high={self.high:g}")


@dataclass(frozen=True, repr=False)
class Confidence(Probability):
    """From which confidence on something is believed, in [0, 1]."""

    kind: ClassVar[str] = "confidence"


@dataclass(frozen=True, repr=False)
class Temperature(Float):
    """A sampling temperature, in [0, 2]; 1 leaves the model's own distribution."""

    low: float = 0.0
    high: float = 2.0
    kind: ClassVar[str] = "temperature"
    usual: ClassVar[float | None] = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low < 0:
            raise VariableError(f"a temperature is >= 0, got low={self.low:g}")


@dataclass(frozen=True, repr=False)
class TopP(Probability):
    """The share of probability that is sampled from, above 0; 1 samples from all of it."""

    low: float = 0.05
    kind: ClassVar[str] = "top_p"
    usual: ClassVar[float | None] = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low <= 0:
            raise VariableError(f"top_p is > 0, got low={self.low:g}")


@dataclass(frozen=True, repr=False)
class Penalty(Float):
    """A frequency or presence penalty, in [-2, 2]; 0 is none."""

    low: float = -2.0
    high: float = 2.0
    kind: ClassVar[str] = "penalty"
    usual: ClassVar[float | None] = 0.0


@dataclass(frozen=True, repr=False)
class TokenCount(Int):
    """A number of tokens, on a log scale."""

    low: int = 16
    high: int = 4096
    log: bool = True
    kind: ClassVar[str] = "token_count"
    unit: ClassVar[str] = "tokens"
    usual: ClassVar[float | None] = 1024


@dataclass(frozen=True, repr=False)
class BatchSize(Int):
    """How many at once, on a log scale."""

    low: int = 1
    high: int = 64
    log: bool = True
    kind: ClassVar[str] = "batch_size"
    usual: ClassVar[float | None] = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low < 1:
            raise VariableError(f"a batch holds at least 1, got low={self.low}")


@dataclass(frozen=True, repr=False)
class Cost(Float):
    """An amount of money, in US dollars, on a log scale."""

    low: float = 1e-5
    high: float = 1.0
    log: bool = True
    kind: ClassVar[str] = "cost"
    unit: ClassVar[str] = "USD"


@dataclass(frozen=True, repr=False)
class Latency(Float):
    """A time, in seconds, on a log scale."""

    low: float = 0.01
    high: float = 60.0
    log: bool = True
    kind: ClassVar[str] = "latency"
    unit: ClassVar[str] = "s"
