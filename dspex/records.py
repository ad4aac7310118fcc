"""The frozen data that every room shares; only these cross a process border."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from dspex.errors import DefinitionError

if TYPE_CHECKING:
    from dspex.errors import DspexError

Scalar = str | int | float | bool | None
"""What a variable's value is called in a configuration: a number, a truth value or a label."""

Value = Scalar | list[Any]
"""A variable's value: a scalar, or the numbers of an array as lists within lists."""

Configuration = Mapping[str, Value]
"""Variable name → value. Models and modules appear by their labels, so that it is always JSON."""

Role = Literal["policy", "pinned", "fallback", "hedge", "refused"]
"""Why an attempt ran that way: the learner chose it, the user did, the attempt before it failed, or the one beside
it was slow. One that was refused asked no model, for all are known to fail or have enough to do: it teaches nothing about them."""

SchemaBy = Literal["format", "tool"]

BRIDGED = "bridged"
"""The adapter that runs DSPy's modules as DSPy does."""

StepKind = Literal["analyze", "select", "distribute", "monitor", "adapt", "fall_back", "recall"]


@dataclass(frozen=True, slots=True)
class Change:
    """One write to a registry: who changed which variables, why, when, and from what to what."""

    version: int
    """What the registry's version became."""
    at: float
    """Seconds since the Unix epoch."""
    by: str
    why: str
    before: Configuration
    after: Configuration


# ── models ──────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Prompt:
    """One request to a model, as plain data.

    `temperature` and `max_tokens` are None when the caller left them to the model.
    `response_schema` is the JSON schema that the answer must follow, or ``{}`` for "any JSON object".
    An answer ends before any of the texts in `stop`; the same `seed` draws the same answer, where a model can.
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
    rollout: int = 0
    """Which of several draws of the same request is asked for; it matters at a temperature above 0."""
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None


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


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What is known of a model before it is asked: None where it is not."""

    price: Price | None = None
    context_tokens: int | None = None
    """How long prompt and answer may be together."""
    capabilities: frozenset[str] = frozenset()
    """Such as "function_calling", "vision", "response_schema"; LiteLLM's names without their "supports_"."""


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
    """One way of running a task: which model, through which module, and how they are put to it.

    The adapter is ``bridged`` where DSPy runs the module; others take the module's steps by themselves.
    """

    model: str
    module: str
    adapter: str = BRIDGED

    def __str__(self) -> str:
        way = f"{self.model} · {self.module}"
        return way if self.adapter == BRIDGED else f"{way} · {self.adapter}"


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
    adapter: str = BRIDGED
    """Which adapter suits it, by a rule that looks at nothing but the signature and the inputs."""


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

    def worth_of(self, usage: Usage, quality: float) -> float:
        """Say what an answer of that quality was worth, in [0, 1].

        Examples
        --------
        >>> round(Objective().worth_of(Usage(cost_usd=5e-4, latency_s=2.0), quality=1.0), 3)
        0.8
        """
        speed = self.speed / (1.0 + usage.latency_s / self.half_latency_s)
        cheapness = self.cheapness / (1.0 + usage.cost_usd / self.half_cost_usd)
        return self.quality * quality + speed + cheapness


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
    configuration: Configuration = field(default_factory=dict)
    """The registry's values that it runs with; empty without one."""

    @property
    def chosen(self) -> Alternative | None:
        """The strategy as it was seen when it was chosen; None if nobody looked, because it was pinned."""
        return next((each for each in self.alternatives if each.strategy == self.strategy), None)


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
    failure: DspexError | None = field(default=None, compare=False)
    """What went wrong on a provider's side, for whoever decides what to do next."""
    retries: tuple[str, ...] = ()
    """What went wrong before, when it was asked more than once."""
    was_asked: bool = True
    """Whether a model was asked at all, rather than refused for being known to fail or to be busy."""
    is_final: bool = False
    """Whether a part of the answer has been shown, so that no other one may follow it."""
    hint: str | None = field(default=None, compare=False)
    """What to do about it, where a model or its provider is to blame."""

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
    """The attempt that failed before this one, if it is a fallback; the slow one beside it, if it is a hedge."""
    configuration: Configuration = field(default_factory=dict)
    """The registry's values and the session's defaults that it ran with; empty without."""
    session: str | None = None
    """The session that it was executed for."""
    overtaken: bool = False
    """Whether it was not waited for, because an attempt beside it had answered; it may be billed all the same."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it is kept for the next time that the same is asked."""

    key: str
    strategy: Strategy
    """Which way it was given."""
    output: Mapping[str, Any]
    """As JSON values."""
    execution_id: str
    at: float
    """Seconds since the Unix epoch."""


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
    """How one program did on one example: a row of the ledger."""

    configuration_key: str
    example_key: str
    score: float
    """In metric units; 0 when the program or the metric failed."""
    usage: Usage = Usage()
    """What this row newly paid for; one that another study had paid for costs nothing here."""
    error: str | None = None
    """What failed, kept as data: a model's failure with the next step, a program's or a metric's with its traceback."""
    text_key: str = ""
    """Everything that the program says to models, and to which; empty in rows of older databases."""
    metric_key: str = ""
    """What the metric computes; rows are shared between studies only where it is the same."""
    repetition: int = 0
    """Which of several draws of the same request it was."""
    feedback: str | None = None
    """What the metric said about it, if it speaks."""
    execution_id: str | None = None
    """The run of the program that was scored."""

    @property
    def key(self) -> ScoreKey:
        """What makes two rows the same evaluation, in whichever study."""
        return ScoreKey(
            self.text_key, self.configuration_key, self.example_key, self.metric_key, self.repetition
        )


class ScoreKey(NamedTuple):
    """What makes two rows of the ledger the same evaluation, in whichever study."""

    text_key: str
    configuration_key: str
    example_key: str
    metric_key: str
    repetition: int = 0


TrialPhase = Literal["search", "final", "bootstrap"]


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
    """Final trials use every example; bootstrap ones are a teacher's attempts at demonstrations."""

    @property
    def stderr(self) -> float:
        """A bound on the score's standard error, for scores in [0, 1]."""
        if self.n_examples == 0:
            return math.inf
        spread = max(self.score * (1 - self.score), 0.0)
        return math.sqrt(spread / self.n_examples)


@dataclass(frozen=True, slots=True)
class Stint:
    """What one of several optimizers did in one turn of its own."""

    optimizer: str
    member: int
    """Its position among them."""
    round: int
    """From 1."""
    before: float
    """The score of the best program when it began, in metric units."""
    after: float
    """The score of what it found, if that was better; else as before."""
    usage: Usage
    n_trials: int
    reason: str
    """Why it ended."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One program that an optimizer of DSPy tried: what its predictors say."""

    key: str
    number: int
    """Of its trial."""
    instructions: Mapping[str, str]
    """Predictor → its instructions."""
    demos: Mapping[str, tuple[Mapping[str, Any], ...]]
    """Predictor → its demonstrations, as JSON."""
    parent: str | None = None
    """The earlier candidate that is most like it."""

    @property
    def n_demos(self) -> int:
        """How many demonstrations all predictors show together."""
        return sum(len(each) for each in self.demos.values())


@dataclass(frozen=True, slots=True)
class Reply:
    """A model's answer that was paid for, kept so that it need not be paid for again."""

    key: str
    value: Mapping[str, Any]
    usage: Usage


TurnKind = Literal[
    "started", "fell", "due", "rejected", "canary", "promoted", "rolled_back", "kept", "failed", "stopped"
]
"""What a continuous optimizer did: `fell` and `due` begin a study, the others end something or begin it."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One step of a continuous optimizer."""

    at: float
    """Seconds since the Unix epoch."""
    kind: TurnKind
    why: str
    quality: float | None = None
    """Mean of the latest ratings; None before the first."""
    level: float | None = None
    """Mean of the ratings since these values are in force."""
    study: str | None = None
    """The study that this step begins or judges."""
    configuration: Configuration = field(default_factory=dict)
    """The values that are tried, taken or left."""
    gain: float | None = None
    """Of these values over those in force, on the same examples, in metric units."""
    low: float | None = None
    high: float | None = None
    version: int | None = None
    """What the registry's version became, if it was written."""
