"""Work in another process under this one's settings: its prices, its format, its draw; what it spends counts here."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from dspex.bridge import observe
from dspex.bridge import prices as prices_bridge
from dspex.bridge import program as program_bridge
from dspex.errors import DspexError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import dspy

    from dspex.records import Price, Usage


class Returned(NamedTuple):
    """What comes back: a value or one of our errors, and what each call to a model took."""

    value: Any
    error: DspexError | None
    spent: list[tuple[str, Usage]]

    def counted(self) -> Any:
        """Count what was spent for this process's session, then return the value or raise the error."""
        for model, used in self.spent:
            observe.count(model, used)
        if self.error is not None:
            raise self.error
        return self.value


@dataclass(frozen=True)
class Errand:
    """Work that may be done in another process; called there, it returns a `Returned`."""

    work: Callable[[], Any]
    prices: Mapping[str, Price] = field(default_factory=prices_bridge.declared)
    adapter: dspy.Adapter | None = field(default_factory=program_bridge.adapter_in_force)
    draw: int = field(default_factory=observe.rollout_asked.get)
    sender: int = field(default_factory=os.getpid)

    def __call__(self) -> Returned:
        """Do it, under the sender's settings."""
        if os.getpid() == self.sender:
            return Returned(self.work(), None, [])
        for name, price in self.prices.items():
            prices_bridge.declare(name, price)
        spent: list[tuple[str, Usage]] = []
        unlisten = observe.listen(lambda model, used: spent.append((model, used)))
        try:
            with program_bridge.adapted(self.adapter), observe.drawing(self.draw):
                return Returned(self.work(), None, spent)
        except DspexError as error:
            return Returned(None, error, spent)
        finally:
            unlisten()
