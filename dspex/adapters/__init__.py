"""Adapters: ways of asking a model, behind one protocol.

`direct` sends the shortest prompt that will do, `structured` holds answers to a schema, `bridged` runs any
DSPy module, `scripted` answers by rules for tests, and `instructed` goes through `instructor`. Each can
`generate`, `stream`, `batch` and give `structured` answers, for threads and for event loops.
`dspex.adapters.conformance` holds the suite that an adapter of your own can inherit.

`ChatAdapter`, `JSONAdapter` and `XMLAdapter` are DSPy's, and write and read exactly what those do, sooner;
`fallbacks` says how often DSPy's own code had to take over, and why; `path` says whether the part that exists
in C too runs ``"compiled"`` or ``"pure"``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dspex.adapters.base import Adapter, Answer, Ask, Capabilities, Chunk
from dspex.adapters.bridged import BridgedAdapter
from dspex.adapters.direct import DirectAdapter
from dspex.adapters.instructed import InstructedAdapter
from dspex.adapters.scripted import ScriptedAdapter as scripted  # noqa: N813  # a verb for users, a class for us
from dspex.adapters.structured import How, StructuredAdapter
from dspex.bridge import clients
from dspex.bridge.compiled.adapters import ChatAdapter, JSONAdapter, XMLAdapter, fallbacks
from dspex.bridge.compiled.watching import path
from dspex.reliability import deadline

if TYPE_CHECKING:
    from collections.abc import Callable

    import dspy

    from dspex.pools import Pool

__all__ = [
    "Adapter",
    "Answer",
    "Ask",
    "Capabilities",
    "ChatAdapter",
    "Chunk",
    "JSONAdapter",
    "XMLAdapter",
    "bridged",
    "direct",
    "fallbacks",
    "instructed",
    "path",
    "scripted",
    "structured",
]

# The rooms are loaded by now, so that none of them takes the place of the function that is called like it.
_CLIENTS_OWN = ("api_base", "api_key", "timeout_s", "max_bytes")


def direct(model: str | dspy.BaseLM, **settings: Any) -> DirectAdapter:
    """Make an adapter that asks plainly and once.

    Parameters
    ----------
    model
        A DSPy model string (OpenAI-compatible, Anthropic and Gemini endpoints are spoken to directly), or a
        `dspy.LM`, which is asked as it was configured.
    **settings
        `api_base`, `api_key`, `timeout_s` and `max_bytes` for a model given by name; `module` (``Predict``
        or ``ChainOfThought``), `template`, `temperature`, `max_tokens` and `concurrency` for both.

    Raises
    ------
    DefinitionError
        If a setting is wrong.
    ProviderError
        If the model's provider is not known.

    Examples
    --------
    >>> import dspex as dx
    >>> asks = direct(dx.sandbox.lm("large"))
    >>> asked = "Julia has 220 buttons. On Wednesday 45 more are found. How many buttons are there now?"
    >>> asks.generate(dx.signature("question -> answer: int"), question=asked)["answer"]
    265
    """
    return DirectAdapter(*_client(model, settings), **settings)


def structured(model: str | dspy.BaseLM, *, how: How | None = None, **settings: Any) -> StructuredAdapter:
    """Make an adapter that holds answers to the signature's JSON schema.

    Parameters
    ----------
    model, **settings
        As `direct` takes them.
    how
        ``format`` (the provider holds the answer to the schema), ``tool`` (the model must call one with it)
        or ``words`` (the prompt asks for it); the surest that is known to work if left out.
    """
    return StructuredAdapter(*_client(model, settings), how=how, **settings)


def bridged(
    module: str | Callable[..., dspy.Module] | dspy.Module = "Predict",
    model: str | dspy.BaseLM | None = None,
    *,
    pool: Pool | str | None = None,
    concurrency: int = 16,
) -> BridgedAdapter:
    """Make an adapter that runs a DSPy module; `BridgedAdapter` explains the options."""
    return BridgedAdapter(module, model, pool=pool, concurrency=concurrency)


def instructed(model: str, **settings: Any) -> InstructedAdapter:
    """Make an adapter that goes through `instructor`; `InstructedAdapter` explains the options."""
    return InstructedAdapter(model, **settings)


def _client(model: str | dspy.BaseLM, settings: dict[str, Any]) -> tuple[Any]:
    """Make the client for a model, and leave the adapter's own settings."""
    own = {name: settings.pop(name) for name in _CLIENTS_OWN if name in settings}
    if "concurrency" in settings:
        own["concurrency"] = settings["concurrency"]
    for name, value in clients.sampling_of(model).items():
        settings.setdefault(name, value)
    return (clients.client_of(model, remaining_s=deadline.remaining_s, **own),)
