"""What an adapter is: one way of asking a model for a task's outputs, whole, piece by piece, or many at once."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from dspex.bridge import observe
from dspex.errors import DefinitionError, DspexError, ExecutionError, ProviderError, UnreadableAnswerError
from dspex.records import Outcome
from dspex.redact import redact

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator
    from types import TracebackType

    from dspex.native.signature import Signature
    from dspex.records import Usage

Inputs = Mapping[str, Any]
TEXT = "text"
"""The output of a task that is plain text."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an adapter can do beyond answering.

    `schemas` lists how the provider itself can hold answers to a schema, the surest way first; empty if it
    cannot. `modules` lists the DSPy modules whose steps it can take; None if any.
    """

    streams: bool = False
    schemas: tuple[str, ...] = ()
    modules: tuple[str, ...] | None = ("Predict",)
    plain_prompts: bool = True
    """Whether it takes a text as well as a signature."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: the outputs by name, and what it took."""

    output: Inputs
    text: str
    """What the model wrote, as it wrote it."""
    usage: Usage
    adapter: str
    model: str
    how: str = ""
    """How the form of the answer was asked for, where an adapter knows several ways."""
    attempts: int = 1
    """How often the model was asked; 2 if its first answer had to be corrected."""

    def __getitem__(self, name: str) -> Any:
        return self.output[name]


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of an answer. Joined, the texts are what the model wrote; the last one brings the answer."""

    text: str
    answer: Answer | None = None


@dataclass(frozen=True, slots=True)
class Ask:
    """A task and its inputs, checked. `signature` is None for a plain prompt, which is in `prompt`."""

    signature: Signature | None
    inputs: Inputs = field(default_factory=dict)
    prompt: str = ""


class Adapter(ABC):
    """One way of asking one model. A subclass says how in `answer`; the rest follows, and may be overridden.

    Every public call takes a task (a `Signature`, or a plain prompt as text) and its inputs, as a mapping,
    as keywords, or both. It may be called from any number of threads and event loops at once. What goes
    wrong is raised as one of our errors.

    Attributes
    ----------
    name
        What the log and the learner call it.
    model
        Which model it asks.
    concurrency
        How many calls a batch makes at a time.
    """

    name = "adapter"
    model = ""
    concurrency = 16
    capabilities = Capabilities()

    @abstractmethod
    def answer(self, ask: Ask) -> Answer:
        """Answer what is asked; called by `generate` and all that is built on it."""

    def pieces(self, ask: Ask) -> Iterator[Chunk]:
        """Answer piece by piece; unless overridden, in one piece."""
        answer = self.answer(ask)
        yield Chunk(answer.text)
        yield Chunk("", answer)

    async def aanswer(self, ask: Ask) -> Answer:
        """Answer without blocking the event loop; unless overridden, on a thread."""
        return await asyncio.to_thread(self.answer, ask)

    async def apieces(self, ask: Ask) -> AsyncIterator[Chunk]:
        """Answer piece by piece without blocking the event loop; unless overridden, on a thread."""
        async for chunk in _from_thread(self.pieces(ask)):
            yield chunk

    # ── the public calls ────────────────────────────────────────────────────────────────────────

    def generate(self, task: Signature | str, inputs: Inputs | None = None, /, **fields: Any) -> Answer:
        """Answer a task.

        Raises
        ------
        DefinitionError
            If the task or its inputs are wrong; nothing was asked then.
        ExecutionError
            If there is no answer, or none that can be read.
        """
        return self.answer(self._ask(task, inputs, fields))

    def stream(
        self, task: Signature | str, inputs: Inputs | None = None, /, **fields: Any
    ) -> Iterator[Chunk]:
        """Answer a task piece by piece; raises as `generate` does, maybe after some pieces."""
        return self.pieces(self._ask(task, inputs, fields))

    def structured(self, task: Signature, inputs: Inputs | None = None, /, **fields: Any) -> Answer:
        """Answer a task with outputs that fit their types and keep their constraints, or raise."""
        ask = self._ask(task, inputs, fields)
        return checked(ask, self.answer(ask))

    def batch(self, task: Signature | str, many: Iterable[Inputs]) -> list[Answer | ExecutionError]:
        """Answer a task for many inputs, in their order; what fails is an error in its place."""
        asks = [self._ask(task, inputs, {}) for inputs in many]
        with ThreadPoolExecutor(max(1, min(self.concurrency, len(asks)))) as threads:
            return list(threads.map(self._answer_or_error, asks))

    async def agenerate(
        self, task: Signature | str, inputs: Inputs | None = None, /, **fields: Any
    ) -> Answer:
        """Do what `generate` does without blocking the event loop."""
        return await self.aanswer(self._ask(task, inputs, fields))

    def astream(
        self, task: Signature | str, inputs: Inputs | None = None, /, **fields: Any
    ) -> AsyncIterator[Chunk]:
        """Do what `stream` does without blocking the event loop."""
        return self.apieces(self._ask(task, inputs, fields))

    async def astructured(self, task: Signature, inputs: Inputs | None = None, /, **fields: Any) -> Answer:
        """Do what `structured` does without blocking the event loop."""
        ask = self._ask(task, inputs, fields)
        return checked(ask, await self.aanswer(ask))

    async def abatch(self, task: Signature | str, many: Iterable[Inputs]) -> list[Answer | ExecutionError]:
        """Do what `batch` does without blocking the event loop."""
        asks = [self._ask(task, inputs, {}) for inputs in many]
        turns = asyncio.Semaphore(self.concurrency)

        async def answered(ask: Ask) -> Answer | ExecutionError:
            async with turns:
                try:
                    return await self.aanswer(ask)
                except ExecutionError as error:
                    return error

        return await asyncio.gather(*map(answered, asks))

    def close(self) -> None:  # noqa: B027  # most hold nothing
        """Let go of the connections it holds; asked again, it opens new ones."""

    async def aclose(self) -> None:
        """Let go of what it holds, connections of this event loop included."""
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<{self.name} adapter for {self.model or 'no model'}>"

    # ── the parts ───────────────────────────────────────────────────────────────────────────────

    def _ask(self, task: Any, inputs: Inputs | None, fields: Inputs) -> Ask:
        given = {**(inputs or {}), **fields}
        if isinstance(task, str):
            if given or not self.capabilities.plain_prompts:
                raise DefinitionError(
                    f"the {self.name} adapter takes a text as a plain prompt, which has no inputs"
                    if self.capabilities.plain_prompts
                    else f"the {self.name} adapter takes a signature, not a plain prompt",
                    hint=f"a signature is made with dspex.signature({task[:60]!r})",
                )
            return Ask(None, {}, task)
        if not hasattr(task, "check_inputs"):
            raise DefinitionError(
                f"a task is a signature or a plain prompt, got {type(task).__name__}",
                hint="dspex.signature('question -> answer') makes one; it takes a dspy.Signature too",
            )
        task.check_inputs(given)
        return Ask(task, given)

    def _answer_or_error(self, ask: Ask) -> Answer | ExecutionError:
        try:
            return self.answer(ask)
        except ExecutionError as error:
            return error


def checked(ask: Ask, answer: Answer) -> Answer:
    """Return an answer whose outputs are whole and keep their constraints, or raise."""
    problem = problem_with(ask, answer.output)
    if problem is not None:
        raise unreadable(answer.model, answer.text, problem)
    return answer


def problem_with(ask: Ask, output: Inputs) -> str | None:
    """Say which outputs are missing, of another type, or out of bounds; None if all is well."""
    if ask.signature is None:
        return None
    missing = [name for name in ask.signature.outputs if name not in output]
    if missing:
        return f"there is no {', '.join(missing)}"
    return ask.signature.broken_constraints(output)


def outcome_of(adapter: Adapter, signature: Signature, inputs: Inputs) -> Outcome:
    """Ask an adapter once, and say how it went; what went wrong is a part of it."""
    with observe.metered() as meter:
        try:
            answer = adapter.generate(signature, inputs)
        except ExecutionError as error:
            return failed(error, meter.usage)
    return Outcome(answer.output, answer.usage)


def failed(error: DspexError, usage: Usage) -> Outcome:
    """Write a failure as an outcome. Only what a provider did wrong counts against it."""
    is_providers = isinstance(error, ProviderError)
    told = f"{type(error).__name__}: {error.message}"
    failure = error if is_providers and not isinstance(error, UnreadableAnswerError) else None
    return Outcome(None, usage, told, failure=failure, hint=error.hint if is_providers else None)


def unreadable(model: str, text: str, problem: str) -> UnreadableAnswerError:
    """Say that an answer cannot be used, why, and how it begins."""
    begins = " ".join(redact(text[:320])[:160].split())  # half of a key has no telling shape
    return UnreadableAnswerError(
        f"{model} answered what cannot be used: {problem}; it wrote {begins!r}",
        provider=model,
        hint="try again, use the structured adapter, or another model",
    )


async def _from_thread(chunks: Iterator[Chunk]) -> AsyncIterator[Chunk]:
    """Run an iterator in a thread, and hand its chunks on as they come."""
    queue: asyncio.Queue[Chunk | BaseException | None] = asyncio.Queue()
    loop, left = asyncio.get_running_loop(), threading.Event()

    def put(item: Chunk | BaseException | None) -> None:
        if not left.is_set():
            loop.call_soon_threadsafe(queue.put_nowait, item)

    def run() -> None:
        try:
            for chunk in chunks:
                if left.is_set():
                    return
                put(chunk)
            put(None)
        except BaseException as error:  # noqa: BLE001  # it is raised again where it is awaited
            put(error)

    running = asyncio.ensure_future(asyncio.to_thread(run))
    try:
        while (item := await queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        left.set()
        await running
