"""A budget: when a study stops."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from dspex.errors import DataError

if TYPE_CHECKING:
    from dspex.records import Usage

SEARCH_TRIALS = 40
"""Trials of a search whose budget does not say."""


@dataclass(frozen=True)
class Budget:
    """When a study stops, whichever limit is reached first.

    Scoring the finalists on every example is part of the money, the calls and the tokens, and is set aside
    beforehand.

    Parameters
    ----------
    trials
        Configurations, or programs that an optimizer of DSPy tries. None: 40 for a search, and as many as
        it makes for an optimizer of DSPy. A search scores at most 48 examples for each, finalists aside;
        BEACON spends them where they tell most, and stops before when nothing is likely to be better.
    seconds, usd, calls, tokens
        Of the whole study: time, US dollars, calls to models, and tokens in and out.
    patience
        Trials without a better one.
    """

    trials: int | None = None
    seconds: float | None = None
    usd: float | None = None
    calls: int | None = None
    tokens: int | None = None
    patience: int | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            limit = getattr(self, field.name)
            if limit is not None and (
                isinstance(limit, bool) or not isinstance(limit, (int, float)) or not limit > 0
            ):
                raise DataError(
                    f"a budget's {field.name} must be a number > 0, got {limit!r}",
                    hint=f"Budget({field.name}=40)",
                )

    @classmethod
    def of(cls, given: Budget | None) -> Budget:
        """Return the budget that was given, or one without limits of its own.

        Raises
        ------
        DataError
            If something else was given.
        """
        if given is None:
            return cls()
        if not isinstance(given, cls):
            raise DataError(
                f"a budget is a dspex.Budget, got {given!r}", hint="budget=dspex.Budget(trials=40)"
            )
        return given

    def exceeded_by(self, usage: Usage, ahead: Usage) -> bool:
        """Whether money, calls or tokens do not suffice for what is ahead."""
        return self._exceeded(usage, ahead) is not None

    def spent_by(
        self, trials: int, seconds: float, usage: Usage, ahead: Usage, *, without_gain: int = 0
    ) -> str | None:
        """Say which limit the next trial would break, or None. `ahead` is what must still be paid for."""
        if self.trials is not None and trials >= self.trials:
            return f"{self.trials} trials done"
        if self.seconds is not None and seconds >= self.seconds:
            return f"{self.seconds:g} s are over"
        if self.patience is not None and without_gain >= self.patience:
            return f"no gain in {self.patience} trials"
        return self._exceeded(usage, ahead)

    def _exceeded(self, usage: Usage, ahead: Usage) -> str | None:
        whole = usage + ahead
        if self.usd is not None and whole.cost_usd > self.usd:
            return f"${self.usd:g} are spent or set aside"
        if self.calls is not None and whole.calls > self.calls:
            return f"{self.calls} calls are made or set aside"
        if self.tokens is not None and whole.tokens_in + whole.tokens_out > self.tokens:
            return f"{self.tokens} tokens are used or set aside"
        return None

    def completed(self, *, n_searches: int = 1, is_search: bool = True) -> Budget:
        """Limit the trials where nothing else ends the study: a search alone, or several that have no limit at all."""
        if is_search:
            return replace(self, trials=SEARCH_TRIALS) if self.trials is None else self
        is_open = all(getattr(self, field.name) is None for field in fields(self))
        return replace(self, trials=SEARCH_TRIALS * n_searches) if is_open and n_searches > 1 else self
