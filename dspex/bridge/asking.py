"""Models as an execution asks them: once, in the time there is, and past caches if it must be."""

from __future__ import annotations

import contextvars
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

import dspy

from dspex import redact
from dspex.bridge.lm import AnswererEngine
from dspex.errors import TimedOutError

if TYPE_CHECKING:
    from collections.abc import Callable

Value = TypeVar("Value")
_SECRETS = ("api_key", "headers", "extra_headers", "timeout")
"""Settings that no answer depends on, or that nobody may read."""


def asker(lm: dspy.BaseLM, *, past_caches: bool = False, rollout: int | None = None) -> dspy.BaseLM:
    """Return a model as an execution asks it.

    DSPy's own retries are off in it, because a guard's stand in for them: together they would multiply. What
    it is asked stays in the original's history.

    Parameters
    ----------
    past_caches
        Whether DSPy's cache must not answer.
    rollout
        Which draw of the request it is; another one is another request to caches.
    """
    if not isinstance(lm, dspy.LM) or (is_local(lm) and rollout is None and not past_caches):
        return lm
    made = lm.copy() if rollout is None else lm.copy(rollout_id=rollout)
    keep_secret(lm)
    made.num_retries, made.history = 0, lm.history
    if past_caches:
        made.cache = False
    return made


def asked_once(program: dspy.Module, lm: dspy.BaseLM) -> tuple[dspy.Module, dspy.BaseLM]:
    """Return a program and the model of its unbound predictors as `asker` makes them; the originals stay.

    A program that cannot be copied is returned as it is.
    """
    own = [predictor.lm for predictor in program.predictors()]
    askers = [None if each is None else asker(each) for each in own]
    made = program
    if any(each is not before for each, before in zip(askers, own, strict=True)):
        made = program.deepcopy()
    if made is not program:
        for predictor, each in zip(made.predictors(), askers, strict=True):
            predictor.lm = each
    return made, asker(lm)


def models_of(program: dspy.Module, lm: dspy.BaseLM) -> list[dspy.BaseLM]:
    """Return the models that a program's predictors ask, if `lm` is in force."""
    own = [lm if predictor.lm is None else predictor.lm for predictor in program.predictors()]
    return list({id(each): each for each in own}.values())


def is_local(lm: dspy.BaseLM) -> bool:
    """Whether a model runs in this process, such as the sandbox's."""
    return isinstance(getattr(lm, "_engine_spec", None), AnswererEngine)


def keep_secret(lm: dspy.BaseLM) -> None:
    """Have the keys that a model was given taken out of whatever is shown, logged or kept."""
    for name in ("api_key", "headers", "extra_headers"):
        given = lm.kwargs.get(name)
        for each in given.values() if isinstance(given, dict) else [given]:
            if isinstance(each, str):
                redact.declare(each)


def settings_of(lm: dspy.BaseLM) -> dict[str, Any]:
    """Return what a model's answers depend on beside the prompt, without secrets."""
    return {name: value for name, value in lm.kwargs.items() if name not in _SECRETS}


def key_of(lm: dspy.BaseLM) -> str:
    """Name whom a provider takes the caller for: those with the same key share its limits."""
    if is_local(lm):
        return str(lm.model)
    where = lm.kwargs.get("api_base") or lm.kwargs.get("base_url") or ""
    who = hash(lm.kwargs.get("api_key"))  # never the key itself: the name is shown
    provider = lm.model.partition("/")[0]
    return (
        f"{provider} {where}".strip() if who == hash(None) else f"{provider} {where} (key {who & 0xFFFF:04x})"
    )


def in_time(work: Callable[[], Value], seconds: float, name: str) -> Value:
    """Do work on a thread that can be left behind when the time is up.

    A client's own timeout bounds each wait for a byte; an answer that drips for ever outlives it. The thread
    that is left behind ends with its connection.

    Raises
    ------
    TimedOutError
        If the time is up before the work is done.
    """
    answer: Future[Value] = Future()

    def run() -> None:
        try:
            answer.set_result(work())
        except BaseException as error:  # noqa: BLE001  # a future carries whatever ended its work
            answer.set_exception(error)

    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(run,), name="dspex-asking", daemon=True).start()
    try:
        return answer.result(timeout=seconds)
    except TimeoutError as error:
        if answer.done():
            raise
        raise TimedOutError(
            f"{name} did not answer within the {seconds:.1f} s that the attempt had",
            provider=name,
            hint="give it more time with timeout_s=..., or add another model to answer instead",
        ) from error
