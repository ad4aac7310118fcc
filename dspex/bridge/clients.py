"""Clients: who answers plain prompts, whole or piece by piece, for threads and for event loops."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import dspy

from dspex.bridge import direct, local, observe, wire
from dspex.bridge import lm as lm_bridge
from dspex.bridge.failures import translated

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from dspex.records import Completion, Prompt, SchemaBy

_PIECES = 8
_CARRIED = {"api_key", "api_base", "base_url", "timeout", "temperature", "max_tokens", "rollout_id"}
"""Settings of a `dspy.LM` that a client of ours can keep to; with any other, the LM itself is asked."""


class Client(Protocol):
    """Asks one model. Whatever goes wrong is raised as one of our errors."""

    name: str
    streams: bool
    """Whether pieces arrive while the model still writes."""

    @property
    def schemas(self) -> tuple[SchemaBy, ...]:
        """How it can hold answers to a schema, the surest way first; empty if it cannot."""
        ...

    def complete(self, prompt: Prompt) -> Completion:
        """Ask once."""
        ...

    def stream(self, prompt: Prompt) -> Iterator[str | Completion]:
        """Ask once; yield pieces of text, and at last the whole."""
        ...

    async def acomplete(self, prompt: Prompt) -> Completion:
        """Ask once, without blocking the event loop."""
        ...

    def astream(self, prompt: Prompt) -> AsyncIterator[str | Completion]:
        """Ask once; yield pieces and at last the whole, without blocking the event loop."""
        ...

    def close(self) -> None:
        """Let go of what threads use."""
        ...

    async def aclose(self) -> None:
        """Let go of everything."""
        ...


class _InProcess(ABC):
    """What a client has that only knows how to answer at once."""

    streams = False
    schemas: tuple[SchemaBy, ...] = ("format",)

    @abstractmethod
    def complete(self, prompt: Prompt) -> Completion: ...

    def stream(self, prompt: Prompt) -> Iterator[str | Completion]:
        """Ask once; cut the answer into a few pieces."""
        made = self.complete(prompt)
        yield from _cut(made.text)
        yield made

    async def acomplete(self, prompt: Prompt) -> Completion:
        """Ask once, on a thread."""
        return await asyncio.to_thread(self.complete, prompt)

    async def astream(self, prompt: Prompt) -> AsyncIterator[str | Completion]:
        """Ask once, on a thread; cut the answer into a few pieces."""
        made = await self.acomplete(prompt)
        for piece in _cut(made.text):
            yield piece
        yield made

    def close(self) -> None:  # noqa: B027  # nothing is held, unless one says otherwise
        """Nothing is held."""

    async def aclose(self) -> None:  # noqa: B027  # as above
        """Nothing is held."""


class AnswererClient(_InProcess):
    """Asks something that answers prompts by itself, such as a simulated model."""

    streams = True

    def __init__(self, name: str, answerer: lm_bridge.PromptAnswerer) -> None:
        self.name, self._answerer = name, answerer

    def __repr__(self) -> str:
        return f"<client for {self.name}>"

    def complete(self, prompt: Prompt) -> Completion:
        """Ask once."""
        rollout = prompt.rollout or observe.rollout_asked.get()
        done = self._answerer.answer(replace(prompt, model=self.name, rollout=rollout))
        observe.count(self.name, done.usage)
        observe.add_simulated_latency(done.usage.latency_s)
        return done


class GeneratorClient(_InProcess):
    """Asks a model of this machine, whose words come as they are written."""

    streams = True
    schemas: tuple[SchemaBy, ...] = ()

    def __init__(self, name: str, generator: local.Generator) -> None:
        self.name, self._generator = name, generator

    def __repr__(self) -> str:
        return f"<client for {self.name}>"

    def complete(self, prompt: Prompt) -> Completion:
        """Ask once; an interrupt stops it."""
        with self._failing():
            return self._counted(self._generator.submit(self._asked(prompt)).result())

    def stream(self, prompt: Prompt) -> Iterator[str | Completion]:
        """Ask once; leaving the stream stops the model."""
        with self._failing(), closing(self._generator.pieces(self._asked(prompt))) as pieces:
            for piece in pieces:
                yield piece if isinstance(piece, str) else self._counted(piece)

    async def acomplete(self, prompt: Prompt) -> Completion:
        """Ask once; cancelling the caller stops it."""
        with self._failing():
            return self._counted(await local.awaited(self._generator.submit(self._asked(prompt))))

    async def astream(self, prompt: Prompt) -> AsyncIterator[str | Completion]:
        """Ask once; leaving the stream stops the model."""
        with self._failing(), closing(self._generator.pieces(self._asked(prompt))) as pieces:
            async for piece in pieces:
                yield piece if isinstance(piece, str) else self._counted(piece)

    def _asked(self, prompt: Prompt) -> Prompt:
        return replace(prompt, model=self.name, rollout=prompt.rollout or observe.rollout_asked.get())

    def _counted(self, done: Completion) -> Completion:
        observe.count(self.name, done.usage)
        return done

    @contextmanager
    def _failing(self) -> Iterator[None]:
        with translated(self.name), local.as_dspys():
            yield


class LmClient(_InProcess):
    """Asks a `dspy.LM` itself, with its cache, its retries and whatever else it was given."""

    def __init__(self, lm: dspy.BaseLM) -> None:
        self.name, self._lm = lm.model, lm

    def __repr__(self) -> str:
        return f"<client for {self.name} through dspy.LM>"

    def complete(self, prompt: Prompt) -> Completion:
        """Ask once."""
        began = time.perf_counter()
        # DSPy counts a call only for a meter; this one passes it on.
        with observe.metered(), translated(self.name):
            request = wire.with_settings(wire.request_of(prompt, self.name), self._lm.kwargs)
            rollout = prompt.rollout or observe.rollout_asked.get() or self._lm.kwargs.get("rollout_id")
            response = self._lm(request, **({"rollout_id": rollout} if rollout else {}))
        return wire.completion_of(response, self.name, time.perf_counter() - began)


def client_of(model: str | dspy.BaseLM, **settings: Any) -> Client:
    """Make the leanest client that asks a model as it was configured.

    Parameters
    ----------
    model
        A DSPy model string, or a `dspy.LM`.
    **settings
        What `HttpClient` takes besides the model, for one that is asked over HTTP.
    """
    if isinstance(model, str):
        lm_bridge.check_name(model)
        return direct.HttpClient(model, **settings)
    engine = getattr(model, "engine", None)
    if isinstance(engine, local.GeneratorEngine):
        return GeneratorClient(model.model, engine.generator)
    if isinstance(engine, lm_bridge.AnswererEngine):
        return AnswererClient(model.model, engine.answerer)
    kwargs = {name: value for name, value in model.kwargs.items() if value is not None}
    is_plain = engine in ("auto", "lm15") and set(kwargs) <= _CARRIED and model.model_type == "chat"
    if not is_plain or not direct.can_reach(model.model):
        return LmClient(model)
    carried = {
        "api_key": kwargs.get("api_key"),
        "api_base": kwargs.get("api_base") or kwargs.get("base_url"),
        "timeout_s": kwargs.get("timeout"),
    }
    return direct.HttpClient(
        model.model, **{**{name: value for name, value in carried.items() if value is not None}, **settings}
    )


def takes_any_prompt(lm: dspy.BaseLM) -> bool:
    """Whether a model is known to answer more than DSPy's own format: a `dspy.LM` as DSPy or dspex made it.

    Of a class or an engine of the user's own it is only known that DSPy's programs run on it.
    """
    engine = getattr(lm, "engine", None)
    is_ours = engine in ("auto", "lm15", "litellm") or isinstance(engine, lm_bridge.AnswererEngine)
    return type(lm) is dspy.LM and lm.model_type == "chat" and is_ours


def sampling_of(model: str | dspy.BaseLM) -> dict[str, Any]:
    """Return the sampling parameters that a `dspy.LM` was given."""
    if isinstance(model, str):
        return {}
    given = {name: model.kwargs.get(name) for name in ("temperature", "max_tokens")}
    return {name: value for name, value in given.items() if value is not None}


def _cut(text: str) -> Iterator[str]:
    size = max(1, -(-len(text) // _PIECES))
    for start in range(0, len(text), size):
        yield text[start : start + size]
