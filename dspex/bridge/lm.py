"""Models: from a name, a `dspy.LM`, or anything that answers a plain `Prompt`."""

from __future__ import annotations

import asyncio
import importlib
import operator
import uuid
from typing import TYPE_CHECKING, Any, Protocol

import dspy
from dspy import lm15

from dspex.bridge import observe, prices
from dspex.errors import DefinitionError, RateLimitedError, UnavailableError
from dspex.records import Completion, Price, Prompt

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

_STREAM_PIECES = 8


class PromptAnswerer(Protocol):
    """Anything that answers prompts without knowing DSPy, such as a simulated model.

    `state` and `from_state` let a program that uses it be saved and loaded; the class must be importable.
    """

    def answer(self, prompt: Prompt) -> Completion:
        """Answer, or raise `RateLimitedError` or `UnavailableError`."""
        ...

    def state(self) -> dict[str, Any]:
        """Describe oneself as JSON."""
        ...

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> PromptAnswerer:
        """Undo `state`."""
        ...


class AnswererEngine:
    """The engine through which `dspy.LM` calls a `PromptAnswerer`."""

    def __init__(self, answerer: PromptAnswerer) -> None:
        self.answerer = answerer

    def complete(self, request: lm15.Request) -> lm15.Response:
        """Answer one request."""
        try:
            completion = self.answerer.answer(_prompt(request))
        except RateLimitedError as error:
            raise lm15.RateLimitError(error.message, retry_after=error.retry_after_s) from error
        except UnavailableError as error:
            raise lm15.ServerError(error.message) from error
        observe.add_simulated_latency(completion.usage.latency_s)
        return _response(request, completion)

    def stream(self, request: lm15.Request) -> Iterator[lm15.StreamEvent]:
        """Answer one request piece by piece."""
        yield from _pieces(self.complete(request))

    def dump_state(self) -> dict[str, Any]:
        """Describe oneself for `dspy.LM.dump_state`."""
        cls = type(self.answerer)
        return {"class": f"{cls.__module__}:{cls.__qualname__}", "state": self.answerer.state()}

    @classmethod
    def load_state(cls, state: Mapping[str, Any]) -> AnswererEngine:
        """Undo `dump_state`."""
        module, _, name = state["class"].partition(":")
        answerer_class: type[PromptAnswerer] = operator.attrgetter(name)(importlib.import_module(module))
        return cls(answerer_class.from_state(state["state"]))


class AsyncAnswererEngine(AnswererEngine):
    """The same for `await`: the answer is made on a thread, so that the event loop stays free."""

    async def complete(self, request: lm15.Request) -> lm15.Response:
        """Answer one request."""
        return await asyncio.to_thread(super().complete, request)

    async def stream(self, request: lm15.Request) -> AsyncIterator[lm15.StreamEvent]:  # type: ignore[override]  # as above
        """Answer one request piece by piece."""
        for event in _pieces(await self.complete(request)):
            yield event


def from_answerer(name: str, answerer: PromptAnswerer, price: Price, **settings: Any) -> dspy.LM:
    """Make a `dspy.LM` called `name` that asks `answerer`.

    DSPy's response cache and its retries are off unless `settings` ask for them: an answerer is local,
    cheaper than a look-up, and answers the same when asked again at once.
    """
    prices.declare(name, price)
    settings.setdefault("cache", False)
    settings.setdefault("num_retries", 0)
    return dspy.LM(
        name, engine=AnswererEngine(answerer), async_engine=AsyncAnswererEngine(answerer), **settings
    )


def from_name(name: str, **settings: Any) -> dspy.LM:
    """Make a `dspy.LM` from a DSPy model string such as ``openai/gpt-4o-mini``."""
    check_name(name)
    return dspy.LM(name, **settings)


def check_name(name: str) -> None:
    """Raise `DefinitionError` unless a provider can be found by a model's name."""
    provider, slash, model = name.partition("/")
    if not (provider and slash and model):
        raise DefinitionError(
            f"a model is written provider/name, got {name!r}",
            hint="for example 'openai/gpt-4o-mini', 'ollama_chat/llama3.2' or 'sandbox/small'",
        )
    if provider == "sandbox":
        raise DefinitionError(
            f"{name} is simulated: it has no provider to be asked at",
            hint=f"give the model itself: dspex.sandbox.lm({model!r}), or dspex.lm({name!r}) of the session",
        )


_find: Callable[[str | dspy.BaseLM], dspy.BaseLM] | None = None


def find_with(find: Callable[[str | dspy.BaseLM], dspy.BaseLM]) -> None:
    """Let the session say which model goes by a name."""
    global _find  # noqa: PLW0603  # there is one session
    _find = find


def named(model: str | dspy.BaseLM) -> dspy.BaseLM:
    """Return the session's model of that name; an object is its own answer.

    Raises
    ------
    DefinitionError
        If there is no session.
    """
    if _find is None:
        if is_lm(model):
            return model
        raise DefinitionError(
            f"there is no session yet that knows the model {model!r}",
            hint="call dspex.configure(models=[...]) first, or give lm=dspex.lm",
        )
    return _find(model)


def is_lm(value: object) -> bool:
    """Whether DSPy would call this a language model."""
    return isinstance(value, dspy.BaseLM)


def _prompt(request: lm15.Request) -> Prompt:
    config = request.config
    schema = None
    if config.response_format is not None:
        schema = config.response_format.get("schema", {})
    return Prompt(
        model=request.model,
        system=_text(request.system),
        messages=tuple((message.role, _text(message.parts)) for message in request.messages),
        temperature=config.temperature,
        max_tokens=config.max_tokens,
        response_schema=schema,
        rollout=observe.rollout_asked.get(),
        top_p=config.top_p,
        stop=tuple(config.stop),
        seed=config.seed,
    )


def _text(parts: Any) -> str:
    if parts is None:
        return ""
    if isinstance(parts, str):
        return parts
    return "\n".join(part.text for part in parts if part.type == "text")


def _response(request: lm15.Request, completion: Completion) -> lm15.Response:
    usage = completion.usage
    return lm15.Response(
        id=uuid.uuid4().hex,
        model=request.model,
        message=lm15.Message.assistant(completion.text),
        finish_reason=completion.finish_reason,
        usage=lm15.Usage(input_tokens=usage.tokens_in, output_tokens=usage.tokens_out),
    )


def _pieces(response: lm15.Response) -> Iterator[lm15.StreamEvent]:
    """Cut a whole answer into a few text deltas, as a provider would send it."""
    text = _text(response.message.parts)
    size = max(1, -(-len(text) // _STREAM_PIECES))
    yield lm15.StreamStartEvent(id=response.id, model=response.model)
    for start in range(0, len(text), size):
        yield lm15.StreamDeltaEvent(delta=lm15.TextDelta(text=text[start : start + size]))
    yield lm15.StreamEndEvent(finish_reason=response.finish_reason, usage=response.usage)
