"""What a study searches: put together from what the user gave, and checked before anything runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dspex.bridge import examples as examples_bridge
from dspex.bridge import program as program_bridge
from dspex.bridge.identity import key_of_function
from dspex.errors import DataError
from dspex.native.signature import Signature
from dspex.optimizers import checking, splits
from dspex.optimizers.budget import Budget
from dspex.optimizers.choosing import choose
from dspex.optimizers.coordinate import Coordinate, read
from dspex.optimizers.holdout import set_aside
from dspex.optimizers.varying import searched
from dspex.variables import using

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import dspy

    from dspex.bridge.teleprompters import Recipe
    from dspex.optimizers.coordinate import Optimizer
    from dspex.optimizers.holdout import Holdout
    from dspex.optimizers.members import Member
    from dspex.optimizers.options import Beacon
    from dspex.optimizers.pruning import Pruner
    from dspex.records import Configuration
    from dspex.variables.space import Space

    Examples = Iterable[dspy.Example | dict[str, Any]]

NO_CONFIGURATION = "-"
"""The configuration key where there is no space."""


AUTO = "auto"
"""As an optimizer's name: the study chooses one, and says why."""


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
    pruner: Pruner | None = None
    """What leaves poor configurations early; None where a search scores each whole."""
    plan: Coordinate | None = None
    """Which optimizers take turns; None where there is one."""
    notices: tuple[str, ...] = ()
    """What was decided for the user, in sentences."""
    varies: bool = False
    """Whether an optimizer of DSPy changes the configuration too: SIMBA, where there is a space."""

    @property
    def is_search(self) -> bool:
        """Whether one search of a space is all there is."""
        return self.plan is None and self.recipe is None

    @property
    def variables(self) -> tuple[str, ...]:
        """What a trial's configuration consists of."""
        if self.plan is not None and any(member.job is not None for member in self.plan.members):
            return *(() if self.space is None else self.space), "instructions", "demos"
        if self.recipe is not None:
            own = searched(self.space) if self.varies and self.space is not None else []
            return *own, "instructions", "demos"
        return () if self.space is None else tuple(self.space)

    def adopted(self, configuration: Configuration) -> Configuration:
        """Return what of a trial's configuration a registry can take: texts stay with the program."""
        if self.is_search or self.space is None:
            return configuration
        names = [*self.space] if self.plan is not None else searched(self.space)
        return {name: value for name, value in configuration.items() if name in names}

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
    optimizer: Optimizer,
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
    notices: list[str] = []
    if optimizer == AUTO:
        optimizer, reason = choose(
            space, budget, len(train), temperature=default_lm.kwargs.get("temperature")
        )
        notices.append(reason)
    chosen = read(optimizer)
    plan = chosen if isinstance(chosen, Coordinate) else None
    one = None if isinstance(chosen, Coordinate) else chosen
    job = None if one is None else one.job
    if space is not None:
        space = space.prepared(program, train)
        checking.check_space(space, program, lm)
    if timeout_s is not None and not timeout_s > 0:
        raise DataError(f"timeout_s must be > 0, got {timeout_s!r}", hint="timeout_s=30")
    if plan is not None:
        space = checking.for_several(plan, space, program, default_lm, seed)
        train, scored = splits.halves(train, val, seed, notices)
        demos = train
    elif job is None:
        wants_demos = space is not None and checking.draws_demos(space)
        demos, scored = splits.split(train, val, wants_demos=wants_demos, seed=seed)
    else:
        demos, scored = train, train if val is None else val
    outputs = Signature.from_dspy(program_bridge.signature_of(program)).outputs
    checking.check_metric(metric, scored, outputs, default_lm)
    if one is not None and job is None:
        checking.check_search(one, space, seed)

    def bind(configuration: Configuration) -> dspy.Module:
        if space is None:
            return program.deepcopy()
        values = using.values_of(space, configuration, lm)
        return using.bound(space, program, values, default_lm=default_lm, examples=demos)

    student = program.deepcopy() if space is None else bind(space.default())
    varies = job is not None and job.kind == "SIMBA" and space is not None and bool(searched(space))
    if job is not None:
        checking.check_student(job, student, default_lm, varies=varies)
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
        optimizer=chosen.name,
        beacon=None if one is None else one.beacon,
        pruner=None if one is None else one.pruner,
        recipe=None if job is None else job.recipe,
        budget=(budget or Budget()).completed(
            n_searches=1 if plan is None else len(plan.members), is_search=plan is None and job is None
        ),
        timeout_s=timeout_s,
        seed=seed,
        models=[default_lm.model] if space is None else checking.models_of(space, program, lm, default_lm),
        find_lm=lm,
        reflection_lm=default_lm if reflection_lm is None else reflection_lm,
        holdout=held,
        tags=checking.checked_tags(tags),
        plan=plan,
        varies=varies,
        notices=tuple(notices),
        identity={
            "program": program_bridge.text_key(program),
            "space": None if space is None else space.key,
            "examples": examples_bridge.key_of_all(scored),
            "demos": examples_bridge.key_of_all(demos),
            "metric": checking.metric_name(metric),
            "optimizer": chosen.name,
            **_options(one),
            "model": default_lm.model,
            "seed": seed,
            **({"holdout": examples_bridge.key_of_all(held)} if held else {}),
            **({} if plan is None else {"plan": plan.described}),
        },
    )


def _options(one: Member | None) -> dict[str, Any]:
    """Return an optimizer's options for the identity; a search without any has always had none."""
    return {"options": one.options} if one is not None and (one.job is not None or one.options) else {}


def name_of(optimizer: Optimizer) -> str:
    """Return what tables call an optimizer.

    Examples
    --------
    >>> name_of("SIMBA"), name_of("auto"), name_of(["beacon", "simba"])
    ('simba', 'auto', 'beacon+simba')
    """
    return AUTO if optimizer == AUTO else read(optimizer).name
