"""The response cache: answers that were paid for, in memory and in the store, by everything that made them."""

from __future__ import annotations

import copy
import dataclasses
import datetime as dt
import decimal
import enum
import hashlib
import json
import pathlib
import threading
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from dspex.errors import DefinitionError
from dspex.records import Answer, Decision, Step, Strategy

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

    from dspex.native.signature import Signature
    from dspex.orchestrator.result import Result

VERSION = 1
"""Of what a key consists of, and of how answers are written."""
_PLAIN = (str, int, float, bool, type(None))
_WORDS = (dt.date, dt.time, decimal.Decimal, enum.Enum, pathlib.PurePath, uuid.UUID)


@dataclass(frozen=True, slots=True)
class Cache:
    """How answers are kept.

    Raises
    ------
    DefinitionError
        If an option is out of range.
    """

    size: int = 10_000
    """How many stay in memory; those that were not asked for lately leave first."""
    ttl_s: float | None = None
    """For how long they answer; older ones only where there is no room for a call. None: for ever."""
    stored: bool = True
    """Whether the store keeps them too, for the next session and for other processes: the newest 100 000."""

    def __post_init__(self) -> None:
        if self.size < 1 or (self.ttl_s is not None and not self.ttl_s > 0):
            raise DefinitionError(
                f"a cache's size must be at least 1 and its ttl_s above 0, got {self.size} and {self.ttl_s}"
            )


class Shelf(Protocol):
    """Where answers outlive the process: the store."""

    def append_answer(self, answer: Answer) -> None:
        """Keep one."""
        ...

    def answer(self, key: str) -> Answer | None:
        """Find one."""
        ...

    def forget_answer(self, key: str) -> None:
        """Drop one."""
        ...


class Request(NamedTuple):
    """What is asked, as a key: quick to compare in memory, and a text to write into the store."""

    prefix: str
    """Names the signature, the strategies and their settings."""
    pin: Strategy | None
    rollout: int | None
    inputs: Hashable

    @property
    def digest(self) -> str:
        """Name it in every process alike."""
        text = json.dumps([self.prefix, str(self.pin), self.rollout, self.inputs], default=str)
        return hashlib.blake2b(text.encode("utf-8", "backslashreplace"), digest_size=20).hexdigest()


class Entry:
    """An answer in memory."""

    __slots__ = ("_trace", "answer", "decision", "is_plain", "output", "was_used")

    def __init__(self, answer: Answer, output: Mapping[str, Any], decision: Decision) -> None:
        self.answer = answer
        self.output = output
        self.decision = decision
        self.is_plain = all(type(value) in _PLAIN for value in output.values())
        self.was_used = False
        self._trace: tuple[Step, ...] = ()

    def fresh_output(self) -> dict[str, Any]:
        """Return the output as a caller may change it."""
        return dict(self.output) if self.is_plain else copy.deepcopy(dict(self.output))

    @property
    def trace(self) -> tuple[Step, ...]:
        """What the trace of a recalled answer consists of."""
        self._trace = self._trace or (self._step(),)
        return self._trace

    def _step(self) -> Step:
        at = dt.datetime.fromtimestamp(self.answer.at).astimezone()
        told = (
            f"{self.decision.strategy} answered the same on {at:%Y-%m-%d at %H:%M}; nothing was asked or paid"
        )
        return Step("recall", 0.0, 0.0, told)


class ResponseCache:
    """Remembers answers.

    Reading takes no lock: a dictionary's look-up is one step. Which answers leave is decided by a second
    chance, as a clock's hand would: cheap to note, and near to least recently used.

    Parameters
    ----------
    shelf
        The store, or None for memory alone.
    clock
        Seconds since the Unix epoch.
    """

    def __init__(
        self, settings: Cache, *, shelf: Shelf | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self.settings = settings
        self._shelf = shelf if settings.stored else None
        self._clock = clock
        self._entries: dict[Request, Entry] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def recall(self, request: Request) -> Entry | None:
        """Find an answer in memory that is not too old."""
        entry = self._entries.get(request)
        if entry is None or not self._is_fresh(entry):
            return None
        entry.was_used = True
        return entry

    def fetch(self, request: Request, described: Signature, *, stale: bool = False) -> Entry | None:
        """Find an answer in memory or in the store.

        Parameters
        ----------
        stale
            Whether it may be too old.
        """
        entry = self._entries.get(request)
        if entry is None and self._shelf is not None:
            answer = self._shelf.answer(request.digest)
            output = None if answer is None else read(described, answer.output)
            if answer is not None and output is not None:
                entry = Entry(answer, output, _recalled_decision(answer))
                self._keep(request, entry)
        return entry if entry is not None and (stale or self._is_fresh(entry)) else None

    def put(self, request: Request, described: Signature, result: Result) -> None:
        """Keep an answer. What cannot be written as JSON and read back the same stays in memory."""
        written = write(described, result.output) if self._shelf is not None else None
        answer = Answer(
            request.digest, result.decision.strategy, written or {}, result.execution_id, self._clock()
        )
        entry = Entry(answer, result.output, result.decision)
        entry.output = entry.fresh_output()
        self._keep(request, entry)
        if self._shelf is not None and written is not None:
            self._shelf.append_answer(answer)

    def forget(self, request: Request) -> None:
        """Drop an answer: somebody found it wrong."""
        with self._lock:
            self._entries.pop(request, None)
        if self._shelf is not None:
            self._shelf.forget_answer(request.digest)

    def _is_fresh(self, entry: Entry) -> bool:
        ttl_s = self.settings.ttl_s
        return ttl_s is None or self._clock() - entry.answer.at < ttl_s

    def _keep(self, request: Request, entry: Entry) -> None:
        with self._lock:
            self._entries.pop(request, None)
            self._entries[request] = entry
            while len(self._entries) > self.settings.size:
                oldest = next(iter(self._entries))
                leaving = self._entries.pop(oldest)
                if leaving.was_used:
                    leaving.was_used = False
                    self._entries[oldest] = leaving


def prefix_of(
    described: Signature, strategies: Sequence[Strategy], settings: Sequence[Any], *program: str
) -> str:
    """Name everything but the inputs that an answer depends on.

    Parameters
    ----------
    settings
        Of models and adapters; secrets must not be among them.
    program
        What a program says to models, if it is one.
    """
    said = [
        VERSION,
        described.key,
        described.instructions,
        [[field.name, field.role, _type_named(field.annotation), field.prefix] for field in described.fields],
        sorted(map(str, strategies)),
        settings,
        program,
    ]
    text = json.dumps(said, default=repr, sort_keys=True)
    return hashlib.blake2b(text.encode("utf-8", "backslashreplace"), digest_size=16).hexdigest()


def inputs_key(inputs: Mapping[str, Any]) -> Hashable | None:
    """Name inputs by their values; None for what cannot be named, which is then not cached.

    Examples
    --------
    >>> inputs_key({"b": "2", "a": "1"}) == inputs_key({"a": "1", "b": "2"})
    True
    >>> inputs_key({"n": 1}) == inputs_key({"n": True})
    False
    >>> inputs_key({"f": print}) is None
    True
    """
    for value in inputs.values():
        if type(value) is not str:
            break
    else:
        items = inputs.items()
        return tuple(items) if len(items) == 1 else tuple(sorted(items))
    try:
        return json.dumps(inputs, sort_keys=True, default=_named_value)
    except (TypeError, ValueError):
        return None


def write(described: Signature, output: Mapping[str, Any]) -> dict[str, Any] | None:
    """Write an answer as JSON values; None if it could not be read back the same."""
    from pydantic import TypeAdapter

    types = {field.name: field.annotation for field in described.fields if field.role == "output"}
    written: dict[str, Any] = {}
    try:
        for name, value in output.items():
            if type(value) in _PLAIN and value == value:  # noqa: PLR0124  # NaN is no JSON
                written[name] = value
            elif name in types:
                written[name] = TypeAdapter(types[name]).dump_python(value, mode="json")
            else:
                return None
        return (
            written if read(described, json.loads(json.dumps(written, allow_nan=False))) == output else None
        )
    except Exception:  # noqa: BLE001  # a user's own type may do anything; then memory alone keeps it
        return None


def read(described: Signature, written: Mapping[str, Any]) -> dict[str, Any] | None:
    """Read an answer back; None if it does not fit the signature."""
    from pydantic import TypeAdapter, ValidationError

    types = {field.name: field.annotation for field in described.fields if field.role == "output"}
    try:
        return {
            name: TypeAdapter(types[name]).validate_python(value)
            if name in types and types[name] is not str
            else value
            for name, value in written.items()
        }
    except ValidationError:
        return None


def _recalled_decision(answer: Answer) -> Decision:
    reason = f"{answer.strategy} answered the same request before"
    return Decision(answer.strategy, "policy", 1.0, reason)


def _type_named(annotation: Any) -> str:
    """Name a type by what it consists of: a class that was changed is another one."""
    if annotation is str:
        return "str"
    from pydantic import TypeAdapter

    try:
        return json.dumps(TypeAdapter(annotation).json_schema(), sort_keys=True, default=str)
    except Exception:  # noqa: BLE001  # pydantic may not know the type; its name must do
        return repr(annotation)


def _named_value(value: Any) -> Any:
    """Write a value that is no JSON with its type, or refuse."""
    if isinstance(value, _WORDS):
        return [type(value).__qualname__, str(value)]
    if isinstance(value, bytes):
        return ["bytes", value.hex()]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [type(value).__qualname__, dataclasses.asdict(value)]
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        return [type(value).__qualname__, dump(mode="json")]
    raise TypeError(f"{type(value).__name__} cannot be named by its value")
