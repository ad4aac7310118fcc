"""The session's one runtime, and the public calls that use it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from dspex.bridge import lm as lm_bridge
from dspex.pools import named
from dspex.runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import dspy
    import pandas as pd

    from dspex.adapters.base import Adapter
    from dspex.optimizers.budget import Budget
    from dspex.optimizers.continuous import Continuous
    from dspex.optimizers.coordinate import Optimizer
    from dspex.optimizers.definition import Examples
    from dspex.optimizers.holdout import Holdout
    from dspex.optimizers.study import Study
    from dspex.orchestrator.insights import Route
    from dspex.orchestrator.result import Result
    from dspex.orchestrator.streaming import Stream
    from dspex.pools.sessions import Session
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


def configure(
    models: Sequence[str | dspy.BaseLM] | str | dspy.BaseLM | None = None,
    *,
    cluster: object | None = None,
    **options: Any,
) -> Runtime:
    """Make the session's runtime; the one before it is closed.

    Parameters
    ----------
    models
        DSPy model strings or `dspy.LM` objects, or one alone; None means the sandbox, which says so.
    cluster
        Where `dspex.pools` has its workers: the address of a dask scheduler, or a `dask.distributed.Client`;
        None means this machine.
    **options
        What `Runtime` takes: `modules`, `objective`, `store`, `pool`, `workers`, `prices`,
        `exploration`, `seed`, `reliability`, `cache`, `budget`, `adapters`.

    Raises
    ------
    DefinitionError
        If a name is not known or an option is out of range; the runtime before it stays.
    ClusterError
        If the cluster does not answer or has other versions; the runtime before it stays, too.

    Examples
    --------
    >>> configure(["sandbox/small", "sandbox/large"], objective="cost", store="memory").models
    ('sandbox/small', 'sandbox/large')
    """
    global _current  # the one session state there is
    made = Runtime(models, **options)
    try:
        named.use(cluster)
    except BaseException:
        made.close()
        raise
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
    session: str | Session | None = None,
    timeout_s: float | None = None,
    budget: Budget | float | None = None,
    cache: bool | None = None,
    rollout_id: int | None = None,
    adapter: str | Adapter | None = None,
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
    session
        A session of a pool, or its name: its `defaults` hold unless `pin` or `space` say otherwise, under the
        same names as a registry's values. ``history()`` says whose an execution was.
    timeout_s
        How long all attempts together may take. Until then, models that may recover are asked again.
    budget
        What this call may spend, fallbacks included, in US dollars or as a `Budget`: no further attempt is
        begun once it is spent.
    cache
        Whether an answer to the same request may be recalled, which teaches nothing and costs nothing; by
        default as `configure` says. False asks a model in any case, past DSPy's own cache too; True vouches for
        a program that its answers depend on nothing but its prompts and inputs.
    rollout_id
        Which draw of the answer it is: another number is another request to every cache.
    adapter
        How the task is put to a model: ``direct``, ``structured``, ``bridged``, or ``auto`` for whichever is
        believed best, what suits the task first; or an adapter of your own, which is then asked alone. By
        default as `configure` says, which is ``auto`` too.

    Returns
    -------
    The answer, with its decision and trace. ``result.rate(quality)`` teaches how good it was; an answer rated
    below 0.5 is not recalled again.

    Raises
    ------
    DefinitionError
        If the signature or the inputs are wrong.
    ExhaustedError
        If every attempt failed.
    TimedOutError
        If the time was up before one did not.
    BudgetError
        If what may be spent is spent.
    OverloadedError
        If there is too much to do; `retry_after_s` says when to come back.

    Examples
    --------
    >>> runtime = configure(["sandbox/small"], store="memory")
    >>> "answer" in execute(
    ...     "question -> answer: float", question="Tom has 3 apples and buys 4 more. How many?"
    ... )
    True
    """
    return current().execute(
        task,
        {**inputs, **fields} if inputs else fields,
        pin=pin,
        explore=explore,
        space=space,
        session=session,
        timeout_s=timeout_s,
        budget=budget,
        cache=cache,
        rollout_id=rollout_id,
        adapter=adapter,
    )


async def aexecute(
    task: Task,
    /,
    inputs: Mapping[str, Any] | None = None,
    *,
    pin: Strategy | None = None,
    explore: bool = True,
    space: Registry | None = None,
    session: str | Session | None = None,
    timeout_s: float | None = None,
    budget: Budget | float | None = None,
    cache: bool | None = None,
    rollout_id: int | None = None,
    adapter: str | Adapter | None = None,
    **fields: Any,
) -> Result:
    """Do what `execute` does without blocking the event loop."""
    return await current().aexecute(
        task,
        {**(inputs or {}), **fields},
        pin=pin,
        explore=explore,
        space=space,
        session=session,
        timeout_s=timeout_s,
        budget=budget,
        cache=cache,
        rollout_id=rollout_id,
        adapter=adapter,
    )


def stream(
    task: Task,
    /,
    inputs: Mapping[str, Any] | None = None,
    *,
    pin: Strategy | None = None,
    explore: bool = True,
    timeout_s: float | None = None,
    budget: Budget | float | None = None,
    adapter: str | Adapter | None = None,
    **fields: Any,
) -> Stream:
    """Run a task as `execute` does, and hand on what the model writes as it arrives.

    The stream is read with ``for`` or ``async for``; its ``result`` is what `execute` would have returned. Where
    nothing is said, an adapter is chosen that can stream: direct for one text, structured for other outputs,
    which arrive as the JSON that the model writes. A module that DSPy runs brings its answer in one piece.

    A model that fails before its first piece is replaced by another. One that fails later ends the stream:
    what has been shown is not taken back, nor said twice.

    Parameters
    ----------
    pin, explore, timeout_s, budget, adapter
        As `execute` takes them.

    Raises
    ------
    DefinitionError
        If the signature or the inputs are wrong. Everything else is raised where the pieces are read.

    Examples
    --------
    >>> runtime = configure(["sandbox/large"], store="memory")
    >>> pieces = stream("question -> answer", question="What is 2 + 3?")
    >>> "".join(pieces) == pieces.result.answer
    True
    """
    return current().stream(
        task,
        {**(inputs or {}), **fields},
        pin=pin,
        explore=explore,
        timeout_s=timeout_s,
        budget=budget,
        adapter=adapter,
    )


def explain(
    task: Task,
    /,
    inputs: Mapping[str, Any] | None = None,
    *,
    space: Registry | None = None,
    session: str | Session | None = None,
    adapter: str | Adapter | None = None,
    **fields: Any,
) -> Decision:
    """Say how a task would be run and why, without running it; `space`, `session` and `adapter` as in `execute`."""
    given = {**(inputs or {}), **fields}
    return current().explain(task, given, space=space, session=session, adapter=adapter)


def optimize(
    task: Task,
    *,
    space: Space | Registry | None = None,
    trainset: Examples,
    metric: Callable[..., Any],
    valset: Examples | None = None,
    optimizer: Optimizer = "beacon",
    budget: Budget | None = None,
    name: str | None = None,
    seed: int = 0,
    resume: bool = False,
    on_conflict: OnConflict = "wait",
    timeout_s: float | None = None,
    holdout: Holdout | None = None,
    tags: Iterable[str] = (),
    warm_start: Study | str | None = None,
    pool: str | None = None,
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
        ``auto`` chooses and says why. ``beacon``, ``gp``, ``tpe``, ``random`` or ``grid`` search the space, or
        ``dspex.optimizers.Beacon(acquisition="ei")`` with options, a goal beside quality among them; or one of
        DSPy's, by name (``simba``, ``miprov2``, ``gepa``, ``copro``,
        ``bootstrap``, ``bootstrap_rs``, ``bootstrap_optuna``, ``knn``, ``infer_rules``, ``better_together``,
        ``labeled``) or with options: ``dspex.optimizers.Simba(max_steps=4)``. Several take turns: ``["beacon", "simba"]``, or
        `dspex.optimizers.Coordinate` for other schedules.
    budget
        When to stop; 40 trials by default, which is 48 examples for each on average and fewer once nothing is
        likely to be better, and for an optimizer of DSPy when it is done.
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
        How long one example may take when the study scores it; one that takes longer scores 0. Waiting for a
        provider that fails does not count.
    holdout
        A share of the examples that are scored, or examples of their own, that the search never sees. The
        best and the default are scored on them once it is over, beside the budget; ``study.comparison`` says
        what that shows.
    tags
        Words that ``dspex.runs()`` shows beside the name.
    warm_start
        An earlier study, or its name. Its best configuration becomes this study's default: tried first, and
        what the result is compared with. Without a space its best program is begun with instead. Rows that
        both have in common are shared anyway.
    pool
        A pool of workers, such as ``general``, in whose processes examples are run and scored: for programs
        and metrics that compute, or that may crash, which then costs their row alone. By default they run on
        threads of this process, which is right for those that wait for models.

    Returns
    -------
    The study, at once. ``wait()`` or ``await`` it; ``cancel()`` keeps the best so far.

    Raises
    ------
    DefinitionError
        If anything about it is wrong; nothing has run then.
    LeaseError
        If `on_conflict` is ``abort`` and another study has a variable.
    ShippingError
        If the program or the metric cannot travel to the `pool`.
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
        holdout=holdout,
        tags=tags,
        warm_start=warm_start,
        pool=pool,
    )
    for watcher in _watchers:
        watcher(study)
    return study


def watch(
    task: Task,
    *,
    space: Registry,
    trainset: Examples,
    metric: Callable[..., Any],
    valset: Examples | None = None,
    recent: Callable[[], Examples] | None = None,
    optimizer: str = "beacon",
    budget: Budget | None = None,
    every: int | None = None,
    fall: float = 0.15,
    warm_up: int = 50,
    min_gain: float = 0.02,
    canary: float = 0.1,
    canary_answers: int = 40,
    name: str | None = None,
    seed: int = 0,
) -> Continuous:
    """Watch the calls of a task that run with a registry's values, and search anew when they become worse.

    Ratings (``result.rate(...)``) are the quality that is watched; an attempt that failed counts as 0. When
    they have fallen, a small study runs in the background. What it finds is promoted if it gains enough on
    examples that were not searched, and then holds its own as a canary: the rest of the calls goes on with
    the values in force. If quality falls after all, the old values come back. After a study that found
    nothing, the level is learned anew.

    Parameters
    ----------
    task
        As in `execute`, which runs it with ``space=`` the same registry.
    space
        The registry that is watched, and written: by ``continuous``, with the reason.
    trainset, metric, optimizer, budget, seed
        Of the studies, as in `optimize`; 8 trials by default. Nothing measured before a study began counts
        for it, so that it sees the world of now. A model with a cache of its own would answer from the past.
    valset
        Examples that only check what a study found; by default half of the trainset.
    recent
        Called before each check for more of them, such as what was lately rated and corrected.
    every
        Begin a study after so many calls too, even if nothing fell. None: never.
    fall
        The smallest fall of quality that matters, in (0, 1).
    warm_up
        How many ratings make a level, and how many a promotion is on probation.
    min_gain
        A candidate is promoted only if it gains more than this, in metric units, and a 95 % interval of the
        paired differences excludes 0.
    canary
        The share of the calls that try a candidate, in (0, 1).
    canary_answers
        After how many of their ratings it is promoted.
    name
        What it and its studies are called.

    Returns
    -------
    What watches, until ``stop()``; ``history`` has a row for every step, and each is an event too.

    Raises
    ------
    DefinitionError
        If anything about it is wrong; nothing has run then.
    """
    return current().watch(
        task,
        space=space,
        trainset=trainset,
        metric=metric,
        valset=valset,
        recent=recent,
        optimizer=optimizer,
        budget=budget,
        every=every,
        fall=fall,
        warm_up=warm_up,
        min_gain=min_gain,
        canary=canary,
        canary_answers=canary_answers,
        name=name,
        seed=seed,
    )


def history(limit: int | None = None) -> pd.DataFrame:
    """Return what was executed, newest first: one row an attempt, with its strategy, cost and rating."""
    return current().history(limit)


def usage() -> pd.DataFrame:
    """Return what was spent since `configure`: a row for the session, each model, each strategy and each study.

    What is recalled costs nothing and is not in it. A study's calls are its models' and the session's too.
    """
    return current().usage()


def runs() -> pd.DataFrame:
    """Return the studies, newest first: state, scores before and after, trials, calls and cost."""
    return current().runs()


def compare(*studies: Study | str) -> pd.DataFrame:
    """Compare the best of studies in pairs, by the examples that both have scored; on a shared holdout if there is one.

    Parameters
    ----------
    studies
        Two or more, or their names in this session.

    Returns
    -------
    A row a pair: scores, the paired difference with its interval, p value (also adjusted for the number of
    pairs, by Holm) and effect size.
    """
    return current().compare(*studies)


def route(task: Task | None = None) -> Route:
    """Return what was learned about a task (by default the last one executed), over time and now."""
    return current().route(task)


lm_bridge.find_with(lm)
