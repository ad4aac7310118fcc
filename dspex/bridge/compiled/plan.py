"""Plans: what an adapter can know of a signature before any value is seen, and where plans are kept.

A plan's fixed texts are rendered by DSPy itself, once. A plan is used only while the signature still says
what it said then: instructions, annotations and every field's description are compared at each use.
"""

from __future__ import annotations

import threading
import weakref
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import dspy
from dspy.adapters._legacy_type_markers import _expand_legacy_custom_type_markers_in_chat_message as _expanded
from dspy.adapters.types import History
from dspy.adapters.types.base_type import CUSTOM_TYPE_START_IDENTIFIER, Type
from dspy.adapters.types.tool import ToolCalls
from dspy.adapters.utils import apply_output_field_defaults
from dspy.signatures.signature import SignatureMeta

from dspex.bridge.compiled.demos import FrozenDemos, store_of
from dspex.bridge.compiled.readers import reader_for
from dspex.bridge.compiled.values import UnprovenError, text_of, text_of_str_field

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Messages = list[dict[str, Any]]

PROVEN = ("3.4.1",)
"""The DSPy versions whose texts these plans were compared with; any other runs DSPy's own code."""

MARKER = CUSTOM_TYPE_START_IDENTIFIER

watched = attrgetter("annotation", "json_schema_extra")
"""What a plan depends on in a field."""

_INCOMPLETE = "This is an example of the task, though some input or output fields are not supplied."
_NOT_SUPPLIED = "Not supplied for this particular example. "
_FROZEN_LIMIT = 4
_copied = dict.copy


class Slot(NamedTuple):
    """A field: its name, the text that stands before its value, and what writes a value that is no `str`."""

    name: str
    head: str
    write: Callable[[Any], str]


class Plan:
    """What is fixed for one signature under one adapter. Subclasses add one format's texts.

    Parameters
    ----------
    signature
        The class to read; the plan keeps no reference to it.
    stock
        DSPy's adapter, which renders the fixed texts.
    """

    def __init__(self, signature: type[dspy.Signature], stock: dspy.Adapter) -> None:
        inputs, outputs = signature.input_fields, signature.output_fields
        self.input_names, self.output_names = tuple(inputs), tuple(outputs)
        self.annotations = {name: info.annotation for name, info in outputs.items()}
        self.system: str | None = None
        if not _describes_itself(signature):
            self.system = stock.format_system_message(signature)
        self.requirements: str = stock.user_message_output_requirements(signature)
        self.history = next((name for name, info in inputs.items() if info.annotation == History), None)
        self.inputs = [self.slot(name, info) for name, info in inputs.items()]
        self.outputs = [self.slot(name, info) for name, info in outputs.items()]
        # What DSPy asks of every call: does an output hold tool calls, or a type that models produce natively?
        self.has_tool_calls = any(annotation == ToolCalls for annotation in self.annotations.values())
        self.has_types = any(
            isinstance(annotation, type) and issubclass(annotation, Type)
            for annotation in self.annotations.values()
        )
        self.readers_: dict[str, Callable[[Any], Any]] | None = None
        self._frozen: dict[int, FrozenDemos] = {}
        self._last_demos = 0

    @property
    def readers(self) -> dict[str, Callable[[Any], Any]]:
        """Return the outputs' readers, made when the first completion is read."""
        if self.readers_ is None:
            self.readers_ = {name: reader_for(annotation) for name, annotation in self.annotations.items()}
        return self.readers_

    def slot(self, name: str, info: Any) -> Slot:
        """Describe one field."""
        raise NotImplementedError

    def request(self, values: Mapping[str, Any]) -> str:
        """Write the user message that asks for an answer."""
        return self.user(values, "", self.requirements)

    def user(self, values: Any, prefix: str, requirements: str | None) -> str:
        """Write a user message from whichever inputs there are."""
        raise NotImplementedError

    def assistant(self, values: Any, missing: str | None) -> str:
        """Write an assistant message; `missing` stands for an output that is not there."""
        raise NotImplementedError

    def pair(self, store: Mapping[str, Any]) -> tuple[str, str] | None:
        """Write a demo's two messages, or None if a field is missing or None."""
        for name in (*self.input_names, *self.output_names):
            if store.get(name) is None:
                return None
        return self.user(store, "", None), self.assistant(store, None)

    def parse(self, signature: type[dspy.Signature], completion: str) -> dict[str, Any]:
        """Read a completion, or raise anything."""
        raise NotImplementedError

    def demo_messages(self, demos: Any) -> Messages:
        """Write all demos: the incomplete ones first, as DSPy does."""
        key = id(demos)
        frozen = self._frozen.get(key)
        if frozen is not None:
            if frozen.still_holds(demos):
                return list(map(_copied, frozen.messages))
            self._frozen.pop(key, None)
        stores = [store_of(demo) for demo in demos]
        messages = self._written(stores)
        # Only what is used twice is worth remembering.
        if key == self._last_demos:
            self._freeze(key, stores, messages)
        self._last_demos = key
        return messages

    def _written(self, stores: list[dict[str, Any]]) -> Messages:
        first: Messages = []
        then: Messages = []
        for store in stores:
            pair = self.pair(store)
            if pair is not None:
                content, answer = pair
                message = {"role": "user", "content": content}
                then.append(_expanded(message) if MARKER in content else message)
                then.append({"role": "assistant", "content": answer})
            elif any(name in store for name in self.input_names) and any(
                name in store for name in self.output_names
            ):
                user = self.user(store, _INCOMPLETE, None)
                answer = self.assistant(store, _NOT_SUPPLIED)
                first += (asking(user), {"role": "assistant", "content": answer})
        return first + then

    def _freeze(self, key: int, stores: list[dict[str, Any]], messages: Messages) -> None:
        if not all(type(message["content"]) is str for message in messages):
            return  # images and the like are lists that a receiver may change
        try:
            frozen = FrozenDemos(stores, list(map(_copied, messages)))
        except Exception:  # noqa: BLE001  # a value that cannot be watched: these demos are written each time
            return
        while len(self._frozen) >= _FROZEN_LIMIT:
            self._frozen.pop(next(iter(self._frozen)), None)
        self._frozen[key] = frozen

    def completed(self, signature: type[dspy.Signature], fields: dict[str, Any]) -> dict[str, Any]:
        """Put what was read into the signature's order, with defaults for what may be missing."""
        if len(fields) == len(self.output_names):
            return {name: fields[name] for name in self.output_names}
        completed: dict[str, Any] = apply_output_field_defaults(signature, fields)
        if len(completed) != len(self.output_names):
            raise UnprovenError
        return completed

    def filled(self, signature: type[dspy.Signature], fields: dict[str, Any]) -> dict[str, Any]:
        """Put None for what an adapter of the user's own left out."""
        if tuple(fields) == self.output_names:
            return dict(fields)
        filled: dict[str, Any] = apply_output_field_defaults(signature, fields)
        for name in self.output_names:
            filled.setdefault(name, None)
        return filled


def asking(content: str) -> dict[str, Any]:
    """Make a user message, in which images and the like become parts of their own."""
    message = {"role": "user", "content": content}
    return _expanded(message) if MARKER in content else message


def writer_of(info: Any) -> Callable[[Any], str]:
    """Return what writes a field's values."""
    return text_of_str_field if info.annotation is str else text_of


def _describes_itself(signature: type[dspy.Signature]) -> bool:
    """Whether a type of the user's writes its own description, which may differ from call to call."""
    return any(
        custom.description.__func__ is not Type.description.__func__
        and not custom.__module__.startswith("dspy.")
        for info in signature.model_fields.values()
        for custom in Type.extract_custom_type_from_annotation(info.rebuild_annotation())
    )


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
        return (
            self.signature() is signature
            and signature.__doc__ is self.doc
            and list(map(watched, signature.__pydantic_fields__.values())) == self.snapshot
        )


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
        except Exception:  # noqa: BLE001  # DSPy will say what is wrong with it, in its own words
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
