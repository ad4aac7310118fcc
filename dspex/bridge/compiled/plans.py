"""Where plans are kept: by class while it lives, by content, and never too many.

A plan is used only while its signature still says what it said when the plan was made: instructions,
annotations and every field's description are compared at each use.
"""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any

import dspy
from dspy.signatures.signature import SignatureMeta

from dspex.bridge.compiled.watching import says_the_same

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspex.bridge.compiled.plan import Plan

PROVEN = ("3.4.1",)
"""The DSPy versions whose texts the plans were compared with; any other runs DSPy's own code."""


class Entry:
    """A plan, and what its signature said when it was made. `plan` is None where DSPy must do the work."""

    __slots__ = (
        "doc",
        "plan",
        "response_formats",
        "signature",
        "simple",
        "snapshot",
        "used",
        "without_history",
    )

    def __init__(
        self, signature: type[dspy.Signature], plan: Plan | None, forget: Callable[[Any], None]
    ) -> None:
        self.signature = weakref.ref(signature, forget)
        self.doc = signature.__doc__
        self.snapshot = [
            (info.annotation, dict(info.json_schema_extra or {})) for info in signature.model_fields.values()
        ]
        self.plan = plan
        # The plan once more, if nothing but it is needed to write a prompt.
        self.simple = plan if plan is not None and plan.history is None and plan.system is not None else None
        self.used = True
        # Classes that DSPy derives anew for each call, kept with the class they come from.
        self.without_history: type[dspy.Signature] | None = None
        self.response_formats: dict[bool, tuple[list[Any], Any]] = {}

    def fits(self, signature: type[dspy.Signature]) -> bool:
        """Whether this is still what the signature says."""
        self.used = True
        return self.signature() is signature and says_the_same(signature, self.doc, self.snapshot)


class Plans:
    """A bounded store of plans for one adapter.

    Classes are looked up by identity and not kept alive. Two classes that say the same share a plan, because
    DSPy makes a class a call for tool calling and for conversation histories.

    Parameters
    ----------
    make
        Makes the plan of a signature.
    limit
        How many classes, and how many distinct plans, to keep. What was not used for long goes first.
    """

    def __init__(self, make: Callable[[type[dspy.Signature]], Plan], limit: int = 256) -> None:
        self.entries: dict[int, Entry] = {}
        self.limit = limit
        self._make = make
        self._shared: dict[Any, Plan] = {}
        self._lock = threading.RLock()

    def find(self, signature: Any) -> Plan | None:
        """Return the plan of a signature, made if need be; None if DSPy must do the work."""
        entry = self.entry(signature)
        return None if entry is None else entry.plan

    def entry(self, signature: Any) -> Entry | None:
        """Return the plan of a signature with what belongs to this very class."""
        entry = self.entries.get(id(signature))
        if entry is not None and entry.fits(signature):
            return entry
        if type(signature) is not SignatureMeta or dspy.__version__ not in PROVEN:
            return None
        with self._lock:
            plan = self._shared_plan(signature)
            key = id(signature)
            entry = Entry(signature, plan, lambda dead: self._forget(key, dead))
            self._make_room()
            self.entries[key] = entry
        return entry

    def clear(self) -> None:
        """Forget every plan."""
        with self._lock:
            self.entries.clear()
            self._shared.clear()

    def _shared_plan(self, signature: type[dspy.Signature]) -> Plan | None:
        try:
            content = _content(signature)
            plan = self._shared.pop(content, None) or self._make(signature)
            self._shared[content] = plan
        except Exception:  # noqa: BLE001  # the user's types are asked; DSPy will say what is wrong, in its own words
            return None
        while len(self._shared) > self.limit:
            del self._shared[next(iter(self._shared))]
        return plan

    def _make_room(self) -> None:
        # Second chance: what was used since it last came up goes back to the end of the queue.
        while len(self.entries) >= self.limit:
            key = next(iter(self.entries))
            entry = self.entries.pop(key)
            if entry.used and entry.signature() is not None:
                entry.used = False
                self.entries[key] = entry

    def _forget(self, key: int, dead: Any) -> None:
        entry = self.entries.get(key)
        if entry is not None and entry.signature is dead:
            self.entries.pop(key, None)


def _content(signature: type[dspy.Signature]) -> Any:
    """Return all that a plan depends on; equal content, equal plan.

    Unions are equal in any order but are described in their own, hence the annotation's text beside it.
    """
    fields = tuple(
        (
            name,
            info.annotation,
            repr(info.annotation),
            repr(info.metadata),
            tuple(info.json_schema_extra.items()),
        )
        for name, info in signature.model_fields.items()
    )
    hash(fields)
    return signature.__doc__, fields
