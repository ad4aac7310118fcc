"""DSPy's optimizers by name: which options each takes, and how each is made and called."""

from __future__ import annotations

import functools
import inspect
import math
import random
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dspy
from dspy.teleprompt import teleprompt_optuna

from dspex.bridge import replies
from dspex.errors import DataError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_GIVEN = frozenset({"self", "metric", "student", "trainset", "valset", "kwargs", "_kwargs", "optimizers"})
"""What a study gives itself."""
_MODELS = ("prompt_model", "task_model", "reflection_lm")
_BOOTSTRAP = "BootstrapFewShot"
_TOGETHER = "BetterTogether"
_TEMPERATURES = ("temperature_for_sampling", "temperature_for_candidates")
_USUAL_TEMPERATURE = 0.2
_COLDEST = 2e-3
_LARGEST_EXPONENT = 600.0
"""Six programs' exponentials of this still add up to a float."""
_optuna_seed: ContextVar[int | None] = ContextVar("dspex_optuna_seed", default=None)


@dataclass(frozen=True)
class Recipe:
    """One of DSPy's optimizers and the options it is to have."""

    kind: str
    """DSPy's class name."""
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Setting:
    """What an optimizer is given to work with."""

    metric: Callable[..., Any]
    """The one that is watched."""
    plain_metric: Callable[..., Any]
    trainset: Sequence[dspy.Example]
    valset: Sequence[dspy.Example] | None
    seed: int
    lm: dspy.BaseLM
    find_lm: Callable[[Any], dspy.BaseLM]
    reflection_lm: dspy.BaseLM
    """The model for thinking about failures, where none is named."""
    notice: Callable[[str], None]


@functools.cache
def options_of(kind: str) -> tuple[frozenset[str], frozenset[str]]:
    """Return the options that an optimizer's constructor and its `compile` take."""
    cls = getattr(dspy, kind)
    made = set(inspect.signature(cls.__init__).parameters) - _GIVEN
    if kind in {"KNNFewShot", "InferRules"}:  # they hand the rest on to the bootstrap inside them
        made |= options_of(_BOOTSTRAP)[0]
    if kind == "KNNFewShot":
        made -= {"few_shot_bootstrap_args"}
    called = set(inspect.signature(inspect.unwrap(cls.compile)).parameters) - _GIVEN - made
    return frozenset(made), frozenset(called)


def check_options(kind: str, options: Mapping[str, Any]) -> None:
    """Check the names of an optimizer's options.

    Raises
    ------
    UnknownNameError
        If DSPy's optimizer has no such option.
    """
    known = frozenset().union(*options_of(kind))
    for name, value in options.items():
        if name not in known and not (kind == _TOGETHER and isinstance(value, Recipe)):
            raise UnknownNameError.among(f"{kind} option", name, known)


def compile_with(
    kind: str, options: Mapping[str, Any], student: dspy.Module, setting: Setting
) -> dspy.Module:
    """Make an optimizer and let it compile a program, in the context that `compile.at_work` sets up."""
    optimizer, called = made(kind, options, student, setting)
    with _seeded_optuna(setting.seed):
        compiled: dspy.Module = optimizer.compile(student, **called)
    return compiled


def made(
    kind: str, options: Mapping[str, Any], student: dspy.Module, setting: Setting
) -> tuple[Any, dict[str, Any]]:
    """Make an optimizer, and say what its `compile` is called with."""
    cls = getattr(dspy, kind)
    of_constructor, _ = options_of(kind)
    given = _adjusted(kind, dict(options), student, setting)
    constructed = {name: value for name, value in given.items() if name in of_constructor}
    called = {name: value for name, value in given.items() if name not in of_constructor}
    accepted = inspect.signature(inspect.unwrap(cls.compile)).parameters
    trainset = list(setting.trainset)
    if "seed" in accepted or "seed" in of_constructor:
        (called if "seed" in accepted else constructed).setdefault("seed", setting.seed)
    elif setting.seed:
        random.Random(setting.seed).shuffle(trainset)
    if kind == "KNNFewShot":  # it goes on bootstrapping in the finished program, where nobody watches
        constructed |= {"trainset": trainset, "metric": setting.plain_metric}
    elif kind != "LabeledFewShot":
        constructed["metric"] = setting.metric
    if kind == _TOGETHER:
        _put_together(constructed, called, student, setting)
    if "trainset" in accepted:
        called["trainset"] = trainset
    if "valset" in accepted and setting.valset is not None:
        called["valset"] = list(setting.valset)
    return cls(**constructed), called


def _put_together(
    constructed: dict[str, Any], called: dict[str, Any], student: dspy.Module, setting: Setting
) -> None:
    """Make the optimizers that another one runs in turn."""
    recipes = {name: called.pop(name) for name in list(called) if isinstance(called[name], Recipe)}
    recipes = recipes or {"p": Recipe("BootstrapFewShotWithRandomSearch", {})}
    called.setdefault("strategy", " -> ".join(recipes))
    arguments = dict(called.get("optimizer_compile_args") or {})
    for name, recipe in recipes.items():
        constructed[name], own = made(recipe.kind, recipe.options, student, setting)
        kept = {key: value for key, value in own.items() if key not in {"trainset", "valset"}}
        arguments[name] = {**kept, **arguments.get(name, {})}
    called["optimizer_compile_args"] = arguments


def _adjusted(kind: str, options: dict[str, Any], student: dspy.Module, setting: Setting) -> dict[str, Any]:
    """Fill in and mend what would otherwise end in an assertion deep inside DSPy."""
    for name in _MODELS:
        if options.get(name) is not None:
            options[name] = replies.cached(setting.find_lm(options[name]))
    settings = options.get("teacher_settings")
    if settings and settings.get("lm") is not None:
        options["teacher_settings"] = {**settings, "lm": replies.cached(setting.find_lm(settings["lm"]))}
    adjust = _ADJUST.get(kind)
    if adjust is not None:
        adjust(options, student, setting)
    return options


def _adjust_simba(options: dict[str, Any], student: dspy.Module, setting: Setting) -> None:  # noqa: ARG001  # one form for all
    size, n = options.get("bsize", 32), len(setting.trainset)
    if size > n:
        setting.notice(f"bsize was lowered from {size} to {n}: the trainset has no more examples")
        size = n
    options["bsize"] = size
    for name in _TEMPERATURES:
        if options.get(name, _USUAL_TEMPERATURE) < _COLDEST:
            setting.notice(
                f"{name} was raised from {options[name]:g} to {_COLDEST:g}: below it SIMBA's softmax overflows"
            )
            options[name] = _COLDEST


def largest_score(recipe: Recipe) -> float:
    """Return the largest score that an optimizer can handle: SIMBA takes the exponential of score / temperature."""
    if recipe.kind != "SIMBA":
        return math.inf
    coldest: float = min(recipe.options.get(name, _USUAL_TEMPERATURE) for name in _TEMPERATURES)
    return _LARGEST_EXPONENT * max(coldest, _COLDEST)


def _adjust_mipro(options: dict[str, Any], student: dspy.Module, setting: Setting) -> None:  # noqa: ARG001  # as above
    if "auto" not in options and {"num_candidates", "num_trials"} & options.keys():
        options["auto"] = None
        candidates = options.setdefault("num_candidates", 6)
        options.setdefault("num_trials", max(2, 3 * candidates // 2))
    n_val = len(setting.valset) if setting.valset is not None else max(1, int(0.8 * len(setting.trainset)))
    if setting.valset is None and len(setting.trainset) < 2:  # noqa: PLR2004  # one to learn from, one to score
        raise DataError(
            f"MIPROv2 needs examples to learn from and others to score, the trainset has {len(setting.trainset)}",
            hint="give more examples, or a valset",
        )
    size = options.get("minibatch_size", 35)
    if size > n_val:
        if options.get("minibatch", True) and options.get("auto", "light") is None:
            setting.notice(f"minibatch_size was lowered from {size} to {n_val}: no more examples are scored")
        options["minibatch_size"] = n_val
    if not setting.seed:
        options.setdefault("seed", 9)  # DSPy's own; it reads 0 as none


def _adjust_gepa(options: dict[str, Any], student: dspy.Module, setting: Setting) -> None:  # noqa: ARG001  # as above
    if not {"auto", "max_full_evals", "max_metric_calls"} & options.keys():
        options["auto"] = "light"
    if options.get("reflection_lm") is None and options.get("instruction_proposer") is None:
        options["reflection_lm"] = replies.cached(setting.reflection_lm)


def _adjust_copro(options: dict[str, Any], student: dspy.Module, setting: Setting) -> None:  # noqa: ARG001  # as above
    options["eval_kwargs"] = {"display_progress": False, "display_table": 0, **options.get("eval_kwargs", {})}


def _adjust_optuna(options: dict[str, Any], student: dspy.Module, setting: Setting) -> None:  # noqa: ARG001  # as above
    options.setdefault("max_demos", options.get("max_bootstrapped_demos", 4))


def _adjust_knn(options: dict[str, Any], student: dspy.Module, setting: Setting) -> None:  # noqa: ARG001  # as above
    options.setdefault("k", min(3, len(setting.trainset)))
    vectorizer = options.get("vectorizer") or dspy.Embedder(_letters)
    options["vectorizer"] = vectorizer if isinstance(vectorizer, dspy.Embedder) else dspy.Embedder(vectorizer)


def _adjust_better_together(options: dict[str, Any], student: dspy.Module, setting: Setting) -> None:
    student.set_lm(setting.lm)
    options.setdefault("seed", setting.seed)


_ADJUST: dict[str, Callable[[dict[str, Any], dspy.Module, Setting], None]] = {
    "SIMBA": _adjust_simba,
    "MIPROv2": _adjust_mipro,
    "GEPA": _adjust_gepa,
    "COPRO": _adjust_copro,
    "BootstrapFewShotWithOptuna": _adjust_optuna,
    "KNNFewShot": _adjust_knn,
    _TOGETHER: _adjust_better_together,
}


_LETTERS = 512


def _letters(texts: Sequence[str]) -> Any:
    """Embed texts by the three-letter pieces they hold: enough to find near ones, and it asks nobody."""
    import numpy as np

    found = np.zeros((len(texts), _LETTERS), dtype=np.float32)
    for row, text in enumerate(texts):
        padded = f"  {text.lower()} "
        for start in range(len(padded) - 2):
            piece = padded[start : start + 3].encode()
            found[row, int.from_bytes(piece, "big") % _LETTERS] += 1
    return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9)


@contextmanager
def _seeded_optuna(seed: int) -> Iterator[None]:
    """Give DSPy's Optuna form a seed: it makes its study without one, and could not be resumed."""
    _install_seeds()
    token = _optuna_seed.set(seed)
    try:
        yield
    finally:
        _optuna_seed.reset(token)


@functools.cache
def _install_seeds() -> None:
    find = teleprompt_optuna._import_optuna  # noqa: SLF001  # the one place where it takes Optuna from
    teleprompt_optuna._import_optuna = lambda: _SeededOptuna(find())  # noqa: SLF001  # as above


class _SeededOptuna:
    """Optuna, whose studies are seeded and silent within a study of ours."""

    def __init__(self, optuna: Any) -> None:
        self._optuna = optuna

    def __getattr__(self, name: str) -> Any:
        return getattr(self._optuna, name)

    def create_study(self, **options: Any) -> Any:
        seed = _optuna_seed.get()
        if seed is not None:
            options["sampler"] = self._optuna.samplers.TPESampler(seed=seed)
        return self._optuna.create_study(**options)
