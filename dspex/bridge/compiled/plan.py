"""Plans: what an adapter can know of a signature before any value is seen.

A plan's fixed texts are rendered by DSPy itself, once; the rest is one writer and one reader per field.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from dspy.adapters._legacy_type_markers import _expand_legacy_custom_type_markers_in_chat_message as _expanded
from dspy.adapters.types import History
from dspy.adapters.types.base_type import CUSTOM_TYPE_START_IDENTIFIER, Type
from dspy.adapters.types.tool import ToolCalls
from dspy.adapters.utils import apply_output_field_defaults

from dspex.bridge.compiled.demos import FrozenDemos, stores_of
from dspex.bridge.compiled.readers import reader_for
from dspex.bridge.compiled.values import UnprovenError, text_of, text_of_str_field
from dspex.bridge.compiled.writing import Frame, Slot, pair_writer, request_writer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import dspy

    Messages = list[dict[str, Any]]

MARKER = CUSTOM_TYPE_START_IDENTIFIER

_INCOMPLETE = "This is an example of the task, though some input or output fields are not supplied."
_NOT_SUPPLIED = "Not supplied for this particular example. "
_FROZEN_LIMIT = 4
_copied = dict.copy


class Plan(ABC):
    """What is fixed for one signature under one adapter. Subclasses add one format's texts.

    Parameters
    ----------
    signature
        The class to read; the plan keeps no reference to it.
    stock
        DSPy's adapter, which renders the fixed texts.
    """

    answer: ClassVar[Frame]
    """What stands around and between the outputs."""

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
        self._frozen: dict[int, FrozenDemos] = {}
        self._last_demos = 0

    @cached_property
    def readers(self) -> dict[str, Callable[[Any], Any]]:
        """The outputs' readers, made when the first completion is read."""
        return {name: reader_for(annotation) for name, annotation in self.annotations.items()}

    @abstractmethod
    def slot(self, name: str, info: Any) -> Slot:
        """Describe one field."""

    @cached_property
    def request(self) -> Callable[[Mapping[str, Any]], str]:
        """What writes the user message that asks for an answer."""
        return request_writer(
            self.inputs, self.requirements, lambda values: self.user(values, "", self.requirements)
        )

    @cached_property
    def pair(self) -> Callable[[Mapping[str, Any]], tuple[str, str] | None]:
        """What writes a demo's two messages, or says None if a field is missing or None."""
        return pair_writer(self.inputs, self.outputs, self.answer)

    def user(self, values: Any, prefix: str, requirements: str | None) -> str:
        """Write a user message from whichever inputs there are."""
        parts = [prefix, *self._asked(values)]
        if requirements is not None:
            parts.append(requirements)
        return "\n\n".join([*parts, ""]).strip()

    def _asked(self, values: Any) -> list[str]:
        return [
            f"{slot.head}{slot.write(values[slot.name])}{slot.tail}"
            for slot in self.inputs
            if slot.name in values
        ]

    def assistant(self, values: Any, missing: str | None) -> str:
        """Write an assistant message; `missing` stands for an output that is not there."""
        get = values.get
        parts = [f"{slot.head}{slot.write(get(slot.name, missing))}{slot.tail}" for slot in self.outputs]
        return "\n\n".join(parts).strip() + self.answer.closing

    @abstractmethod
    def parse(self, signature: type[dspy.Signature], completion: str) -> dict[str, Any]:
        """Read a completion, or raise anything."""

    def demo_messages(self, demos: Any) -> Messages:
        """Write all demos: the incomplete ones first, as DSPy does."""
        key = id(demos)
        frozen = self._frozen.get(key)
        if frozen is not None:
            if frozen.still_holds(demos):
                return list(map(_copied, frozen.messages))
            self._frozen.pop(key, None)
        stores = stores_of(demos)
        messages = self._written(stores)
        # Only what is used twice is worth remembering.
        if key == self._last_demos:
            self._freeze(key, stores, messages)
        self._last_demos = key
        return messages

    def _written(self, stores: list[dict[str, Any]]) -> Messages:
        first: Messages = []
        then: Messages = []
        write = self.pair
        for store in stores:
            pair = write(store)
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
        except Exception:  # noqa: BLE001  # the user's types write themselves, and may raise anything: no freezing then
            return
        while len(self._frozen) >= _FROZEN_LIMIT:
            self._frozen.pop(next(iter(self._frozen)), None)
        self._frozen[key] = frozen

    def completed(self, signature: type[dspy.Signature], fields: dict[str, Any]) -> dict[str, Any]:
        """Put what was read into the signature's order, with defaults for what may be missing."""
        if tuple(fields) == self.output_names:
            return fields
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


def plain_slot(info: Any, name: str, head: str, tail: str = "") -> Slot:
    """Describe a field whose values are written as they are."""
    annotation = info.annotation
    if annotation is str:
        return Slot(name, head, text_of_str_field, tail)
    is_plain = annotation is int or annotation is float or annotation is bool
    return Slot(name, head, text_of, tail, annotation if is_plain else str)


def _describes_itself(signature: type[dspy.Signature]) -> bool:
    """Whether a type of the user's writes its own description, which may differ from call to call."""
    return any(
        custom.description.__func__ is not Type.description.__func__
        and not custom.__module__.startswith("dspy.")
        for info in signature.model_fields.values()
        for custom in Type.extract_custom_type_from_annotation(info.rebuild_annotation())
    )
