"""Switching a DSPy program over to the compiled adapters, and back."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self
from weakref import WeakSet

import dspy
from dspy.dsp.utils.settings import main_thread_config, thread_local_overrides

from dspex.bridge.compiled.adapters import ChatAdapter, JSONAdapter, XMLAdapter
from dspex.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Iterator

_TWINS: dict[type, Any] = {
    dspy.ChatAdapter: ChatAdapter,
    dspy.JSONAdapter: JSONAdapter,
    dspy.XMLAdapter: XMLAdapter,
}


_IN_PLACE_OF_NONE: WeakSet[Any] = WeakSet()
"""Compiled adapters that stand where nobody had chosen one."""


class Acceleration:
    """What `accelerate` did, and how to undo it. As a context manager it undoes itself.

    Parameters
    ----------
    adapter
        The adapter now in force.
    previous
        The one it stands in for; None was DSPy's default.
    """

    def __init__(self, adapter: Any, previous: Any) -> None:
        self.adapter = adapter
        self.previous = previous

    @property
    def is_active(self) -> bool:
        """Whether this put an adapter in force that still is."""
        return self.adapter is not self.previous and main_thread_config["adapter"] is self.adapter

    def undo(self) -> None:
        """Put the previous adapter back, unless somebody has chosen another since."""
        if self.is_active:
            _configure(self.previous)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.undo()

    def __repr__(self) -> str:
        state = "active" if self.is_active else "inactive"
        return f"Acceleration({type(self.adapter).__name__}, {state})"


def accelerate() -> Acceleration:
    """Let every DSPy program format and parse through plans made once per signature.

    It replaces the adapter that `dspy.configure` has set by its compiled twin, with the same options. An
    adapter of another class stays as it is, since only DSPy's own three are known to the byte. Calling it
    again changes nothing.

    Returns
    -------
    A handle with `undo()`.

    Raises
    ------
    DefinitionError
        Within `dspy.context(...)`, whose settings hide the global ones, and in a thread or task that DSPy does
        not let configure it. `accelerated` works everywhere.

    Examples
    --------
    >>> import dspy
    >>> handle = accelerate()
    >>> handle
    Acceleration(ChatAdapter, active)
    >>> handle.undo()
    >>> print(dspy.settings.adapter)
    None
    """
    if thread_local_overrides.get():
        raise DefinitionError(
            "accelerate() sets DSPy's global adapter, which dspy.context(...) hides until it ends",
            hint="use 'with dspex.accelerated():' inside a context",
        )
    previous = main_thread_config["adapter"]
    adapter = twin(previous)
    if adapter is not previous:
        _configure(adapter)
    return Acceleration(adapter, previous)


@contextmanager
def accelerated() -> Iterator[Any]:
    """Do the same for one ``with`` block, in this thread or task only.

    Yields
    ------
    The adapter in force.

    Examples
    --------
    >>> with accelerated() as adapter:
    ...     type(adapter).__name__
    'ChatAdapter'
    """
    adapter = twin(dspy.settings.adapter)
    with dspy.context(adapter=adapter):
        yield adapter


def is_chosen(adapter: Any) -> bool:
    """Whether somebody has chosen this adapter, rather than none or the twin of none."""
    return adapter is not None and adapter not in _IN_PLACE_OF_NONE


def twin(adapter: Any) -> Any:
    """Return the compiled adapter that does what this one does, or the same where there is none.

    The twin shares the options and the list of callbacks.
    """
    if adapter is None:
        made = ChatAdapter()
        _IN_PLACE_OF_NONE.add(made)
        return made
    ours = _TWINS.get(type(adapter))
    if ours is None or vars(adapter).keys() & {"format", "parse"}:
        return adapter
    made = ours.__new__(ours)
    for name, value in vars(adapter).items():
        setattr(made, name, value)
    return made


def _configure(adapter: Any) -> None:
    try:
        dspy.configure(adapter=adapter)
    except RuntimeError as error:
        raise DefinitionError(
            f"DSPy's settings cannot be changed from here: {error}",
            hint="use 'with dspex.accelerated():', which works in every thread and task",
        ) from error
