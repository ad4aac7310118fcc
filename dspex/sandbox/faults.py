"""Faults on demand: rate limits, outages and slow answers, the same ones every time."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from dspex.errors import DefinitionError, RateLimitedError, UnavailableError
from dspex.sandbox.chance import uniform

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Faults:
    """What shall go wrong with a simulated model. Calls are numbered from 0 as they arrive.

    Parameters
    ----------
    rate_limit
        Share of calls that are asked to come back later.
    retry_after_s
        When, in seconds.
    outage
        Either the share of calls that find the model down, or the numbers (first, one past the last) of
        the calls that do.
    slow
        The share of answers that are slow, and by what factor.

    Raises
    ------
    DefinitionError
        If a share is not between 0 and 1, or a window ends before it begins.

    Examples
    --------
    >>> Faults(outage=(10, 20)).slowdown(seed=0, call=3)
    1.0
    """

    rate_limit: float = 0.0
    retry_after_s: float = 2.0
    outage: float | tuple[int, int] = 0.0
    slow: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        shares = {"rate_limit": self.rate_limit, "slow share": self.slow[0]}
        if isinstance(self.outage, tuple):
            if self.outage[0] > self.outage[1]:
                raise DefinitionError(
                    f"an outage must not end before it begins, got {self.outage}",
                    hint="write outage=(first_call, call_after_the_last)",
                )
        else:
            shares["outage"] = self.outage
        wrong = [f"{name}={share}" for name, share in shares.items() if not 0 <= share <= 1]
        if wrong:
            raise DefinitionError(
                f"shares must lie between 0 and 1, got {', '.join(wrong)}", hint="10 % is 0.1"
            )

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Faults:
        """Undo `state`."""
        outage = state["outage"]
        # JSON knows no tuples.
        return cls(
            state["rate_limit"],
            state["retry_after_s"],
            tuple(outage) if isinstance(outage, list | tuple) else outage,
            tuple(state["slow"]),
        )

    def state(self) -> dict[str, Any]:
        """Describe oneself as JSON."""
        return asdict(self)

    def check(self, *, model: str, seed: int, call: int) -> None:
        """Raise what goes wrong with this call, if anything does."""
        if self._is_down(seed, call):
            raise UnavailableError(
                f"the simulated model {model} is down at call {call}", hint="try again, or another model"
            )
        if uniform(seed, call, "rate limit") < self.rate_limit:
            raise RateLimitedError(
                f"the simulated model {model} limits its rate at call {call}",
                retry_after_s=self.retry_after_s,
                hint=f"call again in {self.retry_after_s:g} s",
            )

    def slowdown(self, *, seed: int, call: int) -> float:
        """Say by what factor this call takes longer."""
        share, factor = self.slow
        return factor if uniform(seed, call, "slow") < share else 1.0

    def _is_down(self, seed: int, call: int) -> bool:
        if isinstance(self.outage, tuple):
            return self.outage[0] <= call < self.outage[1]
        return uniform(seed, call, "outage") < self.outage
