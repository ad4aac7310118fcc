"""Setting values on the very objects one has, all or none of them, and taking them back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import dspy

from dspex.bridge import binding
from dspex.bridge.journal import Journal
from dspex.bridge.parts import Address, has, holder_of
from dspex.errors import UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Container, Sequence


class Applied:
    """What was set, and how to take it back. As a context manager it takes itself back.

    Parameters
    ----------
    targets
        What it was set on.
    journal
        What stood there before.
    """

    def __init__(self, targets: Any, journal: Journal) -> None:
        self.targets = targets
        self._journal = journal

    def restore(self) -> None:
        """Put everything back as it was; a second time does nothing."""
        self._journal.undo()

    def __enter__(self) -> Any:
        return self.targets

    def __exit__(self, *exc_info: object) -> None:
        self.restore()

    def __repr__(self) -> str:
        return f"Applied({'in force' if self._journal else 'restored'})"


def apply(
    values: Mapping[str, Any],
    targets: Any,
    *,
    examples: Sequence[dspy.Example] | None = None,
    optional: Container[str] = (),
) -> Applied:
    """Set values on objects: on all of them, or on none.

    Parameters
    ----------
    values
        By address: an attribute such as ``retriever.k``, an item such as ``stages[0].k`` or ``rates['de']``;
        for a `dspy.Module` also what a space can vary, such as ``temperature`` or ``plan.model``.
    targets
        One object, or several by name; the name is then the address's first part.
    examples
        Where demos are taken from.
    optional
        Values that a `dspy.Module` need not have.

    Returns
    -------
    A handle with `restore()`; in a ``with`` block it restores by itself.

    Raises
    ------
    UnknownNameError
        If something that is to be set is not there; every such name is listed.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> store, limits = SimpleNamespace(k=3), {"tokens": 100}
    >>> with apply({"store.k": 8, "limits.tokens": 500}, {"store": store, "limits": limits}):
    ...     store, limits
    (namespace(k=8), {'tokens': 500})
    >>> store, limits
    (namespace(k=3), {'tokens': 100})
    """
    journal = Journal()
    shares = _shared_out(values, targets)
    for target, share in shares:
        _check(target, share, optional)
    try:
        for target, share in shares:
            _apply(target, share, journal, examples, optional)
    except BaseException:
        journal.undo()
        raise
    return Applied(targets, journal)


def _shared_out(values: Mapping[str, Any], targets: Any) -> list[tuple[Any, dict[str, Any]]]:
    """Say which values are for which target."""
    if not isinstance(targets, Mapping):
        return [(targets, dict(values))]
    shares: dict[str, dict[str, Any]] = {}
    unknown = []
    for name, value in values.items():
        target, _, rest = name.partition(".")
        if target in targets and rest:
            shares.setdefault(target, {})[rest] = value
        else:
            unknown.append(name)
    if unknown:
        raise UnknownNameError(
            f"no target is meant by {', '.join(unknown)}; there are {', '.join(map(str, targets))}",
            hint="an address begins with a target's name: apply({'store.k': 8}, {'store': store})",
        )
    return [(targets[target], share) for target, share in shares.items()]


def _check(target: Any, values: Mapping[str, Any], optional: Container[str]) -> None:
    if isinstance(target, dspy.Module):
        # What a module has is known once it is there; binding looks the other names up itself.
        if not any(Address.of(name).what == "module" for name in values):
            binding.check(target, [name for name in values if name not in optional])
        return
    unknown = [name for name in values if not has(_holder(target, name), Address.of(name).what)]
    if unknown:
        known = target if isinstance(target, dict) else [name for name in dir(target) if name[0] != "_"]
        raise UnknownNameError(
            f"{type(target).__name__} has none of {', '.join(unknown)}; it has {', '.join(map(str, known))}",
            hint="only what is there can be set",
        )


def _apply(
    target: Any,
    values: Mapping[str, Any],
    journal: Journal,
    examples: Sequence[dspy.Example] | None,
    optional: Container[str],
) -> None:
    if isinstance(target, dspy.Module):
        binding.bind_in_place(target, values, journal, examples=examples, optional=optional)
        return
    for name, value in values.items():
        journal.put(_holder(target, name), Address.of(name).what, value)


def _holder(target: Any, name: str) -> Any:
    try:
        return holder_of(target, Address.of(name).where)
    except (AttributeError, LookupError, TypeError):
        return None
