"""What stands around DSPy's own optimizers while a study runs them, and how programs go in and come out."""

from __future__ import annotations

import functools
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import dspy
from dspy.utils.callback import BaseCallback

from dspex.bridge import examples as examples_bridge
from dspex.bridge import identity, quiet, replies
from dspex.bridge.bound import WAY, way_of
from dspex.bridge.compiled.accelerate import accelerated
from dspex.bridge.observe import Meter, metered, note_rollout
from dspex.bridge.patient import in_charge
from dspex.bridge.watching import inputs_key_of
from dspex.errors import DefinitionError
from dspex.records import Candidate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from dspex.bridge.identity import Said
    from dspex.bridge.patient import InCharge
    from dspex.bridge.watching import Watcher


class _Around(BaseCallback):  # type: ignore[misc]  # dspy is untyped
    """The one callback of a study: DSPy takes long to find out, for each, what it wants to hear."""

    def __init__(self, meter: Meter, kept: replies.Replies, watcher: Watcher | None = None) -> None:
        self.meter, self.kept, self.watcher = meter, kept, watcher

    def on_lm_start(self, call_id: str, instance: Any, inputs: Mapping[str, Any]) -> None:  # noqa: ARG002  # DSPy's protocol
        self.meter.check()
        note_rollout(instance, inputs)
        replies.begin(self.kept, instance)

    def on_lm_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:  # noqa: ARG002  # as above
        replies.end()

    def on_module_start(self, call_id: str, instance: Any, inputs: Mapping[str, Any]) -> None:
        if self.watcher is not None:
            self.watcher.module_starts(call_id, instance, inputs)

    def on_module_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        if self.watcher is not None:
            self.watcher.module_ends(call_id, outputs, exception)

    def on_compile_start(self, call_id: str, instance: Any, inputs: Mapping[str, Any]) -> None:  # noqa: ARG002  # as above
        if self.watcher is not None:
            self.watcher.compile_starts(call_id, instance)

    def on_compile_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:  # noqa: ARG002  # as above
        if self.watcher is not None:
            self.watcher.compile_ends(call_id)

    def on_evaluate_start(self, call_id: str, instance: Any, inputs: Mapping[str, Any]) -> None:  # noqa: ARG002  # as above
        if self.watcher is not None:
            self.watcher.evaluation_starts(call_id, inputs["program"])

    def on_evaluate_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:  # noqa: ARG002  # as above
        if self.watcher is not None:
            self.watcher.evaluation_ends(call_id)


# ── preparing and running ───────────────────────────────────────────────────────────────────────


@contextmanager
def at_work(
    study: str,
    lm: dspy.BaseLM,
    keeper: replies.Keeper,
    *,
    stopped: Callable[[], bool],
    threads: int,
    calling: InCharge | None = None,
) -> Iterator[Meter]:
    """Set up everything that a study needs around DSPy's own code: metered, stoppable, kept and silent.

    With `calling`, calls to models go through that, too.
    """
    quiet.install()
    with ExitStack() as stack:
        meter = stack.enter_context(metered(stopped, is_gated=False))
        stack.enter_context(accelerated())
        stack.enter_context(in_charge(calling))
        stack.enter_context(replies.standing())
        around = _Around(meter, replies.Replies(study, keeper, stopped))
        stack.enter_context(
            dspy.context(
                lm=lm,
                callbacks=[*(dspy.settings.callbacks or ()), around],
                num_threads=threads,
                # A failure is a data point; what ends a run is a budget, or nothing but failures.
                max_errors=1_000_000,
                **{quiet.SETTING: study},
            )
        )
        yield meter


@contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """Let a watcher see what happens in this context, which `at_work` has set up."""
    callbacks = [
        _Around(each.meter, each.kept, watcher) if isinstance(each, _Around) else each
        for each in dspy.settings.callbacks
    ]
    with dspy.context(callbacks=callbacks):
        yield


def lifted(student: dspy.Module, default_lm: dspy.BaseLM) -> tuple[dspy.Module, dspy.BaseLM, bool]:
    """Return a copy of a program whose model is set from outside, that model, and whether it is the only one.

    DSPy's optimizers copy a program together with its models; two predictors on one model would then seem to
    be on two. A program on several models keeps them.
    """
    bound = transplanted(student, frozen(identity.said_by(student)))
    predictors = bound.predictors()
    used = [default_lm if each.lm is None else each.lm for each in predictors]
    if len({identity.key_of_lm(lm) for lm in used}) <= 1:
        for predictor in predictors:
            predictor.lm = None
            _untied(predictor)
        return bound, replies.cached(used[0] if used else default_lm), True
    for predictor, lm in zip(predictors, used, strict=True):
        predictor.lm = replies.cached(lm)
    return bound, replies.cached(default_lm), False


def _untied(predictor: Any) -> None:
    """Let a reset give no model back: DSPy resets teachers too, which have one of their own."""
    way = way_of(predictor)
    if way.lm is not None:
        setattr(predictor, WAY, replace(way, lm=None))


def frozen(said: Sequence[Said]) -> list[Said]:
    """Return what was said with signatures of its own: InferRules writes into the ones that it is given."""
    return [
        each._replace(signature=each.signature.with_instructions(each.signature.instructions))
        for each in said
    ]


def transplanted(student: dspy.Module, said: Sequence[Said]) -> dspy.Module:
    """Return a copy of a program that says what another one said, on its own models."""
    made = student.deepcopy()
    by_name = {each.name: each for each in said}
    for name, predictor in made.named_predictors():
        if name in by_name:
            predictor.signature = by_name[name].signature
            predictor.demos = list(by_name[name].demos)
    return made


def tied(program: dspy.Module, lm: dspy.BaseLM) -> dspy.Module:
    """Tie the predictors of a program that have no model to the one that it was scored with."""
    for predictor in program.predictors():
        if predictor.lm is None:
            predictor.lm = lm
    forward = vars(program).get("forward")
    if getattr(forward, "__module__", "").endswith("knn_fewshot"):
        # It makes new predictors, on no model, for every input.
        program.forward = functools.partial(_forward_with, lm, forward)
    return program


def _forward_with(lm: dspy.BaseLM, forward: Callable[..., Any], **inputs: Any) -> Any:
    with dspy.context(lm=lm, **{quiet.SETTING: "knn"}):
        return forward(**inputs)


def candidate(seen_said: Sequence[Said], key: str, number: int, parent: str | None) -> Candidate:
    """Describe what a program says as data."""
    return Candidate(
        key=key,
        number=number,
        instructions={each.name: each.signature.instructions for each in seen_said},
        demos={each.name: tuple(_plain(demo) for demo in each.demos) for each in seen_said},
        parent=parent,
    )


def _plain(demo: Any) -> dict[str, Any]:
    plain = demo.toDict() if hasattr(demo, "toDict") else dict(demo)
    return {
        name: value if isinstance(value, str | int | float | bool | None) else repr(value)
        for name, value in plain.items()
    }


def shown_inputs(program: dspy.Module, names: Sequence[str]) -> set[str]:
    """Return the inputs that a program shows as demonstrations, as `inputs_key` writes them."""
    return {
        inputs_key_of({name: demo[name] for name in names})
        for predictor in program.predictors()
        for demo in predictor.demos
        if all(name in demo for name in names)
    }


def inputs_key(example: dspy.Example) -> str:
    """Name an example by its inputs."""
    return inputs_key_of(examples_bridge.inputs_of(example))


def refuse_several_models(student: dspy.Module, optimizer: str) -> None:
    """Say that an optimizer cannot handle a program on several models.

    Raises
    ------
    DefinitionError
        Always.
    """
    models = sorted({each.lm.model for each in student.predictors() if each.lm is not None})
    raise DefinitionError(
        f"{optimizer} samples with one model, the predictors of {type(student).__name__} use {', '.join(models)} "
        "with different settings",
        hint="optimizer='miprov2' or 'gepa' keep each predictor's own; or set one model for all",
    )
