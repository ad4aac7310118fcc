"""Spending: what calls to models took, by model, and a limit that the next call must keep to."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

from dspex.errors import BudgetError
from dspex.records import Usage

if TYPE_CHECKING:
    from collections.abc import Mapping


class Limit(Protocol):
    """What may be spent."""

    @property
    def usd(self) -> float | None:
        """US dollars."""
        ...

    @property
    def calls(self) -> int | None:
        """Calls to models."""
        ...

    @property
    def tokens(self) -> int | None:
        """Tokens, in and out."""
        ...


class Spending:
    """Adds up what is spent, on however many threads.

    Examples
    --------
    >>> spending = Spending()
    >>> spending.add("openai/gpt-4o-mini", Usage(1, 100, 20, 0.01))
    >>> spending.total.cost_usd, list(spending.by_model)
    (0.01, ['openai/gpt-4o-mini'])
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_model: dict[str, Usage] = {}

    def __repr__(self) -> str:
        return f"<Spending {told(self.total)}>"

    def add(self, model: str, usage: Usage) -> None:
        """Count one call."""
        with self._lock:
            self._by_model[model] = self._by_model.get(model, Usage()) + usage

    @property
    def by_model(self) -> Mapping[str, Usage]:
        """What each model took."""
        with self._lock:
            return dict(self._by_model)

    @property
    def total(self) -> Usage:
        """All of it together."""
        return sum(self.by_model.values(), Usage())


def check(limit: Limit | None, spent: Usage, *, whose: str) -> None:
    """Refuse the next call if a limit is reached.

    Parameters
    ----------
    whose
        What the limit is for, such as "session".

    Raises
    ------
    BudgetError
        With what was spent.
    """
    if limit is None:
        return
    reached = {
        f"${limit.usd:g}" if limit.usd is not None else "": limit.usd is not None
        and spent.cost_usd >= limit.usd,
        f"{limit.calls} calls": limit.calls is not None and spent.calls >= limit.calls,
        f"{limit.tokens} tokens": limit.tokens is not None
        and spent.tokens_in + spent.tokens_out >= limit.tokens,
    }
    broken = [name for name, is_reached in reached.items() if is_reached]
    if broken:
        raise BudgetError(
            f"this {whose} may spend {', '.join(broken)}, and has spent {told(spent)}; no further call is made",
            spent=told(spent),
            hint="give it a larger budget: dspex.Budget(usd=...); what was asked before is still recalled for nothing",
        )


def told(usage: Usage) -> str:
    """Write what was spent."""
    tokens = usage.tokens_in + usage.tokens_out
    return f"${usage.cost_usd:.6f} on {usage.calls} call(s) and {tokens} tokens"
