"""What a study searches: put together from what the user gave, and checked before anything runs."""

from __future__ import annotations

import random
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from dspex.bridge import binding
from dspex.bridge import examples as examples_bridge
from dspex.bridge import program as program_bridge
from dspex.bridge.identity import key_of_function
from dspex.errors import DataError, UnknownNameError
from dspex.native.signature import Signature
from dspex.optimizers.beacon.goal import Goal
from dspex.optimizers.holdout import set_aside
from dspex.optimizers.options import SEARCHES, Beacon, search_named
from dspex.optimizers.teleprompters import TELEPROMPTERS, Teleprompter, teleprompter_named
from dspex.redact import redact, scrub
from dspex.variables import using
from dspex.variables.demos import DemoSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import dspy

    from dspex.bridge.teleprompters import Recipe
    from dspex.optimizers.holdout import Holdout
    from dspex.records import Configuration, Usage, Value
    from dspex.variables.formulas import Composite
    from dspex.variables.protocol import Variable
    from dspex.variables.space import Space

    Examples = Iterable[dspy.Example | dict[str, Any]]

NO_CONFIGURATION = "-"
"""The configuration key where there is no space."""

_DEMO_SHARE = 0.2
"""Share of the trainset that is kept for demos when there is no valset."""


_SEARCH_TRIALS = 40
"""Trials of a search whose budget does not say."""


@dataclass(frozen=True)
class Budget:
    """When a study stops, whichever limit is reached first.

    Scoring the finalists on every example is part of the money, the calls and the tokens, and is set aside
    beforehand.

    Parameters
    ----------
    trials
        Configurations, or programs that an optimizer of DSPy tries. None: 40 for a search, and as many as
        it makes for an optimizer of DSPy. A search scores at most 48 examples for each, finalists aside;
        BEACON spends them where they tell most, and stops before when nothing is likely to be better.
    seconds, usd, calls, tokens
        Of the whole study: time, US dollars, calls to models, and tokens in and out.
    patience
        Trials without a better one.
    """

    trials: int | None = None
    seconds: float | None = None
    usd: float | None = None
    calls: int | None = None
    tokens: int | None = None
    patience: int | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            limit = getattr(self, field.name)
            if limit is not None and (
                isinstance(limit, bool) or not isinstance(limit, (int, float)) or not limit > 0
            ):
                raise DataError(
                    f"a budget's {field.name} must be a number > 0, got {limit!r}", hint="Budget(trials=40)"
                )

    def exceeded_by(self, usage: Usage, ahead: Usage) -> bool:
        """Whether money, calls or tokens do not suffice for what is ahead."""
        return self._exceeded(usage, ahead) is not None

    def spent_by(
        self, trials: int, seconds: float, usage: Usage, ahead: Usage, *, without_gain: int = 0
    ) -> str | None:
        """Say which limit the next trial would break, or None. `ahead` is what must still be paid for."""
        if self.trials is not None and trials >= self.trials:
            return f"{self.trials} trials done"
        if self.seconds is not None and seconds >= self.seconds:
            return f"{self.seconds:g} s are over"
        if self.patience is not None and without_gain >= self.patience:
            return f"no gain in {self.patience} trials"
        return self._exceeded(usage, ahead)

    def _exceeded(self, usage: Usage, ahead: Usage) -> str | None:
        whole = usage + ahead
        if self.usd is not None and whole.cost_usd > self.usd:
            return f"${self.usd:g} are spent or set aside"
        if self.calls is not None and whole.calls > self.calls:
            return f"{self.calls} calls are made or set aside"
        if self.tokens is not None and whole.tokens_in + whole.tokens_out > self.tokens:
            return f"{self.tokens} tokens are used or set aside"
        return None


@dataclass(frozen=True)
class Definition:
    """What a study searches: checked, complete, and the same every time it is run.

    Attributes
    ----------
    space
        What varies; None where an optimizer of DSPy varies prompts alone.
    bind
        Makes the program that runs a configuration.
    student
        The program as it was given, or as the space's default has it.
    train, val
        What an optimizer of DSPy learns from and scores with.
    scored
        The examples that score a configuration.
    metric_key
        What the metric computes.
    optimizer
        Its name.
    beacon
        BEACON's options; None for any other optimizer.
    recipe
        Which of DSPy's optimizers it is; None for a search.
    timeout_s
        How long one example may take.
    reflection_lm
        The model for thinking about failures, where none is named.
    holdout
        Examples that no search sees.
    tags
        What the user calls it beside its name.
    identity
        What makes two studies the same, as JSON: kept, so that a resumed study can be compared.
    """

    name: str
    space: Space | None
    program: str
    bind: Callable[[Configuration], dspy.Module]
    student: dspy.Module
    default_lm: dspy.BaseLM
    train: Sequence[dspy.Example]
    val: Sequence[dspy.Example] | None
    scored: Sequence[dspy.Example]
    metric: Callable[..., Any]
    metric_key: str
    optimizer: str
    beacon: Beacon | None
    recipe: Recipe | None
    budget: Budget
    timeout_s: float | None
    seed: int
    identity: Mapping[str, Any]
    models: Sequence[str]
    """Every model that it may ask, by name."""
    find_lm: Callable[[Any], dspy.BaseLM]
    reflection_lm: dspy.BaseLM
    holdout: Sequence[dspy.Example] = ()
    tags: tuple[str, ...] = ()

    @property
    def variables(self) -> tuple[str, ...]:
        """What a trial's configuration consists of."""
        if self.recipe is not None:
            return "instructions", "demos"
        return () if self.space is None else tuple(self.space)

    @property
    def default_key(self) -> str:
        """The key of the configuration that the program starts with."""
        return NO_CONFIGURATION if self.space is None else self.space.key_of(self.space.default())


def define(
    program: dspy.Module,
    *,
    title: str,
    space: Space | None,
    trainset: Examples,
    valset: Examples | None,
    metric: Callable[..., Any],
    optimizer: str | Beacon | Teleprompter,
    budget: Budget | None,
    name: str,
    seed: int,
    lm: Callable[[Any], dspy.BaseLM],
    default_lm: dspy.BaseLM,
    reflection_lm: dspy.BaseLM | None = None,
    timeout_s: float | None = None,
    holdout: Holdout | None = None,
    tags: Iterable[str] = (),
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
    reflection_lm
        The model for thinking about failures; None is `default_lm`.
    timeout_s
        How long one example may take.
    holdout
        A share of what is scored, or examples of its own, that no search sees.
    tags
        Words beside the name.

    Raises
    ------
    DefinitionError
        If something is wrong with the examples, the space, the metric or the optimizer.
    """
    names = program_bridge.input_names(program)
    train = examples_bridge.checked(trainset, what="trainset", inputs=names)
    val = None if valset is None else examples_bridge.checked(valset, what="valset", inputs=names)
    train, val, held = set_aside(train, val, holdout, inputs=names, seed=seed)
    job, beacon = _teleprompter(optimizer), _beacon(optimizer)
    if space is not None:
        space = space.prepared(program, train)
        _check_space(space, program, lm)
    if timeout_s is not None and not timeout_s > 0:
        raise DataError(f"timeout_s must be > 0, got {timeout_s!r}", hint="timeout_s=30")
    if job is None:
        demos, scored = _split(train, val, wants_demos=space is not None and _draws_demos(space), seed=seed)
    else:
        demos, scored = train, train if val is None else val
    outputs = Signature.from_dspy(program_bridge.signature_of(program)).outputs
    _check_metric(metric, scored, outputs, default_lm)
    if job is None:
        _check_search(name_of(optimizer), space, seed)

    def bind(configuration: Configuration) -> dspy.Module:
        if space is None:
            return program.deepcopy()
        values = using.values_of(space, configuration, lm)
        return using.bound(space, program, values, default_lm=default_lm, examples=demos)

    student = program.deepcopy() if space is None else bind(space.default())
    if job is not None:
        _check_student(job, student, default_lm)
    metric_key = key_of_function(metric)
    return Definition(
        name=name,
        space=space,
        program=title,
        bind=bind,
        student=student,
        default_lm=default_lm,
        train=train,
        val=val,
        scored=scored,
        metric=metric,
        metric_key=metric_key,
        optimizer=name_of(optimizer),
        beacon=beacon,
        recipe=None if job is None else job.recipe,
        budget=_complete(budget or Budget(), job),
        timeout_s=timeout_s,
        seed=seed,
        models=[default_lm.model] if space is None else _models(space, program, lm, default_lm),
        find_lm=lm,
        reflection_lm=default_lm if reflection_lm is None else reflection_lm,
        holdout=held,
        tags=_checked_tags(tags),
        identity={
            "program": program_bridge.text_key(program),
            "space": None if space is None else space.key,
            "examples": examples_bridge.key_of_all(scored),
            "demos": examples_bridge.key_of_all(demos),
            "metric": _name_of(metric),
            "optimizer": name_of(optimizer),
            **({} if job is None else {"options": described(job.options)}),
            **({} if beacon is None or not beacon.options else {"options": described(beacon.options)}),
            "model": default_lm.model,
            "seed": seed,
            **({"holdout": examples_bridge.key_of_all(held)} if held else {}),
        },
    )


def _checked_tags(tags: Iterable[str]) -> tuple[str, ...]:
    found = (tags,) if isinstance(tags, str) else tuple(tags)
    wrong = [tag for tag in found if not isinstance(tag, str) or not tag.strip()]
    if wrong:
        raise DataError(f"tags must be words, got {wrong[0]!r}", hint='tags=["paper", "ablation"]')
    return tuple(dict.fromkeys(tag.strip() for tag in found))


def name_of(optimizer: str | Beacon | Teleprompter) -> str:
    """Return what tables call an optimizer.

    Examples
    --------
    >>> name_of("SIMBA"), name_of("beacon")
    ('simba', 'beacon')
    """
    job = _teleprompter(optimizer)
    if job is None:
        return str(optimizer) if _beacon(optimizer) is None else "beacon"
    return next(name for name, each in TELEPROMPTERS.items() if each is type(job))


def described(options: Mapping[str, Any]) -> dict[str, str]:
    """Write an optimizer's options down, so that a resumed study can be compared."""
    return {name: _option(value) for name, value in sorted(options.items())}


def _option(value: Any) -> str:
    plain = isinstance(value, (str, int, float, bool, list, tuple, Goal, type(None)))
    return repr(value) if plain else getattr(value, "model", None) or key_of_function(value)


def _beacon(optimizer: str | Beacon | Teleprompter) -> Beacon | None:
    if optimizer == "beacon" or (isinstance(optimizer, type) and issubclass(optimizer, Beacon)):
        return Beacon()
    return optimizer if isinstance(optimizer, Beacon) else None


def _teleprompter(optimizer: str | Beacon | Teleprompter) -> Teleprompter | None:
    if isinstance(optimizer, type) and issubclass(optimizer, Teleprompter):
        made: Teleprompter = optimizer()
        return made
    if isinstance(optimizer, Beacon):
        return None
    return optimizer if isinstance(optimizer, Teleprompter) else teleprompter_named(str(optimizer))


def _check_search(optimizer: str, space: Space | None, seed: int) -> None:
    if optimizer not in SEARCHES:
        raise UnknownNameError.among("optimizer", optimizer, [*SEARCHES, *TELEPROMPTERS])
    if space is None:
        raise DataError(
            f"{optimizer} needs a space to search, got none",
            hint="space=dspex.Space(...); the optimizers of DSPy need none",
        )
    if optimizer != "beacon":
        search_named(optimizer, space, seed)


def _check_student(job: Teleprompter, student: dspy.Module, default_lm: dspy.BaseLM) -> None:
    """Refuse what a DSPy optimizer would stumble over in mid-run."""
    from dspex.bridge import compile as compile_bridge

    _, _, is_one_model = compile_bridge.lifted(student, default_lm)
    if not is_one_model and job.kind in {"SIMBA", "BetterTogether"}:
        compile_bridge.refuse_several_models(student, job.kind)


def _complete(budget: Budget, job: Teleprompter | None) -> Budget:
    return replace(budget, trials=_SEARCH_TRIALS) if job is None and budget.trials is None else budget


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
        f"the metric {name} cannot score a perfect prediction: {type(failure).__name__}: {redact(str(failure))}",
        hint="it is called as metric(example, prediction) and must return a number or a bool",
    ) from (None if failure is None else scrub(failure))


def _name_of(metric: Callable[..., Any]) -> str:
    return str(
        getattr(metric, "__qualname__", None) or getattr(metric, "__name__", type(metric).__qualname__)
    )
