"""What a study searches: put together from what the user gave, and checked before anything runs."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dspex.bridge import binding
from dspex.bridge import examples as examples_bridge
from dspex.bridge import program as program_bridge
from dspex.errors import DataError
from dspex.native.signature import Signature
from dspex.optimizers import search_named
from dspex.variables import using
from dspex.variables.demos import DemoSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import dspy

    from dspex.records import Configuration, Usage, Value
    from dspex.variables.formulas import Composite
    from dspex.variables.protocol import Variable
    from dspex.variables.space import Space

    Examples = Iterable[dspy.Example | dict[str, Any]]

_DEMO_SHARE = 0.2
"""Share of the trainset that is kept for demos when there is no valset."""


@dataclass(frozen=True)
class Budget:
    """When a search stops: after so many trials, seconds, US dollars, or calls to models, whichever is first.

    Scoring the finalists on every example is part of the money and the calls, and is set aside beforehand.
    """

    trials: int = 40
    seconds: float | None = None
    usd: float | None = None
    calls: int | None = None

    def __post_init__(self) -> None:
        for name in ("trials", "seconds", "usd", "calls"):
            limit = getattr(self, name)
            if limit is not None and (
                isinstance(limit, bool) or not isinstance(limit, (int, float)) or limit <= 0
            ):
                raise DataError(
                    f"a budget's {name} must be a number > 0, got {limit!r}", hint="Budget(trials=40)"
                )

    def exceeded_by(self, usage: Usage, ahead: Usage) -> bool:
        """Whether the money or the calls do not suffice for what is ahead."""
        too_dear = self.usd is not None and usage.cost_usd + ahead.cost_usd > self.usd
        return too_dear or (self.calls is not None and usage.calls + ahead.calls > self.calls)

    def spent_by(self, trials: int, seconds: float, usage: Usage, ahead: Usage) -> str | None:
        """Say which limit the next trial would break, or None. `ahead` is what must still be paid for."""
        if trials >= self.trials:
            return f"{self.trials} trials done"
        if self.seconds is not None and seconds >= self.seconds:
            return f"{self.seconds:g} s are over"
        if self.usd is not None and usage.cost_usd + ahead.cost_usd > self.usd:
            return f"${self.usd:g} are spent or set aside"
        if self.calls is not None and usage.calls + ahead.calls > self.calls:
            return f"{self.calls} calls are made or set aside"
        return None


@dataclass(frozen=True)
class Definition:
    """What a study searches: checked, complete, and the same every time it is run.

    Attributes
    ----------
    bind
        Makes the program that runs a configuration.
    scored
        The examples that score a configuration.
    identity
        What makes two studies the same, as JSON: kept, so that a resumed study can be compared.
    """

    name: str
    space: Space
    program: str
    bind: Callable[[Configuration], dspy.Module]
    default_lm: dspy.BaseLM
    scored: Sequence[dspy.Example]
    metric: Callable[..., Any]
    optimizer: str
    budget: Budget
    seed: int
    identity: Mapping[str, Any]
    models: Sequence[str]
    """Every model that it may ask, by name."""


def define(
    program: dspy.Module,
    *,
    title: str,
    space: Space,
    trainset: Examples,
    valset: Examples | None,
    metric: Callable[..., Any],
    optimizer: str,
    budget: Budget | None,
    name: str,
    seed: int,
    lm: Callable[[Any], dspy.BaseLM],
    default_lm: dspy.BaseLM,
) -> Definition:
    """Check everything a study needs and put it together.

    Parameters
    ----------
    title
        What the program is called in tables.
    lm
        Finds a model by its name.
    default_lm
        The model of predictors that are tied to none.

    Raises
    ------
    DefinitionError
        If something is wrong with the examples, the space, the metric or the optimizer's name.
    """
    names = program_bridge.input_names(program)
    train = examples_bridge.checked(trainset, what="trainset", inputs=names)
    val = None if valset is None else examples_bridge.checked(valset, what="valset", inputs=names)
    space = space.prepared(program, train)
    _check_space(space, program, lm)
    demos, scored = _split(train, val, wants_demos=_draws_demos(space), seed=seed)
    _check_metric(
        metric, scored, Signature.from_dspy(program_bridge.signature_of(program)).outputs, default_lm
    )
    search_named(optimizer, space, seed)
    return Definition(
        name=name,
        space=space,
        program=title,
        bind=lambda configuration: using.bound(
            space,
            program,
            using.values_of(space, configuration, lm),
            default_lm=default_lm,
            examples=demos,
        ),
        default_lm=default_lm,
        scored=scored,
        metric=metric,
        optimizer=optimizer,
        budget=budget or Budget(),
        seed=seed,
        models=_models(space, program, lm, default_lm),
        identity={
            "program": program_bridge.text_key(program),
            "space": space.key,
            "examples": examples_bridge.key_of_all(scored),
            "demos": examples_bridge.key_of_all(demos),
            "metric": _name_of(metric),
            "optimizer": optimizer,
            "model": default_lm.model,
            "seed": seed,
        },
    )


def _check_space(space: Space, program: dspy.Module, lm: Callable[[Any], dspy.BaseLM]) -> None:
    """Look every variable up in the program, as it is and with each module that it may be given."""
    for chosen, variant in _variants(space, program):
        binding.check(variant, [name for name in _set(space) if _exists(space.definitions[name], chosen)])
    _models_in(space, lm)


def _set(space: Space) -> list[str]:
    """Return what the program must have: what is searched or frozen. A composite may be there for others alone."""
    return [name for name in space.definitions if name not in space.composites]


def _about(space: Space, what: str) -> list[str]:
    """Return the variables that set one thing, of the whole program or of a part."""
    return [name for name in _set(space) if using.what_of(name) == what]


def _variants(space: Space, program: dspy.Module) -> Iterator[tuple[dict[str, Value], dspy.Module]]:
    """Make the program with each option of each module variable, the others at their first one."""
    modules = _about(space, "module")
    binding.check(program, modules)
    default = {name: space.values_of(name)[0] for name in modules}
    choices = [{**default, name: label} for name in modules for label in space.values_of(name)]
    for chosen in choices or [{}]:
        values = {name: space.definitions[name].resolve(label) for name, label in chosen.items()}
        yield chosen, binding.bind(program, values)


def _exists(variable: Variable | Composite, chosen: Mapping[str, Value]) -> bool:
    return all(chosen[name] in labels for name, labels in variable.when.items() if name in chosen)


def _models_in(space: Space, lm: Callable[[Any], dspy.BaseLM]) -> list[str]:
    return [
        lm(space.definitions[name].resolve(label)).model
        for name in _about(space, "model")
        for label in space.values_of(name)
    ]


def _models(
    space: Space, program: dspy.Module, lm: Callable[[Any], dspy.BaseLM], default_lm: dspy.BaseLM
) -> list[str]:
    own = [] if "model" in _set(space) else program_bridge.models_of(program) or [default_lm.model]
    return list(dict.fromkeys([*_models_in(space, lm), *own]))


def _draws_demos(space: Space) -> bool:
    """Whether demos are taken from the study's examples; some variables bring their own."""
    demos = [space.definitions[name] for name in _about(space, "demos")]
    return any(not isinstance(each, DemoSet) and getattr(each, "examples", None) is None for each in demos)


def _split(
    train: list[dspy.Example], val: list[dspy.Example] | None, *, wants_demos: bool, seed: int
) -> tuple[list[dspy.Example], list[dspy.Example]]:
    """Decide which examples may be shown and which are scored; never the same one for both."""
    pool = list(train)
    random.Random(seed).shuffle(pool)
    if val is not None:
        scored_keys = {examples_bridge.key_of(example) for example in val}
        return [example for example in pool if examples_bridge.key_of(example) not in scored_keys], val
    if not wants_demos:
        return [], train
    n_demos = max(1, round(_DEMO_SHARE * len(pool)))
    if n_demos >= len(pool):
        raise DataError(
            f"demos and scoring need different examples, the trainset has {len(train)}",
            hint="give more examples, a valset, or take demos out of the space",
        )
    return pool[:n_demos], pool[n_demos:]


def _check_metric(
    metric: Callable[..., Any], examples: Sequence[dspy.Example], outputs: Sequence[str], lm: dspy.BaseLM
) -> None:
    """Try a metric on perfect predictions, before anything is paid for.

    Raises
    ------
    DataError
        If it is not callable, raises on every example tried, or returns no number.
    """
    if not callable(metric):
        raise DataError(
            f"a metric must be callable, got {metric!r}", hint="dspex.metrics.exact_match, or a function"
        )
    name = _name_of(metric)
    failure: Exception | None = None
    for example in examples[:3]:
        try:
            program_bridge.number(metric, example, program_bridge.ideal_prediction(example, outputs), lm)
        except Exception as error:  # noqa: BLE001  # the user's own code may raise anything
            failure = error
        else:
            return
    raise DataError(
        f"the metric {name} cannot score a perfect prediction: {type(failure).__name__}: {failure}",
        hint="it is called as metric(example, prediction) and must return a number or a bool",
    ) from failure


def _name_of(metric: Callable[..., Any]) -> str:
    return str(
        getattr(metric, "__qualname__", None) or getattr(metric, "__name__", type(metric).__qualname__)
    )
