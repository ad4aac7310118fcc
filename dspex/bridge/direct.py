"""Plain HTTP to OpenAI-compatible, Anthropic and Gemini endpoints, through the client that DSPy brings."""

from __future__ import annotations

import asyncio
import os
import threading
import time
import urllib.request
import weakref
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dspy import lm15

from dspex.bridge import bounds, observe, wire
from dspex.bridge.failures import translated
from dspex.errors import DefinitionError, TimedOutError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from dspex.records import Completion, Prompt, SchemaBy

CONCURRENCY = 64
TIMEOUT_S = 120.0
MAX_BYTES = 4_000_000
_SCHEMA_BY_FORMAT = ("anthropic", "gemini", "openai", "openai-chat", "vllm", "sglang", "openrouter", "xai")


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long an answer may take, and how many bytes it may have."""

    name: str
    timeout_s: float = TIMEOUT_S
    max_bytes: int = MAX_BYTES
    remaining_s: Callable[[], float] | None = None

    def seconds_left(self) -> float:
        """Say how long the next answer may take; the deadline in force may leave less.

        Raises
        ------
        TimedOutError
            If it has passed.
        """
        remaining = self.timeout_s if self.remaining_s is None else self.remaining_s()
        if remaining <= 0:
            raise TimedOutError(
                f"there is no time left to ask {self.name}",
                provider=self.name,
                possibly_billed=False,
                hint="give the call more time",
            )
        return min(self.timeout_s, remaining)


class HttpClient:
    """Asks one model of one provider, over connections that are kept.

    Parameters
    ----------
    model
        A DSPy model string, such as ``openai/gpt-4o-mini`` or ``anthropic/claude-sonnet-4-5``.
    api_base
        Where the API is, if not at the provider's own address; usually ends in ``/v1``.
    api_key
        The key; left out, the provider's variable is read, such as ``OPENAI_API_KEY``.
    timeout_s
        How long one answer may take, in seconds.
    concurrency
        How many requests may be under way; more wait their turn.
    max_bytes
        How large one answer may be.
    remaining_s
        Asked before each request for the seconds that the deadline in force leaves.
    """

    streams = True

    def __init__(
        self,
        model: str,
        *,
        api_base: str | None = None,
        api_key: str | None = None,
        timeout_s: float = TIMEOUT_S,
        concurrency: int = CONCURRENCY,
        max_bytes: int = MAX_BYTES,
        remaining_s: Callable[[], float] | None = None,
    ) -> None:
        _check(timeout_s=timeout_s, concurrency=concurrency, max_bytes=max_bytes)
        self.name = model
        with translated(model):
            found = _resolve(model)
        self._provider, self._model = found.provider, found.model
        self._bounds = Bounds(model, timeout_s, max_bytes, remaining_s)
        base = api_base or _base_from_environment(model)
        self._config = lm15.RouterConfig(
            api_keys={self._provider: api_key} if api_key else None,
            base_urls={self._provider: base} if base else None,
            timeouts=lm15.Timeouts(read=timeout_s, write=timeout_s, pool=timeout_s),
            max_connections=concurrency,
            adaptations="silent",
        )
        self._lock = threading.Lock()
        self._sync: Any = None
        # Connections belong to the event loop that opened them.
        self._async: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = weakref.WeakKeyDictionary()

    def __repr__(self) -> str:
        return f"<HTTP client for {self.name}>"

    @property
    def schemas(self) -> tuple[SchemaBy, ...]:
        """How it can hold answers to a schema, the surest way first."""
        return ("format", "tool") if self._provider in _SCHEMA_BY_FORMAT else ("tool",)

    def complete(self, prompt: Prompt) -> Completion:
        """Ask once.

        Raises
        ------
        ProviderError
            If there is no answer, as one of our kinds of failure.
        """
        began = time.perf_counter()
        with translated(self.name):
            response = self._client().complete(wire.request_of(prompt, self._model))
        return self._counted(response, began)

    def stream(self, prompt: Prompt) -> Iterator[str | Completion]:
        """Ask once; yield the answer's pieces as they arrive, and at last the whole."""
        began, request, text = time.perf_counter(), wire.request_of(prompt, self._model), ""
        with translated(self.name):
            with lm15.ResponseStream(self._client().stream(request), request) as arriving:
                for event in arriving.events():
                    if piece := _piece(event):
                        text += piece
                        yield piece
            response = arriving.response
        yield replace(self._counted(response, began), text=text)

    async def acomplete(self, prompt: Prompt) -> Completion:
        """Ask once, without blocking the event loop."""
        began, watch = time.perf_counter(), bounds.Watch(self._bounds)
        with translated(self.name):
            try:
                async with asyncio.timeout(watch.timeout_s):
                    response = await self._async_client().complete(wire.request_of(prompt, self._model))
            except TimeoutError:
                raise watch.too_late() from None
        return self._counted(response, began)

    async def astream(self, prompt: Prompt) -> AsyncIterator[str | Completion]:
        """Ask once; yield the pieces and at last the whole, without blocking the event loop."""
        began, request, text = time.perf_counter(), wire.request_of(prompt, self._model), ""
        with translated(self.name):
            source = self._async_client().stream(request)
            async with lm15.AsyncResponseStream(source, request) as arriving:
                async for event in arriving.events():
                    if piece := _piece(event):
                        text += piece
                        yield piece
            response = await arriving.response()
        yield replace(self._counted(response, began), text=text)

    def close(self) -> None:
        """Close the connections that threads use."""
        with self._lock:
            client, self._sync = self._sync, None
        if client is not None:
            client.close()

    async def aclose(self) -> None:
        """Close every connection that threads and this event loop use."""
        self.close()
        client = self._async.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.transport.aclose()

    def _counted(self, response: Any, began: float) -> Completion:
        done = wire.completion_of(response, self.name, time.perf_counter() - began)
        observe.count(self.name, done.usage)
        return done

    def _client(self) -> Any:
        with self._lock:
            if self._sync is None:
                router = lm15.LMRouter(self._config)
                self._sync = router.lm(f"{self._provider}:{self._model}")
                self._sync.transport = bounds.BoundedTransport(self._transport(self._sync), self._bounds)
            return self._sync

    def _async_client(self) -> Any:
        loop = asyncio.get_running_loop()
        client = self._async.get(loop)
        if client is None:
            router = lm15.AsyncLMRouter(self._config)
            client = router.lm(f"{self._provider}:{self._model}")
            client.transport = bounds.AsyncBoundedTransport(self._transport(client), self._bounds)
            self._async[loop] = client
        return client

    def _transport(self, client: Any) -> Any:
        """Make the client's own kind of transport, which looks for proxies only if there are any.

        It reads the whole environment for each request otherwise: a fifth of the time that one takes.
        """
        made: Any = type(client.transport)
        return made(**self._config.transport_kwargs(), trust_env=bool(urllib.request.getproxies()))


def can_reach(model: str) -> bool:
    """Whether the client knows the way to a model."""
    try:
        _resolve(model)
    except lm15.LM15Error:
        return False
    return True


def _resolve(model: str) -> Any:
    router = lm15.LMRouter(lm15.RouterConfig(env={}))
    provider, slash, rest = model.partition("/")
    if provider == "openai" and slash:
        # A fine-tuned model's own name holds colons; it must not be read as a route.
        return router.resolve(f"openai-chat:{rest}")
    return router.resolve_openai_chat(model)


def _base_from_environment(model: str) -> str | None:
    """Return the gateway that the environment names; a key that is meant for it must go nowhere else."""
    provider = model.partition("/")[0].upper()
    return os.environ.get(f"{provider}_API_BASE") or os.environ.get(f"{provider}_BASE_URL")


def _piece(event: Any) -> str:
    if event.type != "delta":
        return ""
    if event.delta.type == "text":
        return str(event.delta.text)
    return str(event.delta.input) if event.delta.type == "tool_call" else ""


def _check(**settings: float) -> None:
    wrong = [f"{name} must be > 0, got {value}" for name, value in settings.items() if not value > 0]
    if wrong:
        raise DefinitionError("; ".join(wrong))
