"""Calling models for DSPy's own optimizers: through the session's guards, and again where a provider failed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from dspex.bridge.observe import Stopped
from dspex.errors import CircuitOpenError, OverloadedError, ProviderError

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspex.optimizers.waiting import Waiting

_POLL_S = 0.05


class Calling:
    """Makes calls for an optimizer that runs programs by itself.

    What it cannot be spared is waited for on its own threads; if that is no use, it is ended.

    Parameters
    ----------
    waiting
        Has the guards, and decides.
    check
        Called all the time; raises `Stopped` when the work is to end.
    refused
        Told why the work has to end for want of a provider.
    """

    def __init__(
        self, waiting: Waiting, *, check: Callable[[], None], refused: Callable[[ProviderError], None]
    ) -> None:
        self._waiting, self._check, self._refused = waiting, check, refused

    def __call__(self, model: str, key: str, ask: Callable[[], Any]) -> Any:
        """Ask a model until it answers, or until its failure is one that stands.

        Raises
        ------
        ProviderError
            If asking again would not help.
        """
        guard, tries, since = self._waiting.guards.of(model, key=key), 0, 0.0
        while True:
            was_asked = False
            try:
                with guard.turn(tries):
                    was_asked = True
                    answer = ask()
            except (ProviderError, OverloadedError) as error:
                failure = error if was_asked else CircuitOpenError(error.message, provider=model)
                tries, since = tries + was_asked, since or guard.clock()
                if not isinstance(failure, ProviderError) or not self._is_asked_again(failure, tries, since):
                    raise
            else:
                self._waiting.answered([model])
                return answer

    def _is_asked_again(self, failure: ProviderError, tries: int, since: float) -> bool:
        """Decide, and if so wait."""
        model = failure.provider or ""
        try:
            delay_s = self._waiting.delay_s(failure, tries=tries, since=since)
            if delay_s is None:
                return False
            due = self._waiting.guards.clock() + delay_s
            while self._waiting.guards.clock() < due or not self._waiting.may_ask(model):
                self._check()
                self._waiting.check_patience(model, since)
                time.sleep(_POLL_S)
        except ProviderError as error:
            self._refused(error)
            raise Stopped from error
        return True
