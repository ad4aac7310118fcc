"""Measuring through the guards of models, the same that stand before the calls of `dspex.execute`."""

from __future__ import annotations

import weakref
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from dspex.bridge import asking
from dspex.bridge.observe import Stopped
from dspex.errors import CircuitOpenError, DspexError, OverloadedError, ProviderError
from dspex.optimizers.measure import Measured
from dspex.records import Usage

if TYPE_CHECKING:
    from collections.abc import Callable

    import dspy

    from dspex.optimizers.measure import Measure
    from dspex.optimizers.waiting import Waiting
    from dspex.reliability import Guard


class _Way(NamedTuple):
    """A program as it is asked, and whose models it asks."""

    given_lm: dspy.BaseLM
    program: dspy.Module
    lm: dspy.BaseLM
    guards: tuple[Guard, ...]
    local: frozenset[str]
    """Models of this process: what they do wrong is part of them, and the same when asked again."""


class Guarded:
    """Measures as another one does, once, while it holds a slot of each model that the program may ask.

    An example counts as one call. Nothing is waited for here but a slot: while a model is not to be asked the
    failure is a `CircuitOpenError`, and what becomes of failures is decided elsewhere. DSPy's own retries are
    off, because together they would multiply.

    Parameters
    ----------
    measure
        Where a program runs on an example.
    waiting
        Has the guards, and is told who answers.
    """

    def __init__(self, measure: Measure, waiting: Waiting) -> None:
        self._measure, self._waiting = measure, waiting
        self._ways: weakref.WeakKeyDictionary[dspy.Module, _Way] = weakref.WeakKeyDictionary()

    def __call__(
        self,
        program: dspy.Module,
        lm: dspy.BaseLM,
        metric: Callable[..., Any],
        example: dspy.Example,
        stop: Callable[[], bool] | None,
    ) -> Measured:
        """Measure, and leave as a failure only what a provider did wrong."""
        way = self._way(program, lm)
        with ExitStack() as turns:
            for guard in way.guards:
                refused = self._entered(turns, guard)
                if refused is not None:
                    return refused
            if stop is not None and stop():
                raise Stopped
            found = self._asked(way, turns, metric, example, stop)
        if found.failure is None:
            self._waiting.answered(guard.breaker.name for guard in way.guards)
        elif not isinstance(found.failure, ProviderError) or found.failure.provider in way.local:
            return found._replace(failure=None)
        return found

    @staticmethod
    def _entered(turns: ExitStack, guard: Guard) -> Measured | None:
        """Take a slot and a ticket, or say why there is none."""
        try:
            turns.enter_context(guard.turn())
        except (ProviderError, OverloadedError) as error:
            name = guard.breaker.name
            why = CircuitOpenError(f"{name} was not asked: {error.message}", provider=name, hint=error.hint)
            return Measured(0.0, why.message, None, Usage(), why)
        return None

    def _asked(
        self,
        way: _Way,
        turns: ExitStack,
        metric: Callable[..., Any],
        example: dspy.Example,
        stop: Callable[[], bool] | None,
    ) -> Measured:
        """Measure, and give the slots back; each guard hears of the failure, and takes it if it is its own."""
        found = self._measure(way.program, way.lm, metric, example, stop)
        if found.failure is not None:
            with suppress(DspexError), turns.pop_all():
                raise found.failure
            self._tell_others(way, found.failure)
        return found

    def _tell_others(self, way: _Way, failure: DspexError) -> None:
        """Let a guard hear of it that was not before the program, such as that of a metric's judge."""
        name = getattr(failure, "provider", None)
        if name is None or name in way.local or any(guard.breaker.name == name for guard in way.guards):
            return
        with suppress(DspexError), self._waiting.guards.of(name).turn():
            raise failure

    def _way(self, program: dspy.Module, lm: dspy.BaseLM) -> _Way:
        known = self._ways.get(program)
        if known is not None and known.given_lm is lm:
            return known
        asked, asked_lm = asking.asked_once(program, lm)
        models = asking.models_of(program, lm)
        remote = {each.model: each for each in models if not asking.is_local(each)}
        # In one order for all, so that two programs never wait for each other's slots.
        guards = tuple(
            self._waiting.guards.of(name, key=asking.key_of(remote[name])) for name in sorted(remote)
        )
        local = frozenset(each.model for each in (*models, lm) if asking.is_local(each))
        way = self._ways[program] = _Way(lm, asked, asked_lm, guards, local)
        return way
