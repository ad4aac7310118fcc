"""The session's one runtime, and the public calls that use it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from dspex.bridge import lm as lm_bridge
from dspex.runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import dspy
    import pandas as pd

    from dspex.optimizers.coordinate import Coordinate
    from dspex.optimizers.definition import Budget, Examples
    from dspex.optimizers.study import Study
    from dspex.optimizers.teleprompters import Teleprompter
    from dspex.orchestrator.insights import Route
    from dspex.orchestrator.result import Result
    from dspex.records import Decision, Strategy
    from dspex.runtime import Task
    from dspex.variables.leases import OnConflict
    from dspex.variables.registry import Registry
    from dspex.variables.space import Space

_current: Runtime | None = None
_lock = threading.Lock()
_watchers: list[Callable[[Study], None]] = []


def watch_studies(watcher: Callable[[Study], None]) -> None:
    """Call `watcher` with every study that `optimize` begins, so that a notebook can show it."""
    if watcher not in _watchers:
        _watchers.append(watcher)


def current() -> Runtime:
    """Return the session's runtime; the sandbox's if nothing was configured."""
    global _current  # noqa: PLW0603  # the one session state there is
    with _lock:
        if _current is None:
            _current = Runtime()
        return _current


def configure(models: Sequence[str | dspy.BaseLM] | None = None, **options: Any) -> Runtime:
    """Make the session's runtime; the one before it is closed.

    Parameters
    ----------
    models
        DSPy model strings or `dspy.LM` objects; None means the sandbox, which says so.
    **options
        What `Runtime` takes: `modules`, `objective`, `store`, `pool`, `workers`, `prices`,
        `exploration`, `seed`.

    Raises
    ------
    DefinitionError
        If a name is not known or an option is out of range; the runtime before it stays.

    Examples
    --------
    >>> configure(["sandbox/small", "sandbox/large"], objective="cost", store="memory").models
    ('sandbox/small', 'sandbox/large')
    """
    global _current  # the one session state there is
    made = Runtime(models, **options)
    with _lock:
        before, _current = _current, made
    if before is not None:
        before.close()
    return made


def lm(model: str | dspy.BaseLM) -> dspy.BaseLM:
    """Return the `dspy.LM` of that name, for use in your own DSPy code."""
    return current().lm(model)


def execute(
    task: Task,
    /,
    inputs: Mapping[str, Any] | None = None,
    *,
    pin: Strategy | None = None,
    explore: bool = True,
    space: Registry | None = None,
    **fields: Any,
) -> Result:
    """Run a task the way that is believed to pay, and learn from how it went.

    Parameters
    ----------
    task
        A signature (a spec, ours or DSPy's), or a `dspy.Module`, which runs as it is.
    inputs, **fields
        The input fields, as a mapping, as keywords, or both. A field that is called like one of these
        parameters goes into the mapping.
    pin
        Run it exactly this way.
    explore
        Whether a strategy that is not believed best may be tried. False makes the choice deterministic.
    space
        A registry, whose values of now it runs with: `model` and `module` pin those parts of the strategy,
        the others are set on the program. How it goes teaches the registry's online variables.

    Returns
    -------
    The answer, with its decision and trace. ``result.rate(quality)`` teaches how good it was.

    Raises
    ------
    DefinitionError
        If the signature or the inputs are wrong.
    ExhaustedError
        If every attempt failed.

    Examples
    --------
    >>> runtime = configure(["sandbox/small"], store="memory")
    >>> list(execute("question -> answer: float", question="Tom has 3 apples and buys 4 more. How many?"))
    ['answer']
    """
    return current().execute(task, {**(inputs or {}), **fields}, pin=pin, explore=explore, space=space)


async def aexecute(
    task: Task,
    /,
    inputs: Mapping[str, Any] | None = None,
    *,
    pin: Strategy | None = None,
    explore: bool = True,
    space: Registry | None = None,
    **fields: Any,
) -> Result:
    """Do what `execute` does without blocking the event loop."""
    given = {**(inputs or {}), **fields}
    return await current().aexecute(task, given, pin=pin, explore=explore, space=space)


def explain(
    task: Task, /, inputs: Mapping[str, Any] | None = None, *, space: Registry | None = None, **fields: Any
) -> Decision:
    """Say how a task would be run and why, without running it; `space` as in `execute`."""
    return current().explain(task, {**(inputs or {}), **fields}, space=space)


def optimize(
    task: Task,
    *,
    space: Space | Registry | None = None,
    trainset: Examples,
    metric: Callable[..., Any],
    valset: Examples | None = None,
    optimizer: str | Teleprompter | Coordinate | Sequence[str | Teleprompter] = "beacon",
    budget: Budget | None = None,
    name: str | None = None,
    seed: int = 0,
    resume: bool = False,
    on_conflict: OnConflict = "wait",
    timeout_s: float | None = None,
) -> Study:
    """Search for the best way to run a task, in the background.

    Parameters
    ----------
    task
        A signature, or a `dspy.Module`; its copies are changed, never itself.
    space
        What may vary. `model`, `module`, `temperature`, `top_p`, `max_tokens`, `demos` and
        `instructions` change every predictor; other names change the program's own attributes. The search
        of a registry begins with its values of now and holds a lease on them; ``registry.adopt(study)``
        writes the best back. An optimizer of DSPy needs none: it varies instructions and demonstrations, of
        the space's default; SIMBA varies the space's models, modules, adapters and numbers with them.
    trainset
        Examples: `dspy.Example` or dicts. Without a `valset` they are scored, except for a fifth that is
        kept for demos if the space has `demos`.
    metric
        ``metric(example, prediction)`` → a number or a bool, larger is better.
    valset
        Examples that are scored instead, and never shown as demos.
    optimizer
        ``auto`` chooses and says why. ``beacon``, ``tpe``, ``random`` or ``grid`` search the space; or one of DSPy's, by name (``simba``, ``miprov2``, ``gepa``, ``copro``,
        ``bootstrap``, ``bootstrap_rs``, ``bootstrap_optuna``, ``knn``, ``infer_rules``, ``better_together``,
        ``labeled``) or with options: ``dspex.optimizers.Simba(max_steps=4)``. Several take turns: ``["beacon", "simba"]``, or
        `dspex.optimizers.Coordinate` for other schedules.
    budget
        When to stop; 40 trials by default, and for an optimizer of DSPy when it is done.
    name
        What the store calls the study.
    seed
        One seed, one study: the same configurations and scores.
    resume
        Go on with the study of that name. What it has paid for is not paid for again.
    on_conflict
        If another study has leased variables of the registry: ``wait`` until they are free, ``abort``, or
        ``preempt``, which cancels the other one.
    timeout_s
        How long one example may take when the study scores it; one that takes longer scores 0.

    Returns
    -------
    The study, at once. ``wait()`` or ``await`` it; ``cancel()`` keeps the best so far.

    Raises
    ------
    DefinitionError
        If anything about it is wrong; nothing has run then.
    LeaseError
        If `on_conflict` is ``abort`` and another study has a variable.
    """
    study = current().optimize(
        task,
        space=space,
        trainset=trainset,
        metric=metric,
        valset=valset,
        optimizer=optimizer,
        budget=budget,
        name=name,
        seed=seed,
        resume=resume,
        on_conflict=on_conflict,
        timeout_s=timeout_s,
    )
    for watcher in _watchers:
        watcher(study)
    return study


def history(limit: int | None = None) -> pd.DataFrame:
    """Return what was executed, newest first: one row an attempt, with its strategy, cost and rating."""
    return current().history(limit)


def runs() -> pd.DataFrame:
    """Return the studies, newest first: state, scores before and after, trials, calls and cost."""
    return current().runs()


def route(task: Task | None = None) -> Route:
    """Return what was learned about a task (by default the last one executed), over time and now."""
    return current().route(task)


lm_bridge.find_with(lm)
