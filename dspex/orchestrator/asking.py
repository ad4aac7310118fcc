"""How a task is put to a model by each adapter: which may be used, and the adapters themselves, made once."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from dspex import adapters
from dspex.adapters.base import Adapter, Chunk, failed
from dspex.bridge import observe
from dspex.errors import DefinitionError, ExecutionError, UnknownNameError
from dspex.records import BRIDGED, Outcome, Strategy

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    import dspy

    from dspex.native.signature import Signature
    from dspex.orchestrator.streaming import Shown

AUTO = "auto"
TAKES: Mapping[str, tuple[str, ...]] = {"direct": ("Predict",), "structured": ("Predict", "ChainOfThought")}
"""Adapters that work without DSPy's modules, and the modules whose steps they can take by themselves."""
NAMES = (*TAKES, BRIDGED)
"""Those that may be chosen; a scripted one never is, it must be handed over."""


def names_of(given: str | Iterable[str]) -> tuple[str, ...]:
    """Read which adapters may be used: ``auto`` for all of them, one name, or several.

    Raises
    ------
    DefinitionError
        If there is none, or one is not known.
    """
    names = NAMES if given == AUTO else (given,) if isinstance(given, str) else tuple(given)
    for name in names:
        if name not in NAMES:
            raise UnknownNameError.among("adapter", name, (*NAMES, AUTO))
    if not names:
        raise DefinitionError("adapters must name at least one, got none", hint="adapters='auto'")
    return names


def strategies_of(
    models: Sequence[str],
    modules: Iterable[str],
    names: Iterable[str],
    *,
    own: Collection[str],
    asked_for: bool,
) -> list[Strategy]:
    """List every way: each model, through each module, by each adapter that can take its steps.

    Parameters
    ----------
    own
        The modules that are DSPy's own; what others do, only they know.
    asked_for
        Whether somebody wants these adapters in particular.

    Raises
    ------
    DefinitionError
        If an adapter that was asked for can take none of the modules.
    """
    modules, names = tuple(modules), tuple(names)
    found = [
        Strategy(model, module, name)
        for model in models
        for name in sorted(names)
        for module in modules
        if name == BRIDGED or (module in TAKES[name] and module in own)
    ]
    if not found and asked_for:
        told = ", ".join(each if each in own else f"{each} (your own)" for each in modules)
        raise DefinitionError(
            f"the {names[0]} adapter takes {', '.join(TAKES[names[0]])}; the modules are {told}",
            hint="adapter='bridged' runs any module",
        )
    return found


class Adapters:
    """The adapters of a session, one for each model, module and name, so that connections are kept."""

    def __init__(self) -> None:
        self._made: dict[tuple[int, str, str], tuple[dspy.BaseLM, Adapter]] = {}
        self._lock = threading.Lock()

    def of(self, lm: dspy.BaseLM, strategy: Strategy) -> Adapter | None:
        """Return a strategy's adapter; None where DSPy runs the module."""
        if strategy.adapter == BRIDGED:
            return None
        key = (id(lm), strategy.module, strategy.adapter)
        with self._lock:
            if key not in self._made:
                make: Any = adapters.direct if strategy.adapter == "direct" else adapters.structured
                # The model is kept with it, so that no other one gets its identity.
                self._made[key] = lm, make(lm, module=strategy.module)
            return self._made[key][1]

    def close(self) -> None:
        """Close every connection."""
        with self._lock:
            made, self._made = list(self._made.values()), {}
        for _, adapter in made:
            adapter.close()


def streamed(adapter: Adapter, described: Signature, inputs: Mapping[str, Any], shown: Shown) -> Outcome:
    """Ask an adapter once, show the pieces, and say how it went."""
    last = Chunk("")
    with observe.metered() as meter:
        try:
            for last in adapter.stream(described, inputs):
                shown(last.text)
        except ExecutionError as error:
            return failed(error, meter.usage)
    assert last.answer is not None
    return Outcome(last.answer.output, last.answer.usage)


def shown_whole(run: Callable[[], Outcome], outputs: Sequence[str], shown: Shown) -> Outcome:
    """Run a program, which brings its answer whole, and show it at its end."""
    outcome = run()
    if outcome.output is not None:
        shown("\n".join(str(outcome.output[name]) for name in outputs if name in outcome.output))
    return outcome
