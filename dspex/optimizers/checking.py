"""What is checked before a study begins: space and program, metric and examples, optimizer and what it may change."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from dspex.bridge import binding
from dspex.bridge import program as program_bridge
from dspex.errors import DataError
from dspex.optimizers.coordinate import changes_texts
from dspex.optimizers.options import search_named
from dspex.redact import redact, scrub
from dspex.variables import using
from dspex.variables.demos import DemoSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import dspy

    from dspex.optimizers.coordinate import Coordinate
    from dspex.optimizers.members import Member
    from dspex.optimizers.teleprompters import Teleprompter
    from dspex.records import Value
    from dspex.variables.formulas import Composite
    from dspex.variables.protocol import Variable
    from dspex.variables.space import Space

_log = logging.getLogger("dspex.optimizers")


# ── the space and the program ───────────────────────────────────────────────────────────────────


def check_space(space: Space, program: dspy.Module, lm: Callable[[Any], dspy.BaseLM]) -> None:
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


def models_of(
    space: Space, program: dspy.Module, lm: Callable[[Any], dspy.BaseLM], default_lm: dspy.BaseLM
) -> list[str]:
    """Return every model that a study may ask, by name."""
    own = [] if "model" in _set(space) else program_bridge.models_of(program) or [default_lm.model]
    return list(dict.fromkeys([*_models_in(space, lm), *own]))


def draws_demos(space: Space) -> bool:
    """Whether demos are taken from the study's examples; some variables bring their own."""
    demos = [space.definitions[name] for name in _about(space, "demos")]
    return any(not isinstance(each, DemoSet) and getattr(each, "examples", None) is None for each in demos)


# ── the metric ──────────────────────────────────────────────────────────────────────────────────


def check_metric(
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
    name = metric_name(metric)
    failure: Exception | None = None
    for example in examples[:3]:
        try:
            program_bridge.number(metric, example, program_bridge.ideal_prediction(example, outputs), lm)
        except Exception as error:  # noqa: BLE001  # the user's own code may raise anything
            failure = error
        else:
            _look_for_labels(example, outputs)
            return
    raise DataError(
        f"the metric {name} cannot score a perfect prediction: {type(failure).__name__}: {redact(str(failure))}",
        hint="it is called as metric(example, prediction) and must return a number or a bool",
    ) from (None if failure is None else scrub(failure))


def _look_for_labels(example: dspy.Example, outputs: Sequence[str]) -> None:
    """Say if no label is called like an output: a metric of the user's own may well know where to look."""
    labels = example.labels().keys()
    if labels and not set(labels) & set(outputs):
        _log.warning(
            "the examples' labels are called %s and the task's outputs %s: a metric that compares them by name "
            "finds every answer wrong",
            ", ".join(labels),
            ", ".join(outputs),
        )


def metric_name(metric: Callable[..., Any]) -> str:
    """Return what errors and records call a metric."""
    return str(
        getattr(metric, "__qualname__", None) or getattr(metric, "__name__", type(metric).__qualname__)
    )


# ── the optimizer ───────────────────────────────────────────────────────────────────────────────


def check_search(member: Member, space: Space | None, seed: int) -> None:
    """Refuse a search that has nothing to search, or cannot search it."""
    if space is None:
        raise DataError(
            f"{member.name} needs a space to search, got none",
            hint="space=dspex.Space(...); the optimizers of DSPy need none",
        )
    if member.beacon is None:
        search_named(member.name, space, seed)


def check_student(job: Teleprompter, student: dspy.Module, default_lm: dspy.BaseLM, *, varies: bool) -> None:
    """Refuse what a DSPy optimizer would stumble over in mid-run."""
    from dspex.bridge import compile as compile_bridge

    _, _, is_one_model = compile_bridge.lifted(student, default_lm)
    if not is_one_model and not varies and job.kind in {"SIMBA", "BetterTogether"}:
        compile_bridge.refuse_several_models(student, job.kind)


def for_several(
    plan: Coordinate, space: Space | None, program: dspy.Module, default_lm: dspy.BaseLM, seed: int
) -> Space | None:
    """Check that everybody has something to change, and leave texts to those who write them."""
    searches = [member for member in plan.members if member.job is None]
    if space is not None:
        space = _left_to(searches, plan, space)
    for member in searches:
        check_search(member, space, seed)
    for member in plan.members:
        if member.job is not None and space is None:
            check_student(member.job, program, default_lm, varies=False)
    return space


def _left_to(searches: Sequence[Member], plan: Coordinate, space: Space) -> Space:
    """Return what of a space is left to the searches where others write texts."""
    if not searches:
        raise DataError(
            f"none of {', '.join(member.name for member in plan.members)} searches the space",
            hint="optimizer=['beacon', ...], or Simba() alone, which varies configurations too",
        )
    written = [what for what, is_written in changes_texts(plan.members).items() if is_written]
    texts = {name: value for name, value in space.default().items() if using.what_of(name) in written}
    space = space.freeze(texts)
    if not space:
        raise DataError(
            f"{', '.join(each.name for each in searches)} has nothing to search: {', '.join(texts)} is left to the other optimizers",
            hint="put a model, a module or a number into the space, or leave the other optimizers out",
        )
    return space


def checked_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Return tags, each once, or refuse what is no word."""
    found = (tags,) if isinstance(tags, str) else tuple(tags)
    wrong = [tag for tag in found if not isinstance(tag, str) or not tag.strip()]
    if wrong:
        raise DataError(f"tags must be words, got {wrong[0]!r}", hint='tags=["paper", "ablation"]')
    return tuple(dict.fromkeys(tag.strip() for tag in found))
