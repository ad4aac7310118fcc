"""What depends on what, in an order in which it can be worked out."""

from __future__ import annotations

import graphlib
from typing import TYPE_CHECKING

from dspex.errors import VariableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def ordered(needs: Mapping[str, Iterable[str]]) -> list[str]:
    """Order names so that each comes after what it needs.

    Raises
    ------
    VariableError
        If some need each other in a circle; the message goes round it once.

    Examples
    --------
    >>> ordered({"c": ["b"], "b": ["a"], "a": []})
    ['a', 'b', 'c']
    """
    try:
        return list(graphlib.TopologicalSorter(needs).static_order())
    except graphlib.CycleError as error:
        # Python lists what is needed first; a reader follows who needs whom.
        circle = " → ".join(reversed(error.args[1]))
        raise VariableError(
            f"variables must not depend on each other in a circle, got {circle}",
            hint="an arrow leads from what is conditional or computed to what it reads",
        ) from error


def ancestors(names: Iterable[str], needs: Mapping[str, Iterable[str]]) -> set[str]:
    """Return everything that some names need, directly or not; themselves only if they are needed."""
    found: set[str] = set()
    ahead = [each for name in names for each in needs[name]]
    while ahead:
        name = ahead.pop()
        if name not in found:
            found.add(name)
            ahead += needs[name]
    return found
