"""The direct adapter: the shortest prompt that will do, straight to the provider."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspex.adapters import forms
from dspex.adapters.asking import AskingAdapter, why
from dspex.adapters.base import unreadable

if TYPE_CHECKING:
    from dspex.adapters.asking import Steps
    from dspex.adapters.base import Ask


class DirectAdapter(AskingAdapter):
    """Asks once, with the inputs and as little else as possible. Made by `dspex.adapters.direct`.

    One output of text, a number, a truth value or one of a few words comes back as plain text; anything
    else as a JSON object, asked for in words. Nothing is asked again: what cannot be read is an error.
    """

    name = "direct"

    def steps(self, ask: Ask) -> Steps:
        """Ask once, and read what comes back."""
        field = forms.plain_field(ask, self.module)
        form = (
            None if field is not None or ask.signature is None else forms.form_of(ask.signature, self.module)
        )
        if form is not None:
            request = form.request()
        else:
            assert field is not None
            request = forms.plain_request(field)
        done = yield self.prompt(ask, request)
        try:
            if form is not None:
                output = form.read(done.text)
            else:
                assert field is not None
                output = {field.name: forms.read_plain(field, done.text)}
        except ValueError as error:
            raise unreadable(self.model, done.text, why(done, error)) from None
        return self.answered(output, done.text, done.usage, "plain" if form is None else "words")
