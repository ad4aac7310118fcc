"""What a call returns: the answer, the decision behind it, and the trace of how it came about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dspex.errors import UnknownNameError, did_you_mean
from dspex.records import Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dspex.orchestrator.cache import Entry
    from dspex.orchestrator.engine import Orchestrated
    from dspex.records import Decision, Step


_NOTHING = Usage()


class Result(Mapping[str, Any]):
    """An answer: its output fields by name, as attributes and as items.

    Attributes
    ----------
    output
        Output field → value.
    decision
        Which way it was run, why, and what the alternatives were.
    trace
        The orchestrator's steps, in order.
    usage
        What it took, failed attempts included; nothing if it was recalled. What a hedged attempt takes that was
        not waited for is in `dspex.history` and `dspex.usage` once it ends.
    fallback_reason
        Why the first choice did not answer, such as ``timeout`` or ``rate_limit``, or ``slow`` if a hedge was
        quicker; None if it did.
    is_cached
        Whether the answer was given before, to the same request.
    is_stale
        Whether it is older than answers are kept for, and was given because there was no room for the call.
    correlation_id
        What the call's events, its tasks in workers and its lines in `dspex.log_events` are named by; None if it
        was recalled.
    """

    fallback_reason: str | None = None
    correlation_id: str | None = None
    is_cached = False
    is_stale = False

    def __init__(
        self, done: Orchestrated, *, correlation_id: str, on_rating: Callable[[str, float], None]
    ) -> None:
        self.output: Mapping[str, Any] = dict(done.outcome.output or {})
        self.decision: Decision = done.decision
        self.trace: tuple[Step, ...] = done.trace
        self.usage: Usage = done.usage
        self.execution_id = done.execution.id
        self.fallback_reason = done.fallback_reason
        self.correlation_id = correlation_id
        self._on_rating = on_rating

    @classmethod
    def recalled(
        cls, entry: Entry, *, on_rating: Callable[[str, float], None], is_stale: bool = False
    ) -> Result:
        """Make the result of a call that was answered from the cache."""
        made = cls.__new__(cls)
        made.output = entry.fresh_output()
        made.decision = entry.decision
        made.trace = entry.trace
        made.usage = _NOTHING
        made.execution_id = entry.answer.execution_id
        made.is_cached, made.is_stale = True, is_stale
        made._on_rating = on_rating  # noqa: SLF001  # one of us
        return made

    @property
    def is_simulated(self) -> bool:
        """Whether simulated models alone gave the answer."""
        models = self.decision.strategy.model.split(" + ")
        return all(model.startswith("sandbox/") for model in models)

    def rate(self, quality: float) -> Result:
        """Teach the orchestrator how good this answer was: 0 is wrong, 1 is right."""
        self._on_rating(self.execution_id, float(quality))
        return self

    def __getattr__(self, name: str) -> Any:
        # Reached only for what is not an attribute already; `output` is missing while unpickling.
        output = self.__dict__.get("output", {})
        if name in output:
            return output[name]
        hint = did_you_mean(name, output)
        raise AttributeError(
            f"the answer has no field {name!r}; it has {', '.join(output)}" + (f" ({hint})" if hint else "")
        )

    def __getitem__(self, name: str) -> Any:
        if name not in self.output:
            raise UnknownNameError.among("output field", name, self.output)
        return self.output[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.output)

    def __len__(self) -> int:
        return len(self.output)

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in self.output.items())
        simulated = "simulated, " if self.is_simulated else ""
        simulated += "stale, " if self.is_stale else "cached, " if self.is_cached else ""
        took = f"{self.usage.latency_s:.2f} s, ${self.usage.cost_usd:.6f}"
        steps = "\n".join(f"  {step.kind:<11}{step.detail}" for step in self.trace)
        return f"<Result {fields} | {simulated}{self.decision.strategy}, {took}>\n{steps}"
