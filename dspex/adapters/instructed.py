"""The instructed adapter: `instructor` behind the same protocol, for those who have it already."""

from __future__ import annotations

import threading
import time
from typing import Any

from dspex.adapters import forms
from dspex.adapters.base import Adapter, Answer, Ask, Capabilities, unreadable
from dspex.bridge.failures import translate
from dspex.bridge.prices import price_of
from dspex.errors import DefinitionError, UnknownNameError
from dspex.records import Usage
from dspex.redact import scrub

_SPOKEN = ("openai",)


class InstructedAdapter(Adapter):
    """Asks an OpenAI-compatible endpoint through `instructor`. Made by `dspex.adapters.instructed`.

    Parameters
    ----------
    model
        ``openai/`` and what the endpoint calls the model.
    api_base, api_key
        Where it is, and the key; OpenAI's own and ``OPENAI_API_KEY`` if left out.
    how
        An `instructor.Mode` by its name, such as ``TOOLS`` or ``JSON_SCHEMA``.
    retries
        How often it may ask again with what was wrong.
    """

    name = "instructed"

    def __init__(
        self,
        model: str,
        *,
        api_base: str | None = None,
        api_key: str | None = None,
        how: str = "TOOLS",
        retries: int = 1,
        timeout_s: float = 120.0,
    ) -> None:
        provider, _, self._name = model.partition("/")
        if provider not in _SPOKEN or not self._name:
            raise DefinitionError(
                f"instructor is reached through OpenAI's client here, got the model {model!r}",
                hint="write 'openai/<name>' and give api_base=..., or use the structured adapter",
            )
        try:
            import instructor
            import openai
        except ImportError as error:
            raise DefinitionError(
                f"the instructed adapter needs {error.name}", hint="pip install 'dspex[structured]'"
            ) from error
        self.model, self.how, self._retries = model, how, retries
        if how not in instructor.Mode.__members__:
            raise UnknownNameError.among("instructor mode", how, instructor.Mode.__members__)

        def connect() -> Any:
            client = openai.OpenAI(base_url=api_base, api_key=api_key, timeout=timeout_s, max_retries=0)
            return instructor.from_openai(client, mode=instructor.Mode[how])

        self._connect, self._connected, self._lock = connect, connect(), threading.Lock()
        self.capabilities = Capabilities(schemas=("tool",))

    def answer(self, ask: Ask) -> Answer:
        """Ask through instructor, or plainly for a plain prompt."""
        began = time.perf_counter()
        messages = [{"role": "user", "content": forms.user_text(ask)}]
        instructions = forms.instructions_of(ask)
        if instructions:
            messages.insert(0, {"role": "system", "content": instructions})
        form = None if ask.signature is None else forms.form_of(ask.signature)
        try:
            made, raw = self._asked(messages, form)
        except Exception as error:
            cause = _root(error)
            ours = translate(cause, provider=self.model)
            if ours is None:
                if type(error).__module__.partition(".")[0] != "instructor":
                    raise
                ours = unreadable(self.model, "", str(error)[:300])
            raise ours from scrub(cause)
        usage = raw.usage
        spent = Usage(
            1,
            usage.prompt_tokens,
            usage.completion_tokens,
            price_of(self.model).cost_usd(usage.prompt_tokens, usage.completion_tokens),
            time.perf_counter() - began,
        )
        if form is None:
            text = str(raw.choices[0].message.content or "")
            return Answer({"text": text}, text, spent, self.name, self.model, "plain")
        output = {name: getattr(made, f"field_{name}") for name in form.names}
        return Answer(output, made.model_dump_json(by_alias=True), spent, self.name, self.model, self.how)

    def _asked(self, messages: list[dict[str, str]], form: forms.Form | None) -> tuple[Any, Any]:
        if form is None:
            return None, self._client.client.chat.completions.create(model=self._name, messages=messages)
        made, raw = self._client.chat.completions.create_with_completion(
            model=self._name, messages=messages, response_model=form.model, max_retries=self._retries
        )
        return made, raw

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            client, self._connected = self._connected, None
        if client is not None:
            client.client.close()

    @property
    def _client(self) -> Any:
        with self._lock:
            if self._connected is None:
                self._connected = self._connect()
            return self._connected


def _root(error: BaseException) -> BaseException:
    """Find what the provider's client said under instructor's and tenacity's wrappings."""
    each: BaseException | None = error
    while each is not None:
        if translate(each) is not None:
            return each
        each = each.__cause__ or each.__context__
    return error
