"""Adapters that ask a client: what to ask next is decided apart from how it is sent."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from dspex.adapters import forms
from dspex.adapters.base import Adapter, Answer, Ask, Capabilities, Chunk, unreadable
from dspex.errors import DefinitionError, ProviderError, UnknownNameError
from dspex.records import Completion, Prompt, Usage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Iterator

    from dspex.bridge.clients import Client

    Steps = Generator[Prompt, Completion, Answer]

MODULES = ("Predict", "ChainOfThought")


class AlreadyShownError(Exception):
    """Tells steps that they cannot ask again, because what came was shown while it was written."""


class AskingAdapter(Adapter):
    """Asks a client with short prompts of its own.

    A subclass writes `steps`: a generator that yields a prompt, is sent the completion or thrown the
    provider's error, and returns the answer. If it wants to ask again what was shown already, it is thrown
    an `AlreadyShownError`, and may raise why the answer will not do. The same steps serve threads, event loops and streams.

    Parameters
    ----------
    client
        Who is asked.
    module
        ``Predict``, or ``ChainOfThought`` to have the model think first.
    template
        How the inputs are written, as made by `dspex.template`; one line each if left out.
    temperature, max_tokens
        Sampling; the model's own if left out.
    concurrency
        How many calls a batch makes at a time.
    """

    def __init__(
        self,
        client: Client,
        *,
        module: str = "Predict",
        template: Any = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        concurrency: int = 50,
    ) -> None:
        if module not in MODULES:
            raise UnknownNameError.among(
                f"module of the {self.name} adapter", module, MODULES, hint="the bridged adapter runs any"
            )
        if concurrency < 1:
            raise DefinitionError(f"concurrency must be a number > 0, got {concurrency}")
        self.client, self.module, self.template = client, module, template
        self.model, self.concurrency = client.name, concurrency
        self._sampling: dict[str, Any] = {"temperature": temperature, "max_tokens": max_tokens}
        self.capabilities = Capabilities(client.streams, client.schemas, MODULES)

    @abstractmethod
    def steps(self, ask: Ask) -> Steps:
        """Say what to ask next, and at last what the answer is."""

    def answer(self, ask: Ask) -> Answer:
        """Answer by asking as often as the steps say."""
        steps = self.steps(ask)
        prompt = next(steps)
        try:
            while True:
                try:
                    done = self.client.complete(prompt)
                except ProviderError as error:
                    prompt = steps.throw(error)
                else:
                    prompt = steps.send(done)
        except StopIteration as end:
            return _answer_of(end)

    async def aanswer(self, ask: Ask) -> Answer:
        """Do what `answer` does, without blocking the event loop."""
        steps = self.steps(ask)
        prompt = next(steps)
        try:
            while True:
                try:
                    done = await self.client.acomplete(prompt)
                except ProviderError as error:
                    prompt = steps.throw(error)
                else:
                    prompt = steps.send(done)
        except StopIteration as end:
            return _answer_of(end)

    def pieces(self, ask: Ask) -> Iterator[Chunk]:
        """Answer piece by piece; what has been shown is never taken back."""
        stream = _Stream(self.steps(ask), self.model)
        while stream.answer is None:
            try:
                for piece in self.client.stream(stream.prompt):
                    if stream.take(piece):
                        yield Chunk(str(piece))
            except ProviderError as error:
                stream.fail(error)
            stream.go_on()
        yield Chunk("", stream.answer)

    async def apieces(self, ask: Ask) -> AsyncIterator[Chunk]:
        """Do what `pieces` does, without blocking the event loop."""
        stream = _Stream(self.steps(ask), self.model)
        while stream.answer is None:
            try:
                async for piece in self.client.astream(stream.prompt):
                    if stream.take(piece):
                        yield Chunk(str(piece))
            except ProviderError as error:
                stream.fail(error)
            stream.go_on()
        yield Chunk("", stream.answer)

    def close(self) -> None:
        """Close the connections that threads use."""
        self.client.close()

    async def aclose(self) -> None:
        """Close the connections that threads and this event loop use."""
        await self.client.aclose()

    # ── for subclasses ──────────────────────────────────────────────────────────────────────────

    def prompt(self, ask: Ask, request: str, **settings: Any) -> Prompt:
        """Write a prompt: the instructions and what is wanted as system text, the inputs as the user's."""
        said = (forms.instructions_of(ask), request)
        return Prompt(
            model=self.model,
            system="\n".join(part for part in said if part),
            messages=(("user", forms.user_text(ask, self.template)),),
            **self._sampling,
            **settings,
        )

    def answered(self, output: Any, text: str, usage: Usage, how: str, attempts: int = 1) -> Answer:
        """Put an answer together."""
        return Answer(output, text, usage, self.name, self.model, how, attempts)


class _Stream:
    """Where a streamed answer stands."""

    def __init__(self, steps: Steps, model: str) -> None:
        self._steps, self._model = steps, model
        self.prompt = next(steps)
        self.answer: Answer | None = None
        self._shown = ""
        self._done: Completion | None = None

    def take(self, piece: str | Completion) -> bool:
        """Take in what arrived; whether it is to be shown."""
        if isinstance(piece, Completion):
            self._done = piece
            return False
        self._shown += piece
        return True

    def fail(self, error: ProviderError) -> None:
        """Try what comes next, unless something has been shown."""
        if self._shown:
            raise error
        self.prompt = self._steps.throw(error)

    def go_on(self) -> None:
        """Hand over what arrived, if all did."""
        if self._done is None:
            return
        done, self._done = self._done, None
        try:
            self.prompt = self._steps.send(done)
        except StopIteration as end:
            self.answer = _answer_of(end)
            return
        if self._shown:
            with suppress(AlreadyShownError):
                self._steps.throw(AlreadyShownError())
            raise unreadable(self._model, self._shown, "it would have been asked again")


def _answer_of(end: StopIteration) -> Answer:
    answer = end.value
    assert isinstance(answer, Answer)
    return answer


def why(done: Completion, error: ValueError) -> str:
    """Say why an answer cannot be read; one that was cut off for its length says that too."""
    cut = "; it was cut off at max_tokens" if done.finish_reason == "length" else ""
    return f"{error}{cut}"
