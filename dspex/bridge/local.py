"""Models that run on this machine: the engine through which `dspy.LM` has them answer, in pieces and together."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import dspy
from dspy import lm15

from dspex.bridge import prices
from dspex.bridge.lm import AnswererEngine, _prompt, _response
from dspex.errors import (
    ContextWindowExceededError,
    PoolError,
    PoolSaturatedError,
    TaskTimeoutError,
)
from dspex.records import Completion, Price

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from concurrent.futures import Future

    from dspex.records import Prompt


class Pieces(Protocol):
    """An answer as it is made: texts, and the whole at the end; closing it stops the model."""

    def __iter__(self) -> Iterator[str | Completion]: ...

    def __aiter__(self) -> AsyncIterator[str | Completion]: ...

    def close(self) -> None:
        """Stop."""
        ...


class Generator(Protocol):
    """A model that answers prompts without knowing DSPy, several at once."""

    def submit(self, prompt: Prompt) -> Future[Completion]:
        """Begin to answer."""
        ...

    def pieces(self, prompt: Prompt) -> Pieces:
        """Answer piece by piece."""
        ...

    def state(self) -> dict[str, Any]:
        """Describe oneself as JSON."""
        ...

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Generator:
        """Undo `state`."""
        ...


class GeneratorEngine(AnswererEngine):
    """Asks a `Generator` on behalf of a `dspy.LM`; saved and loaded as any answerer."""

    def __init__(self, generator: Any) -> None:
        super().__init__(generator)
        self.generator: Generator = generator

    def complete(self, request: lm15.Request) -> lm15.Response:
        """Answer one request; an interrupt stops it."""
        with as_dspys():
            return _response(request, self.generator.submit(_asked(request)).result())

    def stream(self, request: lm15.Request) -> Iterator[lm15.StreamEvent]:
        """Answer one request as its words come."""
        yield lm15.StreamStartEvent(id=uuid.uuid4().hex, model=request.model)
        pieces = self.generator.pieces(_asked(request))
        try:
            with as_dspys():
                for piece in pieces:
                    yield _event(piece)
        finally:
            pieces.close()


class AsyncGeneratorEngine(GeneratorEngine):
    """The same for `await`; many awaiting callers meet in one batch, and need no threads."""

    async def complete(self, request: lm15.Request) -> lm15.Response:
        """Answer one request; cancelling the caller stops it."""
        with as_dspys():
            return _response(request, await awaited(self.generator.submit(_asked(request))))

    async def stream(self, request: lm15.Request) -> AsyncIterator[lm15.StreamEvent]:  # type: ignore[override]  # likewise
        """Answer one request as its words come."""
        yield lm15.StreamStartEvent(id=uuid.uuid4().hex, model=request.model)
        pieces = self.generator.pieces(_asked(request))
        try:
            with as_dspys():
                async for piece in pieces:
                    yield _event(piece)
        finally:
            pieces.close()


def from_generator(name: str, generator: Generator, **settings: Any) -> dspy.LM:
    """Make a `dspy.LM` called `name` that asks a model of this machine.

    DSPy's response cache is off unless `settings` ask for it: it knows a model by its name, and the folder under
    a name may hold another model tomorrow.
    """
    prices.declare(name, Price(0.0, 0.0))
    settings.setdefault("cache", False)
    settings.setdefault("num_retries", 0)
    engine, async_engine = GeneratorEngine(generator), AsyncGeneratorEngine(generator)
    return dspy.LM(name, engine=engine, async_engine=async_engine, **settings)


async def awaited(answer: Future[Completion]) -> Completion:
    """Wait for an answer; cancelling whoever waits stops it."""
    try:
        return await asyncio.wrap_future(answer)
    except asyncio.CancelledError:
        getattr(answer, "stop", answer.cancel)()
        raise


def _asked(request: lm15.Request) -> Prompt:
    if request.tools:
        raise lm15.UnsupportedFeatureError(
            f"{request.model} is not given tools; describe them in words instead"
        )
    return _prompt(request)


@contextmanager
def as_dspys() -> Iterator[None]:
    """Raise what DSPy understands: it may wait, try elsewhere, or shorten a prompt."""
    try:
        yield
    except ContextWindowExceededError as error:
        raise lm15.ContextLengthError(error.message) from error
    except PoolSaturatedError as error:
        raise lm15.RateLimitError(error.message, retry_after=error.retry_after_s) from error
    except TaskTimeoutError as error:
        raise lm15.RequestTimeoutError(error.message) from error
    except PoolError as error:
        raise lm15.ServerError(str(error)) from error


def _event(piece: str | Completion) -> lm15.StreamEvent:
    if isinstance(piece, str):
        return lm15.StreamDeltaEvent(delta=lm15.TextDelta(text=piece))
    usage = lm15.Usage(input_tokens=piece.usage.tokens_in, output_tokens=piece.usage.tokens_out)
    return lm15.StreamEndEvent(finish_reason=piece.finish_reason, usage=usage)
