"""What makes two evaluations the same: keys of functions, signatures, demonstrations, models and programs."""

from __future__ import annotations

import hashlib
import json
import secrets
import types
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import dspy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

_PLAIN = (str, int, float, bool, type(None), bytes, complex)
_NOT_SAID = frozenset({"api_key", "api_base", "base_url", "rollout_id"})
"""Settings of a model that do not change what it would answer, or only which of its draws."""
_NO_SHAPE = frozenset({"callbacks", "demos", "history", "simba_idx", "stage", "traces", "train"})
"""Attributes that do not change how a module runs, or are written down elsewhere."""
_signatures: weakref.WeakKeyDictionary[type, tuple[str, str]] = weakref.WeakKeyDictionary()


def digest(*parts: str) -> str:
    """Name texts by their content, in order."""
    return hashlib.blake2b("\x1f".join(parts).encode(), digest_size=8).hexdigest()


def key_of_function(function: Any) -> str:
    """Name a metric, or any callable, by what it computes.

    Functions are told apart by their code, their closures, and the functions and plain values that they name;
    objects by their class and what they hold. What cannot be described gets a name of its own, so that
    nothing is taken for the same that may not be.

    Examples
    --------
    >>> key_of_function(lambda example, prediction: 1.0) == key_of_function(lambda example, prediction: 1.0)
    True
    >>> key_of_function(len) == key_of_function(max)
    False
    """
    return digest(_described(function))


def _described(value: Any, seen: frozenset[int] = frozenset()) -> str:
    """Write down what a value is; itself within itself is only mentioned."""
    if isinstance(value, _PLAIN):
        return repr(value)
    if id(value) in seen:
        return "…"
    describe = next((each for types_, each in _DESCRIBE if isinstance(value, types_)), _object)
    return describe(value, seen | {id(value)})


def _named(value: Any, _seen: frozenset[int]) -> str:
    return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', value.__name__)}"


def _mapping(value: dict[Any, Any], seen: frozenset[int]) -> str:
    return (
        "{"
        + ",".join(f"{_described(key, seen)}:{_described(each, seen)}" for key, each in value.items())
        + "}"
    )


def _sequence(value: Iterable[Any], seen: frozenset[int]) -> str:
    return "[" + ",".join(_described(each, seen) for each in value) + "]"


def _set(value: Iterable[Any], seen: frozenset[int]) -> str:
    return "{" + ",".join(sorted(_described(each, seen) for each in value)) + "}"


def _method(method: types.MethodType, seen: frozenset[int]) -> str:
    return _sequence((method.__func__, method.__self__), seen)


def _partial(value: partial[Any], seen: frozenset[int]) -> str:
    return _sequence((value.func, value.args, value.keywords), seen)


def _code(code: types.CodeType, seen: frozenset[int]) -> str:
    return f"{code.co_code.hex()}{code.co_names}{_described(code.co_consts, seen)}"


def _function(function: types.FunctionType, seen: frozenset[int]) -> str:
    cells = [cell.cell_contents for cell in function.__closure__ or () if _is_filled(cell)]
    names = function.__code__.co_names
    used = [
        function.__globals__[name]
        for name in names
        if isinstance(function.__globals__.get(name), types.FunctionType | str | int | float)
    ]
    parts = [_code(function.__code__, seen), _described([cells, function.__defaults__, used], seen)]
    return "".join(parts)


def _is_filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018  # an empty cell raises
    except ValueError:
        return False
    return True


def _object(value: Any, seen: frozenset[int]) -> str:
    held = getattr(value, "__dict__", None)
    if held is None:
        slots = [name for cls in type(value).__mro__ for name in getattr(cls, "__slots__", ())]
        if not slots:
            return secrets.token_hex(8)
        held = {name: getattr(value, name, None) for name in slots}
    cls = type(value)
    # What is defined in a notebook may be defined anew.
    own = [each for each in vars(cls).values() if isinstance(each, types.FunctionType)]
    code = _sequence(own, seen) if cls.__module__ == "__main__" else ""
    return f"{cls.__module__}.{cls.__qualname__}{code}{_mapping(dict(held), seen)}"


_DESCRIBE: tuple[tuple[Any, Callable[[Any, frozenset[int]], str]], ...] = (
    (type | types.BuiltinFunctionType | types.ModuleType, _named),
    (types.CodeType, _code),
    (types.FunctionType, _function),
    (types.MethodType, _method),
    (partial, _partial),
    (dict, _mapping),
    (list | tuple, _sequence),
    (set | frozenset, _set),
)


# ── programs ────────────────────────────────────────────────────────────────────────────────────


class Said(NamedTuple):
    """What one predictor says: taken when a program runs, before anybody changes it again."""

    name: str
    signature: type[dspy.Signature]
    demos: tuple[Any, ...]
    lm: dspy.BaseLM | None
    config: Mapping[str, Any]


def said_by(program: dspy.Module) -> list[Said]:
    """Take down what each predictor of a program says."""
    return [
        Said(name, each.signature, tuple(each.demos), each.lm, each.config)
        for name, each in program.named_predictors()
    ]


def fingerprint(said: Iterable[Said]) -> str:
    """Name a program by the instructions and demonstrations of its predictors.

    Examples
    --------
    >>> import dspy
    >>> one, two = dspy.Predict("question -> answer"), dspy.Predict("question -> answer")
    >>> fingerprint(said_by(one)) == fingerprint(said_by(two))
    True
    >>> two.demos = [dspy.Example(question="1 + 1", answer="2")]
    >>> fingerprint(said_by(one)) == fingerprint(said_by(two))
    False
    """
    parts: list[str] = []
    for each in said:
        parts += [each.name, key_of_signature(each.signature), demos_text(each.demos)]
    return digest(*parts)


def run_key(program: dspy.Module, said: Sequence[Said], default_lm: dspy.BaseLM) -> str:
    """Name everything that decides what a program's run would bring: structure, text, models, settings."""
    parts = [fingerprint(said), _shape(program)]
    for each in said:
        parts += [
            key_of_lm(each.lm if each.lm is not None else default_lm),
            repr(sorted(each.config.items())),
        ]
    return digest(*parts)


def key_of_signature(signature: type[dspy.Signature]) -> str:
    """Name a signature by its instructions and fields."""
    known = _signatures.get(signature)
    # Some optimizers assign to a signature's instructions in place.
    if known is not None and known[0] == signature.instructions:
        return known[1]
    fields = {
        name: [repr(info.annotation), info.json_schema_extra] for name, info in signature.fields.items()
    }
    key = digest(signature.instructions, json.dumps(fields, sort_keys=True, default=_by_class))
    _signatures[signature] = signature.instructions, key
    return key


def _by_class(value: Any) -> str:
    return _described(value) if callable(value) else type(value).__qualname__


def demos_text(demos: Iterable[Any]) -> str:
    """Write demonstrations down, in order."""
    return "\x1e".join(repr(sorted(demo.items(), key=_name)) for demo in demos)


def _name(item: tuple[str, Any]) -> str:
    return item[0]


def key_of_lm(lm: dspy.BaseLM) -> str:
    """Name a model with its settings; keys and addresses are not part of it, custom engines are."""
    settings = {name: value for name, value in lm.kwargs.items() if name not in _NOT_SAID}
    return f"{lm.model}{key_of_engine(lm)}{sorted(settings.items(), key=_name)!r}"


def key_of_engine(lm: dspy.BaseLM) -> str:
    """Tell apart models of one name that custom engines answer."""
    engine = getattr(lm, "engine", "auto")
    if isinstance(engine, str):
        return str(lm.kwargs.get("api_base") or "")
    dump = getattr(engine, "dump_state", None)
    return json.dumps(dump(), sort_keys=True, default=repr) if callable(dump) else type(engine).__qualname__


def _shape(program: dspy.Module) -> str:
    """Write down the classes and plain attributes of a program and its parts."""
    parts = []
    for name, part in _modules("", program, set()):
        cls = type(part)
        plain = [
            (key, value)
            for key, value in sorted(vars(part).items(), key=_name)
            if isinstance(value, _PLAIN) and not key.startswith("_") and key not in _NO_SHAPE
        ]
        parts.append(f"{name}{cls.__module__}.{cls.__qualname__}{plain!r}")
        # DSPy's nearest-neighbour optimizer puts its work into the instance's own forward.
        if getattr(vars(part).get("forward"), "__module__", "").endswith("knn_fewshot"):
            parts.append(getattr(part, "dspex_key", ""))
    return "\n".join(parts)


def _modules(name: str, module: dspy.Module, seen: set[int]) -> Iterator[tuple[str, dspy.Module]]:
    """Walk through a program's parts; DSPy's own walk goes through every call in their histories too."""
    if id(module) in seen:
        return
    seen.add(id(module))
    yield name, module
    for key, value in vars(module).items():
        if isinstance(value, dspy.Module):
            yield from _modules(f"{name}.{key}", value, seen)
        elif key not in _NO_SHAPE and isinstance(value, list | tuple | dict):
            items = value.items() if isinstance(value, dict) else enumerate(value)
            for index, each in items:
                if isinstance(each, dspy.Module):
                    yield from _modules(f"{name}.{key}[{index}]", each, seen)
