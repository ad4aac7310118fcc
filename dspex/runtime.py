"""The runtime: owns models, pool, store, orchestrator and events, and does what the public calls ask."""

from __future__ import annotations

import os
import secrets
import time
from dataclasses import asdict, fields
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from dspex import sandbox
from dspex.bridge import asking, observe
from dspex.bridge import lm as lm_bridge
from dspex.bridge import prices as prices_bridge
from dspex.bridge import program as program_bridge
from dspex.errors import DataError, DefinitionError, UnknownNameError
from dspex.events import Event, EventBus, ExecutionFinished, LabelGiven
from dspex.execution import Executor, Tasks
from dspex.native.signature import signature
from dspex.optimizers import comparing, warm
from dspex.optimizers.budget import Budget
from dspex.optimizers.continuous import Continuous
from dspex.optimizers.definition import define, name_of
from dspex.optimizers.measure import InWorkers, here
from dspex.optimizers.study import Study
from dspex.optimizers.waiting import Waiting
from dspex.orchestrator.analyze import title_of
from dspex.orchestrator.cache import Cache, ResponseCache
from dspex.orchestrator.engine import Orchestrator
from dspex.orchestrator.insights import Route, route
from dspex.orchestrator.model import BeliefModel
from dspex.orchestrator.policy import EXPLORATION, objective_named
from dspex.orchestrator.protection import Protection
from dspex.pools import make_pool, named
from dspex.records import Execution, Objective, Price
from dspex.redact import quiet_logger, redact
from dspex.reliability import Reliability, Work
from dspex.reliability.spending import Spending, check
from dspex.store import Store, default_url
from dspex.store.log import Cursor
from dspex.variables.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import dspy
    import pandas as pd

    from dspex.optimizers.coordinate import Optimizer
    from dspex.optimizers.definition import Definition, Examples
    from dspex.optimizers.holdout import Holdout
    from dspex.orchestrator.result import Result
    from dspex.orchestrator.streaming import Stream
    from dspex.records import Decision, Usage
    from dspex.variables.leases import OnConflict
    from dspex.variables.space import Space

    Task: TypeAlias = Any
    """A signature (a spec, ours, or a `dspy.Signature` class) or a `dspy.Module`."""

_log = quiet_logger("dspex")
_MODULES = ("Predict", "ChainOfThought")
_REPLAYED = 5_000
"""Executions that a new process learns from again; older ones have faded anyway."""


class Runtime:
    """Everything that a session of dspex holds on to. Made by `dspex.configure`.

    Parameters
    ----------
    models
        DSPy model strings or `dspy.LM` objects, or one alone. None means the sandbox, which says so once.
    modules
        Modules that `execute` may use for a signature: names, `dspy.Module` classes, or factories.
    objective
        What pays: ``balanced``, ``quality``, ``latency``, ``cost``, or an `Objective`.
    store
        ``memory``, a file path, or a database URL; by default ``DSPEX_STORE``, else one file per folder.
    pool
        Where work runs. ``inline``: threads of this process.
    workers
        How many calls to models may be in flight in the pool.
    prices
        Model → `Price`, where the price table does not know it or is wrong.
    exploration
        Probability with which any strategy is tried, whatever is believed, in [0, 1].
    seed
        Of the exploration.
    reliability
        How models are dealt with that fail, are slow, or have enough to do: a `Reliability`, or False for
        asking each as if it were well.
    cache
        Whether `execute` recalls what it answered before: a `Cache`, True, or False. By default it does, unless
        all models are simulated: those are asked in order to be learned from.
    budget
        What the session may spend, in US dollars or as a `Budget` of money, calls and tokens. Then the next
        call is refused.
    adapters
        Which may be chosen to put a signature to a model: ``bridged`` (DSPy runs the module), ``direct``,
        ``structured``, several of them, or ``auto``: what suits the task first, then what is learned to pay.
        ``auto`` leaves tasks to DSPy where `dspy.configure` was told an adapter, and on models of classes of
        your own, which may know DSPy's format alone.
    """

    def __init__(
        self,
        models: Sequence[str | dspy.BaseLM] | str | dspy.BaseLM | None = None,
        *,
        modules: Sequence[str | Callable[..., Any]] = _MODULES,
        objective: str | Objective = "balanced",
        store: str | None = None,
        pool: str = "inline",
        workers: int | None = None,
        prices: Mapping[str, Price] | None = None,
        exploration: float = EXPLORATION,
        seed: int = 0,
        reliability: Reliability | bool = True,
        cache: Cache | bool | None = None,
        budget: Budget | float | None = None,
        adapters: str | Sequence[str] = "auto",
    ) -> None:
        if workers is not None and workers < 1:
            raise DefinitionError(f"workers must be a number > 0, got {workers}")
        if models is None:
            models = sandbox.MODELS
            _log.warning(
                "no model is configured: dspex uses the sandbox, whose models are simulated; "
                "dspex.configure(models=['openai/gpt-4o-mini']) uses a real one"
            )
        if isinstance(models, str) or lm_bridge.is_lm(models):
            models = [models]
        if not models:
            raise DefinitionError(
                "models must name at least one model, got none", hint="models=['sandbox/small']"
            )
        self._lms: dict[str, dspy.BaseLM] = {}
        for model in models:
            lm = self.lm(model)
            if lm.model in self._lms and self._lms[lm.model] is not lm:
                raise DefinitionError(
                    f"models must differ by name, {lm.model} is there twice with other settings",
                    hint="settings such as temperature are variables of a space: dspex.optimize(...)",
                )
            self._lms[lm.model] = lm
        self.models = tuple(dict.fromkeys(self.lm(model).model for model in models))
        for name, price in (prices or {}).items():
            prices_bridge.declare(name, price)
        self._modules: dict[str, Callable[..., Any]] = {
            str(getattr(each, "__name__", each)): program_bridge.module_class(each) for each in modules
        }
        if not self._modules:
            raise DefinitionError(
                "modules must name at least one module, got none", hint="modules=['Predict']"
            )
        self.objective = objective_named(objective)
        self.budget = _session_budget(budget)
        self.pool = make_pool(pool, workers or min(32, 4 * (os.cpu_count() or 1)))
        self.events = EventBus()
        self.protection = self._protection(reliability)
        self.orchestrator = Orchestrator(
            _fresh_beliefs(self.models),
            objective=self.objective,
            events=self.events,
            seed=seed,
            exploration=exploration,
            protection=self.protection,
        )
        self.store = Store(default_url() if store is None else store)
        self.orchestrator.replay(self.store.since(Cursor(), limit=_REPLAYED)[0])
        self._stop_keeping = self.events.subscribe(self._keep)
        self.spending, self._by_strategy = Spending(), Spending()
        self._unlisten = observe.listen(self.spending.add)
        self.cache = ResponseCache(cache if isinstance(cache, Cache) else Cache(), shelf=self.store)
        self.tasks = Tasks(lm=self.lm, models=self.models, modules=self._modules, adapters=adapters)
        self.executor = Executor(
            self.tasks,
            orchestrator=self.orchestrator,
            protection=self.protection,
            cache=self.cache,
            caches_by_default=not self.is_simulated if cache is None else bool(cache),
            spending=self.spending,
            budget=self.budget,
            pool=self.pool,
            objective=self.objective,
            timeout_s=self.protection.settings.timeout_s if self.protection is not None else None,
        )
        self.studies: dict[str, Study] = {}
        self.watches: list[Continuous] = []

    def __repr__(self) -> str:
        simulated = " (simulated)" if self.is_simulated else ""
        return (
            f"<dspex Runtime: {', '.join(self.models)}{simulated}; modules {', '.join(self._modules)}; "
            f"pool {self.pool.name}; {self.orchestrator.beliefs.n_observations} executions learned from; {self.store}>"
        )

    @property
    def is_simulated(self) -> bool:
        """Whether every model is the sandbox's."""
        return all(name.startswith("sandbox/") for name in self.models)

    # ── models ──────────────────────────────────────────────────────────────────────────────────

    def lm(self, model: str | dspy.BaseLM) -> dspy.BaseLM:
        """Return the model of that name, made when it is first asked for; an object is its own answer."""
        if not isinstance(model, str):
            if not lm_bridge.is_lm(model):
                raise DefinitionError(f"a model is a name or a dspy.LM, got {redact(repr(model))}")
            asking.keep_secret(model)
            return model
        if model not in self._lms:
            self._lms[model] = (
                sandbox.lm(model) if model.startswith("sandbox/") else lm_bridge.from_name(model)
            )
        return self._lms[model]

    def _protection(self, reliability: Reliability | bool) -> Protection | None:
        if reliability is False:
            return None
        settings = reliability if isinstance(reliability, Reliability) else Reliability()
        return Protection(settings, publish=self.events.publish)

    # ── executing ───────────────────────────────────────────────────────────────────────────────

    def execute(self, task: Task, inputs: Mapping[str, Any], **options: Any) -> Result:
        """Run a task the way that is believed to pay, and learn from it; options as of `Executor.execute`."""
        return self.executor.execute(task, inputs, **options)

    async def aexecute(self, task: Task, inputs: Mapping[str, Any], **options: Any) -> Result:
        """Run a task on the pool, so that the event loop stays free."""
        return await self.executor.aexecute(task, inputs, **options)

    def stream(self, task: Task, inputs: Mapping[str, Any], **options: Any) -> Stream:
        """Run a task, and hand on its answer piece by piece; options as of `Executor.stream`."""
        return self.executor.stream(task, inputs, **options)

    def explain(self, task: Task, inputs: Mapping[str, Any], **options: Any) -> Decision:
        """Say how a task would be run and why, without running it; options as of `Executor.explain`."""
        return self.executor.explain(task, inputs, **options)

    # ── optimizing ──────────────────────────────────────────────────────────────────────────────

    def optimize(
        self,
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
        """Check everything, then begin a study in the background and return it."""
        check(self.budget, self.spending.total, whose="session")
        if self.protection is not None:
            self.protection.look()
            self.protection.degradation.check(Work.OPTIMIZATION)
        program, title = self._student(task)
        searched = space.as_space() if isinstance(space, Registry) else space
        if warm_start is not None:
            program, searched = warm.started(program, searched, warm_start, self.store)
        definition = define(
            program,
            title=title,
            space=searched,
            trainset=trainset,
            valset=valset,
            metric=metric,
            optimizer=optimizer,
            budget=_within(budget, self.budget, self.spending.total),
            name=name or f"{name_of(optimizer)}-{secrets.token_hex(3)}",
            seed=seed,
            lm=self.lm,
            default_lm=self.lm(self.models[0]),
            reflection_lm=self.lm(max(self.models, key=_dearness)),
            timeout_s=timeout_s,
            holdout=holdout,
            tags=tags,
        )
        measure = here if pool is None else _in_workers(pool, definition)
        row = self._row(definition, resume=resume)
        known = self.store.scores(definition.name) if resume else ()
        study = Study(
            definition,
            pool=self.pool,
            store=self.store,
            events=self.events,
            known=known,
            measure=measure,
            pauses=self._searching_pauses,
            waiting=self._waiting(definition),
        )
        if isinstance(space, Registry) and (definition.recipe is None or definition.varies):
            study.lease_of(space, on_conflict)
        self._enter(definition, row)
        self.studies[study.name] = study
        return study.start()

    def watch(self, task: Task, *, space: Registry, **options: Any) -> Continuous:
        """Check everything, then begin to watch the calls of a task that run with a registry's values."""
        watch = Continuous(
            self._student(task)[0],
            signature_key=self.tasks.ways(task).described.key,
            registry=space,
            begin=partial(self.optimize, task),
            lm=self.lm,
            default_lm=self.lm(self.models[0]),
            pool=self.pool,
            store=self.store,
            events=self.events,
            **options,
        )
        self.watches.append(watch)
        return watch.start()

    def _waiting(self, definition: Definition) -> Waiting | None:
        if self.protection is None:
            return None
        return Waiting(
            self.protection.guards,
            definition.name,
            definition.models,
            seconds=definition.budget.seconds,
            publish=self.events.publish,
        )

    def _searching_pauses(self) -> bool:
        if self.protection is None:
            return False
        self.protection.look()
        return not self.protection.degradation.allows(Work.OPTIMIZATION)

    def _student(self, task: Task) -> tuple[dspy.Module, str]:
        """Return the program that is searched, and what tables call it."""
        if program_bridge.is_program(task):
            return task, type(task).__name__
        described = signature(task)
        return self.tasks.program(described, next(iter(self._modules))), title_of(described)

    def _row(self, definition: Definition, *, resume: bool) -> Mapping[str, Any] | None:
        """Return a study's row in the store, if it has one, and check that it is its own."""
        row = self.store.study(definition.name)
        running = self.studies.get(definition.name)
        if running is not None and not running.is_done:
            raise DataError(
                f"the study {definition.name!r} is still running", hint="cancel() it, or choose another name"
            )
        if row is None:
            if resume:
                raise UnknownNameError.among("study", definition.name, self.store.studies()["name"])
            return None
        if not resume:
            raise DataError(
                f"there is a study called {definition.name!r} already",
                hint="resume=True goes on with it; or choose another name",
            )
        differs = {key: (was, definition.identity.get(key)) for key, was in row["definition"].items()}
        changed = [f"{key} was {was}, is {now}" for key, (was, now) in differs.items() if was != now]
        if changed:
            raise DataError(
                f"{definition.name!r} cannot be resumed, it is another search now: {'; '.join(changed)}",
                hint="give the study its old definition, or begin a new one under another name",
            )
        return row

    def _enter(self, definition: Definition, row: Mapping[str, Any] | None) -> None:
        """Give a study its row in the store, or begin the one it has anew."""
        if row is not None:
            tags = {"tags": list(definition.tags)} if definition.tags else {}
            self.store.put_study(definition.name, state="running", reason=None, finished_at=None, **tags)
            return
        self.store.put_study(
            definition.name,
            started_at=time.time(),
            state="running",
            program=definition.program,
            optimizer=definition.optimizer,
            metric=definition.identity["metric"],
            seed=definition.seed,
            definition=dict(definition.identity),
            tags=list(definition.tags),
        )

    # ── looking back ────────────────────────────────────────────────────────────────────────────

    def history(self, limit: int | None = None) -> pd.DataFrame:
        """Return the executions, newest first."""
        return self.store.history(limit=limit)

    def usage(self) -> pd.DataFrame:
        """Return what was spent: by the session, each model, each way of running, and each study."""
        import pandas as pd

        rows = [("session", "", self.spending.total)]
        rows += [("model", name, used) for name, used in self.spending.by_model.items()]
        rows += [("strategy", str(way), used) for way, used in self._by_strategy.by_model.items()]
        rows += [("study", name, study.usage) for name, study in self.studies.items()]
        return pd.DataFrame([{"of": of, "name": name, **asdict(used)} for of, name, used in rows])

    def runs(self) -> pd.DataFrame:
        """Return the studies, newest first."""
        return self.store.studies().set_index("name")

    def compare(self, *studies: Study | str) -> pd.DataFrame:
        """Compare the best of studies in pairs; names are of studies of this runtime."""
        unknown = [each for each in studies if isinstance(each, str) and each not in self.studies]
        if unknown:
            raise UnknownNameError.among("study", unknown[0], self.studies)
        return comparing.with_others(
            [self.studies[each] if isinstance(each, str) else each for each in studies]
        )

    def route(self, task: Task | None = None) -> Route:
        """Return what was learned about one signature, by default the one executed last."""
        name = None if task is None else title_of(self.tasks.ways(task).described)
        records = self.store.since(Cursor(), limit=_REPLAYED)[0]
        models = {each.strategy.model for each in records if isinstance(each, Execution)}
        return route(records, lambda: _fresh_beliefs(models), self.objective, name)

    def close(self) -> None:
        """Cancel what runs, keep what happened, and let go of the store."""
        for watch in self.watches:
            watch.stop()
        for study in self.studies.values():
            if not study.is_done:
                study.cancel()
        self._unlisten()
        self.tasks.adapters.close()
        self.pool.close()
        self._stop_keeping()  # attempts that nobody waits for may end later
        self.store.close()

    def _keep(self, event: Event) -> None:
        if isinstance(event, ExecutionFinished):
            self.store.append(event.execution)
            self._by_strategy.add(str(event.execution.strategy), event.execution.usage)
        elif isinstance(event, LabelGiven):
            self.store.append(event.label)


def _in_workers(pool: str, definition: Definition) -> InWorkers:
    """Have a study's examples measured in a pool's workers; says now what could not go there."""
    if definition.recipe is not None:
        raise DefinitionError(
            f"{definition.optimizer} evaluates by itself, in threads of this process, got pool={pool!r}",
            hint='leave pool out; or search with optimizer="beacon"',
        )
    measure = InWorkers(named.get(pool))
    measure.check(definition.student, definition.metric)
    return measure


def _session_budget(budget: Budget | float | None) -> Budget | None:
    """Read a budget; of a session only money, calls and tokens can be limited."""
    if budget is None:
        return None
    limit = budget if isinstance(budget, Budget) else Budget(usd=budget)
    others = [name for name in ("trials", "seconds", "patience") if getattr(limit, name) is not None]
    if others:
        raise DefinitionError(
            f"a session's budget limits usd, calls or tokens, got {', '.join(others)}",
            hint="give these to dspex.optimize(..., budget=...)",
        )
    return limit


def _within(wanted: Budget | None, session: Budget | None, spent: Usage) -> Budget | None:
    """Narrow a study's budget to what the session has left."""
    if session is None:
        return wanted
    wanted = Budget.of(wanted)
    left = {
        "usd": None if session.usd is None else session.usd - spent.cost_usd,
        "calls": None if session.calls is None else session.calls - spent.calls,
        "tokens": None if session.tokens is None else session.tokens - spent.tokens_in - spent.tokens_out,
    }
    given = {each.name: getattr(wanted, each.name) for each in fields(wanted)}
    narrowed = {
        name: min(limits)
        for name, remaining in left.items()
        if (limits := [each for each in (remaining, given.get(name)) if each is not None])
    }
    return Budget(**{**given, **narrowed})


def _dearness(model: str) -> float:
    """Return what a model's words cost: the nearest there is to how large it is."""
    return prices_bridge.price_of(model).output_usd


def _fresh_beliefs(models: Iterable[str]) -> BeliefModel:
    """Make beliefs that know prices, and nothing else yet."""
    return BeliefModel(
        prices={name: prices_bridge.price_of(name) for name in models},
        latencies_s={name: sandbox.typical_latency_s(name) for name in models if name in sandbox.MODELS},
    )
