"""What a bound program is made of: modules that run a given way, and the parameter that remembers it.

DSPy's optimizers copy, reset, save and load programs. A temperature in `Predict.config` is not saved, a
model is lost to `reset`, and an adapter belongs to no predictor at all; so the modules keep to their way
themselves, and a `dspy.predict.parameter.Parameter` on the program carries it through files.
"""

from __future__ import annotations

import functools
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dspy
from dspy.predict.parameter import Parameter

from dspex.bridge import copying
from dspex.bridge.compiled import adapters as compiled
from dspex.bridge.compiled.accelerate import twin
from dspex.errors import DefinitionError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

ADAPTERS: dict[str, type[Any]] = {"chat": dspy.ChatAdapter, "json": dspy.JSONAdapter, "xml": dspy.XMLAdapter}
"""DSPy's adapters by the names that variables have for them."""

REMEMBERED = "dspex"
"""The attribute of a bound program that holds its `Configuration`, and its name in saved states."""

WAY = "_way"
"""The attribute that holds a module's `Way`."""

_COMPILED = (compiled.ChatAdapter, compiled.JSONAdapter, compiled.XMLAdapter)


@dataclass(frozen=True)
class Way:
    """How one module is to run.

    Attributes
    ----------
    lm
        The model that a reset gives back to the predictor.
    settings
        Sampling parameters, for whichever model is in force when the predictor has none of its own.
    adapter
        In force while the module runs.
    """

    lm: dspy.BaseLM | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    adapter: Any = None


class Bound:
    """Marks a module that runs its bound way, and keeps to it when DSPy copies or resets it."""

    __slots__ = ()


def way_of(module: Any) -> Way:
    """Return how a module is bound to run."""
    way: Way = copying.contents(module).get(WAY, _UNBOUND)
    return way


_UNBOUND = Way()


def bound_class(base: Any) -> Any:
    """Return the class that runs as `base` does, but its bound way. It goes by the same name."""
    return base if issubclass(base, Bound) else _bound_class(base)


@functools.lru_cache(maxsize=256)
def _bound_class(base: Any) -> Any:
    # DSPy's optimizers show models the source of a program, which is found by the class's name.
    namespace: dict[str, Any] = {
        name: getattr(base, name) for name in ("__module__", "__qualname__", "__doc__")
    }
    namespace["__reduce_ex__"] = _reduced
    wrappers = {"forward": _forward, "aforward": _aforward}
    if issubclass(base, Parameter):
        wrappers["reset"] = _reset
    for name, wrapper in wrappers.items():
        if hasattr(base, name):
            namespace[name] = wrapper(getattr(base, name))
    if base.deepcopy is dspy.Module.deepcopy:
        namespace["deepcopy"] = copying.copied
    return type(base)(base.__name__, (base, Bound), namespace)


def _reduced(self: Any, protocol: Any) -> tuple[Any, ...]:  # noqa: ARG001  # pickle's protocol
    # The class is made on demand, so pickling would find it nowhere.
    return _blank, (type(self).__mro__[1],), self.__getstate__()


def _blank(base: Any) -> Any:
    return object.__new__(bound_class(base))


def _forward(inner: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(inner)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        with _its_way(self, kwargs):
            return inner(self, *args, **kwargs)

    return forward


def _aforward(inner: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(inner)
    async def aforward(self: Any, *args: Any, **kwargs: Any) -> Any:
        with _its_way(self, kwargs):
            return await inner(self, *args, **kwargs)

    return aforward


def _reset(inner: Callable[..., Any]) -> Callable[..., Any]:
    """Forget demos and traces as DSPy's predictors do, but not the model that was bound."""

    @functools.wraps(inner)
    def reset(self: Any) -> None:
        inner(self)
        self.lm = way_of(self).lm

    return reset


@contextmanager
def _its_way(module: Any, kwargs: dict[str, Any]) -> Iterator[None]:
    way = way_of(module)
    if way.settings and module.lm is None and kwargs.get("lm") is None:
        kwargs["config"] = {**way.settings, **(kwargs.get("config") or {})}
    if way.adapter is None:
        yield
        return
    # A run that has chosen the compiled adapters gets the bound one's compiled twin.
    adapter = twin(way.adapter) if isinstance(dspy.settings.adapter, _COMPILED) else way.adapter
    if dspy.settings.send_stream is not None:
        _tell_listeners(module, adapter)
    with dspy.context(adapter=adapter):
        yield


def _tell_listeners(module: Any, adapter: Any) -> None:
    """Let those who listen to this module's stream read it with its adapter.

    They run in the reader's context, and DSPy would have them look for the adapter there.
    """
    predictors = {id(each) for each in module.predictors()}
    for listener in dspy.settings.stream_listeners or ():
        if id(listener.predict) in predictors:
            listener.receive = functools.partial(_received, listener, adapter)


def _received(listener: Any, adapter: Any, chunk: Any) -> Any:
    with dspy.context(adapter=adapter):
        return type(listener).receive(listener, chunk)


# ── adapters ────────────────────────────────────────────────────────────────────────────────────


def adapter_of(value: Any) -> Any:
    """Return the adapter that a value stands for: a `dspy.Adapter`, a class of them, or a name.

    Raises
    ------
    DefinitionError
        If it stands for none.
    """
    if isinstance(value, str):
        if value not in ADAPTERS:
            raise UnknownNameError.among("adapter", value, ADAPTERS)
        return ADAPTERS[value]()
    if isinstance(value, type) and issubclass(value, dspy.Adapter):
        return value()
    if not isinstance(value, dspy.Adapter):
        raise DefinitionError(
            f"an adapter is a dspy.Adapter or one of {', '.join(ADAPTERS)}, got {value!r}",
            hint="adapter='json', or adapter=dspy.JSONAdapter()",
        )
    return value


# ── remembering ─────────────────────────────────────────────────────────────────────────────────


class Configuration(Parameter):  # type: ignore[misc]  # dspy is untyped
    """What a program was bound to, kept on the program where DSPy saves, loads and copies it.

    Attributes
    ----------
    values
        The resolved values, by the names of their variables.
    former
        What the program's own attributes and the predictors' `config` were before, by address.
    """

    def __init__(
        self, program: dspy.Module, values: Mapping[str, Any], former: Mapping[tuple[str, str], Any]
    ) -> None:
        self.program = program
        self.values = dict(values)
        self.former = dict(former)

    def __repr__(self) -> str:
        return f"Configuration({', '.join(f'{name}={_shown(value)}' for name, value in self.values.items())})"

    def reset(self) -> None:
        """Keep everything: what is bound is no parameter for DSPy to fit."""

    def dump_state(self, json_mode: bool = True) -> dict[str, Any]:  # noqa: ARG002  # DSPy's protocol
        """Describe what DSPy saves nowhere else."""
        return {name: _described(name, value) for name, value in self.values.items() if is_own(name)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Make the program run as the saved one did.

        Raises
        ------
        DefinitionError
            If the saved program was made of other modules.
        """
        from dspex.bridge import loading

        loading.rebind(self, state)


def is_own(name: str) -> bool:
    """Whether a value is ours to save; DSPy saves the others with the predictors."""
    return name.rpartition(".")[2] not in {"demos", "instructions", "model"}


def _shown(value: Any) -> str:
    if isinstance(value, dspy.BaseLM):
        return repr(value.model)
    if isinstance(value, dspy.Adapter):
        return type(value).__name__
    # A class or a function by its name: where it is in memory says nothing.
    return str(getattr(value, "__name__", None) or repr(value))


def _described(name: str, value: Any) -> Any:
    if isinstance(value, (type(None), bool, int, float, str)):
        return value
    if isinstance(value, dspy.Adapter) or (isinstance(value, type) and issubclass(value, dspy.Adapter)):
        options = {
            key: each
            for key, each in ({} if isinstance(value, type) else vars(value)).items()
            if isinstance(each, (bool, int, float, str))
        }
        cls = value if isinstance(value, type) else type(value)
        return {"adapter": f"{cls.__module__}:{cls.__qualname__}", "options": options}
    if name.rpartition(".")[2] == "module":
        return {"module": f"{value.__module__}:{value.__qualname__}"}
    if isinstance(value, (list, dict)):
        return {"value": value}
    raise DefinitionError(
        f"{name} is bound to {value!r}, which cannot be written to a file",
        hint="bind it to a number or a text, or save with save_program=True",
    )


def read_value(described: Any) -> Any:
    """Undo what `Configuration.dump_state` did to one value."""
    if not isinstance(described, dict):
        return described
    if "value" in described:
        return described["value"]
    if "adapter" in described:
        adapter = _known(described["adapter"], dspy.Adapter)()
        for name, value in described["options"].items():
            setattr(adapter, name, value)
        return adapter
    return _known(described["module"], dspy.Module)


def _known(name: str, kind: type) -> Any:
    """Find a class by name, without importing anything: a file must not make code run."""
    module_name, _, path = name.partition(":")
    found: Any = sys.modules.get(module_name)
    for part in path.split("."):
        found = getattr(found, part, None)
    if not (isinstance(found, type) and issubclass(found, kind)):
        raise DefinitionError(
            f"the program was saved with {name}, which is not there",
            hint=f"import {module_name} first, or bind the program before it is loaded: "
            "space.apply(program, configuration).load(path)",
        )
    return found
