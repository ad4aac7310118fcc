"""The frozen data that every room shares; only these cross a process border."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from dspex.errors import DefinitionError

Scalar = str | int | float | bool | None
"""What a variable's value is called in a configuration: a number, a truth value or a label."""

Configuration = Mapping[str, Scalar]
"""Variable name → value. Models and modules appear by their labels, so that it is always JSON."""

Role = Literal["policy", "pinned", "fallback"]
"""Why an attempt ran that way: the learner chose it, the user did, or the attempt before it failed."""

SchemaBy = Literal["format", "tool"]

StepKind = Literal["analyze", "select", "distribute", "monitor", "adapt", "fall_back"]


# ── models ──────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Prompt:
    """One request to a model, as plain data.

    `temperature` and `max_tokens` are None when the caller left them to the model.
    `response_schema` is the JSON schema that the answer must follow, or ``{}`` for "any JSON object".
    """

    model: str
    system: str
    messages: tuple[tuple[str, str], ...]
    """(role, text) pairs, oldest first."""
    temperature: float | None = None
    max_tokens: int | None = None
    response_schema: Mapping[str, Any] | None = None
    schema_by: SchemaBy = "format"
    """How the schema is asked for: as the form of the answer, or as a tool that must be called with it."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What some calls to models took: counts, US dollars, and seconds of waiting."""

    calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float = 0.0
    latency_s: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.calls + other.calls,
            self.tokens_in + other.tokens_in,
            self.tokens_out + other.tokens_out,
            self.cost_usd + other.cost_usd,
            self.latency_s + other.latency_s,
        )


@dataclass(frozen=True, slots=True)
class Completion:
    """A model's answer to a `Prompt`, and what it took."""

    text: str
    usage: Usage
    finish_reason: Literal["stop", "length"] = "stop"


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens."""

    input_usd: float
    output_usd: float

    def cost_usd(self, tokens_in: int, tokens_out: int) -> float:
        """Price a call, in US dollars."""
        return (tokens_in * self.input_usd + tokens_out * self.output_usd) / 1e6


# ── signatures ──────────────────────────────────────────────────────────────────────────────────


class Missing(enum.Enum):
    """The type of `MISSING`; an enum, so that it is one and the same also after pickling."""

    MISSING = "MISSING"

    def __repr__(self) -> str:
        return self.value


MISSING = Missing.MISSING
"""Stands where no default was given; None is a default like any other."""


@dataclass(frozen=True, slots=True)
class Field:
    """One named, typed input or output of a signature."""

    name: str
    role: Literal["input", "output"]
    annotation: Any = str
    """The Python type that DSPy and pydantic see."""
    type_text: str = "str"
    """The type as it was written, constraints included."""
    description: str | None = None
    default: Any = field(default=MISSING, hash=False)
    """What it is when it is left out; a field without one is required."""
    prefix: str | None = None
    """What DSPy keeps as the field's label, if it is not the usual one."""


# ── orchestration ───────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, order=True)
class Strategy:
    """One way of running a task: which model, through which DSPy module."""

    model: str
    module: str

    def __str__(self) -> str:
        return f"{self.model} · {self.module}"


@dataclass(frozen=True, slots=True)
class Requirements:
    """What a task asks for, read off its signature and inputs before anything runs."""

    signature: str
    signature_key: str
    input_chars: int
    output_fields: int
    reasoning: bool
    """Whether the outputs look like something to be worked out (numbers, explanations)."""
    complexity: Literal["low", "medium", "high"]


@dataclass(frozen=True, slots=True)
class Belief:
    """A predicted quantity: its mean and a 90 % interval.

    `terms` add up to the mean; for latency and cost, to its natural logarithm.
    """

    mean: float
    low: float
    high: float
    terms: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Objective:
    """What pays: weights of quality, speed and cheapness, and where the last two count half.

    An answer is worth ``success * (quality * q + speed / (1 + latency_s / half_latency_s)
    + cheapness / (1 + cost_usd / half_cost_usd))``, between 0 and 1.
    """

    quality: float = 0.6
    speed: float = 0.2
    cheapness: float = 0.2
    half_latency_s: float = 2.0
    half_cost_usd: float = 5e-4

    def __post_init__(self) -> None:
        weights = (self.quality, self.speed, self.cheapness)
        if not min(weights) >= 0 or not math.isclose(sum(weights), 1.0, abs_tol=1e-6):
            raise DefinitionError(
                f"an objective's weights must be >= 0 and add up to 1, got quality={self.quality}, "
                f"speed={self.speed}, cheapness={self.cheapness}"
            )
        if not (self.half_latency_s > 0 and self.half_cost_usd > 0):
            raise DefinitionError(
                f"half_latency_s and half_cost_usd must be > 0, got {self.half_latency_s} and {self.half_cost_usd}"
            )


@dataclass(frozen=True, slots=True)
class Alternative:
    """One strategy as the orchestrator saw it when it decided."""

    strategy: Strategy
    propensity: float
    """The exact probability with which it would have been chosen."""
    utility: float
    success: Belief
    quality: Belief
    latency_s: Belief
    cost_usd: Belief


@dataclass(frozen=True, slots=True)
class Decision:
    """Which way was chosen, why, and what the others were."""

    strategy: Strategy
    role: Role
    propensity: float
    reason: str
    alternatives: tuple[Alternative, ...] = ()
    """Best believed utility first."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the orchestrator's loop. Times are seconds since the call began."""

    kind: StepKind
    start_s: float
    duration_s: float
    detail: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one attempt brought: output fields, or the error that ended it."""

    output: Mapping[str, Any] | None
    usage: Usage
    error: str | None = None
    """What went wrong, in one line."""
    traceback: str | None = None

    @property
    def ok(self) -> bool:
        """Whether there is an answer."""
        return self.error is None


@dataclass(frozen=True, slots=True)
class Execution:
    """One attempt, as it is kept in the execution log."""

    id: str
    at: float
    """Seconds since the Unix epoch."""
    requirements: Requirements
    strategy: Strategy
    role: Role
    propensities: Mapping[str, float]
    """Every allowed strategy's probability; empty unless `role` is "policy"."""
    ok: bool
    usage: Usage
    error: str | None = None
    parent_id: str | None = None
    """The attempt that failed before this one, if it is a fallback."""


@dataclass(frozen=True, slots=True)
class Label:
    """A judgement of an execution's answer, given when it is known, maybe much later."""

    execution_id: str
    quality: float
    """Between 0 (wrong) and 1 (right)."""
    at: float


# ── studies ─────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Score:
    """How one configuration did on one example: a row of the ledger."""

    configuration_key: str
    example_key: str
    score: float
    """In metric units; 0 when the program or the metric failed."""
    usage: Usage = Usage()
    error: str | None = None
    """The failure's traceback, kept as data."""


TrialPhase = Literal["search", "final"]


@dataclass(frozen=True, slots=True)
class Trial:
    """One configuration's evaluation within a study."""

    number: int
    configuration: Configuration
    configuration_key: str
    score: float
    """Mean over the examples, in metric units."""
    n_examples: int
    n_failed: int
    usage: Usage
    """What this trial newly paid for; rows found in the ledger cost nothing."""
    started_at: float
    finished_at: float
    phase: TrialPhase = "search"
    """Search trials share one sample of the examples; final ones use all of them."""

    @property
    def stderr(self) -> float:
        """A bound on the score's standard error, for scores in [0, 1]."""
        if self.n_examples == 0:
            return math.inf
        spread = max(self.score * (1 - self.score), 0.0)
        return math.sqrt(spread / self.n_examples)
