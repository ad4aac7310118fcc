"""A journal of what was set on objects, so that all of it can be taken back exactly."""

from __future__ import annotations

from typing import Any

from dspex.records import MISSING


class Journal:
    """Sets attributes and items, and undoes that in reverse order.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> store, journal = SimpleNamespace(k=3), Journal()
    >>> journal.set(store, "k", 8)
    >>> journal.set(store, "seen", True)
    >>> journal.undo()
    >>> store
    namespace(k=3)
    """

    def __init__(self) -> None:
        self._entries: list[tuple[Any, Any, Any]] = []

    def __len__(self) -> int:
        return len(self._entries)

    def set(self, target: Any, name: str, value: Any) -> None:
        """Set an attribute."""
        before = _own_value(target, name)
        setattr(target, name, value)
        self._entries.append((target, name, before))

    def put(self, holder: Any, key: Any, value: Any) -> None:
        """Set an item of a list or dict, or an attribute of anything else."""
        if not isinstance(holder, (list, dict)):
            self.set(holder, key, value)
            return
        before = holder[key]
        holder[key] = value
        self._entries.append((holder, key, before))

    def undo(self) -> None:
        """Put everything back; what refuses is told at the end, after all the others are back."""
        refused = []
        while self._entries:
            target, name, before = self._entries.pop()
            try:
                _put_back(target, name, before)
            except Exception as error:  # noqa: BLE001  # a property of the user's may raise anything
                refused.append(error)
        if refused:
            raise refused[0]


class NoJournal(Journal):
    """Sets and forgets: for what nobody has seen yet."""

    def set(self, target: Any, name: str, value: Any) -> None:
        """Set an attribute."""
        setattr(target, name, value)


def _own_value(target: Any, name: str) -> Any:
    """Return what an attribute is; MISSING if the object itself has none, only its class."""
    # What a class, a property or a slot keeps is not among an object's attributes.
    if name in {"__class__", "__dict__"} or hasattr(getattr(type(target), name, None), "__set__"):
        return getattr(target, name, MISSING)
    return getattr(target, "__dict__", {}).get(name, MISSING)


def _put_back(target: Any, name: Any, before: Any) -> None:
    if isinstance(target, (list, dict)):
        target[name] = before
    elif before is MISSING:
        delattr(target, name)
    else:
        setattr(target, name, before)
