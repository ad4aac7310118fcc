"""How one call is to be made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from dspex.pools import named
from dspex.variables.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dspex.adapters.base import Adapter
    from dspex.optimizers.budget import Budget
    from dspex.pools.sessions import Session
    from dspex.records import Strategy

    Task: TypeAlias = Any
    """A signature (a spec, ours, or a `dspy.Signature` class) or a `dspy.Module`."""


class Options(NamedTuple):
    """How one call is to be made."""

    pin: Strategy | None = None
    explore: bool = True
    space: Registry | None = None
    session: Session | None = None
    timeout_s: float | None = None
    budget: Budget | float | None = None
    cache: bool | None = None
    rollout_id: int | None = None
    adapter: str | Adapter | None = None

    @property
    def defaults(self) -> dict[str, Any]:
        """What the session's owner wants, but for what is said more particularly."""
        if self.session is None:
            return {}
        overridden = set() if self.pin is None else {"model", "module"}
        if isinstance(self.space, Registry):
            overridden |= {*self.space.space, *self.space.space.composites, *self.space.space.frozen}
        return {name: value for name, value in self.session.defaults.items() if name not in overridden}


def read(options: Mapping[str, Any]) -> Options:
    """Read a call's options, and find the session that is named in them."""
    asked = Options(**options)
    if asked.session is None:
        return asked
    owner = named.session(asked.session) if isinstance(asked.session, str) else asked.session
    owner.touch()
    return asked._replace(session=owner)
