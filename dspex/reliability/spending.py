"""Spending: what calls to models took, by model, and a limit that the next call must keep to."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from dspex.errors import BudgetError
from dspex.records import Usage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


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
        self._under_way = self._ended = 0

    def __repr__(self) -> str:
        return f"<Spending {told(self.total)}>"

    def add(self, model: str, usage: Usage) -> None:
        """Count one call."""
        with self._lock:
            self._by_model[model] = self._by_model.get(model, Usage()) + usage

    @contextmanager
    def attempt(self, limit: Limit | None, *, whose: str) -> Iterator[None]:
        """Make one attempt within a limit; those that are under way count as what attempts took on average.

        Raises
        ------
        BudgetError
            If the limit is reached; nothing has been asked then.
        """
        if limit is None:
            yield
            return
        with self._lock:
            spent = sum(self._by_model.values(), Usage())
            check(limit, spent, ahead=self._ahead(spent), whose=whose)
            self._under_way += 1
        try:
            yield
        finally:
            with self._lock:
                self._under_way -= 1
                self._ended += 1

    def _ahead(self, spent: Usage) -> Usage:
        n, ended = self._under_way, max(1, self._ended)
        return Usage(
            max(n, n * spent.calls // ended),
            n * spent.tokens_in // ended,
            n * spent.tokens_out // ended,
            n * spent.cost_usd / ended,
        )

    @property
    def by_model(self) -> Mapping[str, Usage]:
        """What each model took."""
        with self._lock:
            return dict(self._by_model)

    @property
    def total(self) -> Usage:
        """All of it together."""
        return sum(self.by_model.values(), Usage())


def check(limit: Limit | None, spent: Usage, *, whose: str, ahead: Usage | None = None) -> None:
    """Refuse the next call if a limit is reached.

    Parameters
    ----------
    whose
        What the limit is for, such as "session".
    ahead
        What attempts that are under way are expected to take.

    Raises
    ------
    BudgetError
        With what was spent.
    """
    if limit is None:
        return
    whole = spent if ahead is None else spent + ahead
    reached = {
        f"${limit.usd:g}" if limit.usd is not None else "": limit.usd is not None
        and whole.cost_usd >= limit.usd,
        f"{limit.calls} calls": limit.calls is not None and whole.calls >= limit.calls,
        f"{limit.tokens} tokens": limit.tokens is not None
        and whole.tokens_in + whole.tokens_out >= limit.tokens,
    }
    broken = [name for name, is_reached in reached.items() if is_reached]
    if broken:
        raise BudgetError(
            f"this {whose} may spend {', '.join(broken)}, and has spent {told(spent)}{_told_ahead(ahead)}; "
            "no further call is made",
            spent=told(spent),
            hint="give it a larger budget: dspex.Budget(usd=...); what was asked before is still recalled for nothing",
        )


def _told_ahead(ahead: Usage | None) -> str:
    return f", with about {told(ahead)} under way" if ahead is not None and ahead.calls else ""


def told(usage: Usage) -> str:
    """Write what was spent."""
    tokens = usage.tokens_in + usage.tokens_out
    return f"${usage.cost_usd:.6f} on {usage.calls} call(s) and {tokens} tokens"
