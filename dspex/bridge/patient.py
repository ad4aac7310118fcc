"""Models whose calls somebody else answers for: whoever is in charge decides what becomes of one that fails."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import dspy
from dspy.clients.base_lm import LM_CLASS_STATE_KEY

from dspex.bridge import asking
from dspex.bridge.failures import translate
from dspex.errors import ProviderError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    InCharge = Callable[[str, str, Callable[[], Any]], Any]
    """Takes a model's name, whom its provider takes the caller for, and what asks it once."""

_SETTING = "dspex_in_charge"
"""The DSPy setting that holds who is in charge: DSPy carries its settings into its worker threads."""
_asked_once: ContextVar[bool] = ContextVar("dspex_asked_once", default=False)


class Patient(dspy.LM):  # type: ignore[misc]  # dspy is untyped
    """A model that asks as often as who is in charge says; DSPy's own retries are off then."""

    @property
    def num_retries(self) -> int:
        """How often DSPy asks again."""
        return 0 if _asked_once.get() else int(vars(self)["num_retries"])

    @num_retries.setter
    def num_retries(self, value: int) -> None:
        self.__dict__["num_retries"] = value

    def __call__(self, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> Any:
        """Ask through whoever is in charge."""
        in_charge: InCharge | None = dspy.settings.get(_SETTING)
        if in_charge is None:
            return super().__call__(prompt, messages=messages, **kwargs)
        try:
            return in_charge(
                str(self.model), asking.key_of(self), lambda: self._once(prompt, messages, kwargs)
            )
        except ProviderError as failure:
            if failure.__cause__ is None:
                raise
            raise failure.__cause__ from None  # DSPy's modules know its own errors

    def _once(self, prompt: Any, messages: Any, kwargs: dict[str, Any]) -> Any:
        token = _asked_once.set(True)
        try:
            return super().__call__(prompt, messages=messages, **kwargs)
        except Exception as error:
            ours = translate(error, provider=str(self.model))
            if not isinstance(ours, ProviderError) or ours is error:
                raise
            raise ours from error
        finally:
            _asked_once.reset(token)

    def dump_state(self) -> dict[str, Any]:
        """Describe oneself as the model that one is a copy of."""
        state: dict[str, Any] = super().dump_state()
        state[LM_CLASS_STATE_KEY] = f"{dspy.LM.__module__}.{dspy.LM.__qualname__}"
        return state


def patient(lm: dspy.BaseLM) -> dspy.BaseLM:
    """Make a copy of a model a patient one, and return it; models of this process, and of other classes, stay."""
    if type(lm) is dspy.LM and not asking.is_local(lm):
        lm.__class__ = Patient
    return lm


@contextmanager
def in_charge(who: InCharge | None) -> Iterator[None]:
    """Let somebody decide about the calls of patient models in this context."""
    with dspy.context(**{_SETTING: who}):
        yield
