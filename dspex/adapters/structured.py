"""The structured adapter: answers held to a schema, checked, and asked for once more if they break it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from dspex.adapters import forms
from dspex.adapters.asking import AlreadyShownError, AskingAdapter, why
from dspex.adapters.base import problem_with, unreadable
from dspex.errors import (
    ContextWindowExceededError,
    ModelNotFoundError,
    RequestRefusedError,
    UnknownNameError,
)

if TYPE_CHECKING:
    from dspex.adapters.asking import Steps
    from dspex.adapters.base import Ask
    from dspex.bridge.clients import Client
    from dspex.records import Completion, Prompt

How = Literal["format", "tool", "words"]
HOWS: tuple[How, ...] = get_args(How)
_HOPELESS = (ContextWindowExceededError, ModelNotFoundError)


class StructuredAdapter(AskingAdapter):
    """Asks for an object that follows the signature's JSON schema. Made by `dspex.adapters.structured`.

    The provider holds the answer to the schema as its ``format``, or by a ``tool`` that the model must
    call; where it can do neither, the schema is put in ``words``. A way that the provider refuses is not
    tried again. What pydantic or a constraint rejects is sent back once, with every reason.

    Parameters
    ----------
    client
        Who is asked.
    how
        ``format``, ``tool`` or ``words``; the surest that the client knows if left out.
    **settings
        What `AskingAdapter` takes.
    """

    name = "structured"

    def __init__(self, client: Client, *, how: How | None = None, **settings: Any) -> None:
        super().__init__(client, **settings)
        if how is not None and how not in HOWS:
            raise UnknownNameError.among("way to ask for a schema", how, HOWS)
        self._ways: tuple[How, ...] = (*client.schemas, "words") if how is None else (how,)

    def steps(self, ask: Ask) -> Steps:
        """Ask in the surest way that is not refused, and once more with what was wrong."""
        if ask.signature is None:
            done = yield self.prompt(ask, "")
            return self.answered({"text": done.text}, done.text, done.usage, "plain")
        form = forms.form_of(ask.signature, self.module)
        for how in (ways := self._ways):
            prompt = self._prompt(ask, form, how)
            try:
                done = yield prompt
            except RequestRefusedError as error:
                if isinstance(error, _HOPELESS) or how == ways[-1]:
                    raise
                self._ways = tuple(way for way in self._ways if way != how)
                continue
            break
        used = done.usage
        output, problem = self._read(ask, form, done)
        if problem is None:
            return self.answered(output, done.text, used, how)
        try:
            done = yield _again(prompt, done, problem)
        except AlreadyShownError:
            raise unreadable(self.model, done.text, problem) from None
        used += done.usage
        output, problem = self._read(ask, form, done)
        if problem is not None:
            raise unreadable(self.model, done.text, f"also when asked again: {problem}")
        return self.answered(output, done.text, used, how, attempts=2)

    def _prompt(self, ask: Ask, form: forms.Form, how: How) -> Prompt:
        if how == "words":
            return self.prompt(ask, form.request())
        return self.prompt(ask, "", response_schema=form.schema, schema_by=how)

    @staticmethod
    def _read(ask: Ask, form: forms.Form, done: Completion) -> tuple[dict[str, Any], str | None]:
        try:
            output = form.read(done.text)
        except ValueError as error:
            return {}, why(done, error)
        return output, problem_with(ask, output)


def _again(prompt: Prompt, done: Completion, problem: str) -> Prompt:
    complaint = f"That does not follow the schema:\n{problem}\nAnswer again with the whole object, corrected."
    said = (*prompt.messages, ("assistant", done.text or "(nothing)"), ("user", complaint))
    return replace(prompt, messages=said)
