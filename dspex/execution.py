"""Execution: what happens between a call and its answer, cache, budget, guards and orchestrator included."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from dspex.adapters.base import Adapter, outcome_of
from dspex.bridge import asking, observe
from dspex.bridge import program as program_bridge
from dspex.errors import DefinitionError, DspexError, ExhaustedError
from dspex.native.signature import Signature, signature
from dspex.optimizers.budget import Budget
from dspex.orchestrator.analyze import suited_adapter
from dspex.orchestrator.asking import AUTO, TAKES, Adapters, names_of, shown_whole, strategies_of, streamed
from dspex.orchestrator.cache import Request, inputs_key, prefix_of
from dspex.orchestrator.result import Result
from dspex.orchestrator.streaming import Shown, Stream
from dspex.orchestrator.ways import Ways, narrowed, with_defaults
from dspex.pools import named
from dspex.records import BRIDGED, Outcome, Strategy, Usage
from dspex.reliability import SingleFlight, deadline, is_overflow
from dspex.reliability.spending import check
from dspex.variables.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    import dspy

    from dspex.orchestrator.cache import Entry, ResponseCache
    from dspex.orchestrator.engine import Orchestrator
    from dspex.orchestrator.protection import Protection
    from dspex.pools import Pool
    from dspex.pools.sessions import Session
    from dspex.records import Configuration, Decision, Field, Objective
    from dspex.reliability.spending import Spending

    Task: TypeAlias = Any
    """A signature (a spec, ours, or a `dspy.Signature` class) or a `dspy.Module`."""

_WRONG = 0.5
"""An answer that is rated below is not given again."""
_REMEMBERED = 1_000
"""Tasks whose keys are kept; who makes a new class for each call must not fill the memory."""


class Options(NamedTuple):
    """How one call is to be made."""

    pin: Strategy | None = None
    explore: bool = True
    space: Registry | None = None
    session: Session | None = None
    timeout_s: float | None = None
    budget: Budget | float | None = None
    cache: bool | None = None
    rollout_id: int | None = None
    adapter: str | Adapter | None = None

    @property
    def defaults(self) -> dict[str, Any]:
        """What the session's owner wants, but for what is said more particularly."""
        if self.session is None:
            return {}
        overridden = set() if self.pin is None else {"model", "module"}
        if isinstance(self.space, Registry):
            overridden |= {*self.space.space, *self.space.space.composites, *self.space.space.frozen}
        return {name: value for name, value in self.session.defaults.items() if name not in overridden}


class _Seen(NamedTuple):
    """A task that was asked before: all of its key but the inputs, and what it depends on that may change."""

    task: Any
    """Kept alive, so that nothing else gets its identity."""
    words: Any
    settings: tuple[tuple[dspy.BaseLM, dict[str, Any]], ...]
    adapter: Any
    described: Signature
    prefix: str

    def still_holds(self, task: Any, adapter: Any) -> bool:
        if self.adapter is not adapter or getattr(task, "__doc__", None) is not self.words:
            return False
        for lm, settings in self.settings:  # noqa: SIM110  # a generator takes twice as long
            if lm.kwargs != settings:
                return False
        return True


class Executor:
    """Runs tasks for a runtime.

    Parameters
    ----------
    lm
        Finds a model by its name.
    models, modules
        What strategies are made of.
    caches_by_default
        Whether a call that says nothing about it may be answered from the cache.
    budget
        What may be spent in all.
    adapters
        Which may be chosen where a call does not say.
    """

    def __init__(
        self,
        *,
        lm: Callable[[str | dspy.BaseLM], dspy.BaseLM],
        models: Sequence[str],
        modules: Mapping[str, Callable[..., Any]],
        orchestrator: Orchestrator,
        protection: Protection | None,
        cache: ResponseCache,
        caches_by_default: bool,
        spending: Spending,
        budget: Budget | None,
        pool: Pool,
        objective: Objective,
        timeout_s: float | None,
        adapters: Sequence[str] = (BRIDGED,),
    ) -> None:
        self._lm = lm
        self._adapter_names, self.adapters = adapters, Adapters()
        self._models, self._modules = models, modules
        self._orchestrator, self._protection = orchestrator, protection
        self._cache, self._caches_by_default = cache, caches_by_default
        self._spending, self._budget = spending, budget
        self._pool, self._objective, self._timeout_s = pool, objective, timeout_s
        self._programs: dict[tuple[str, str], tuple[tuple[Field, ...], dspy.Module]] = {}
        self._seen: dict[Any, _Seen] = {}
        self._flights: SingleFlight[Result] = SingleFlight()
        self._is_pure = all(map(program_bridge.is_pure, modules.values()))

    # ── the calls ───────────────────────────────────────────────────────────────────────────────

    def execute(self, task: Task, inputs: Mapping[str, Any], **options: Any) -> Result:
        """Run a task, or recall what it answered."""
        asked = _read(options)
        request = self._request(task, inputs, asked)
        if request is not None:
            entry = self._cache.recall(request)
            if entry is not None:
                return self._recalled(request, entry)
        return self._answer(task, inputs, asked, request)

    async def aexecute(self, task: Task, inputs: Mapping[str, Any], **options: Any) -> Result:
        """Do the same on the pool, so that the event loop stays free."""
        asked = _read(options)
        request = self._request(task, inputs, asked)
        if request is not None:
            entry = self._cache.recall(request)
            if entry is not None:
                return self._recalled(request, entry)
        future = self._pool.submit(self._answer, task, inputs, asked, request)
        return await asyncio.wrap_future(future)

    def stream(self, task: Task, inputs: Mapping[str, Any], **options: Any) -> Stream:
        """Run a task, and hand on its answer piece by piece; nothing is recalled, and nothing said twice."""
        asked = _read(options)
        adapter = asked.adapter
        if adapter is None and not asked.defaults:
            adapter = self._streaming(task)
        ways = self._ways_for(task, inputs, asked._replace(adapter=adapter))

        def work(put: Callable[[str], None]) -> Result:
            with deadline.within(self._timeout_s if asked.timeout_s is None else asked.timeout_s):
                return self._run(task, inputs, asked, ways, has_older=False, shown=Shown(put))

        return Stream(work)

    def explain(self, task: Task, inputs: Mapping[str, Any], **options: Any) -> Decision:
        """Say how a task would be run and why, without running it."""
        asked = _read(options)
        ways = self._ways_for(task, inputs, asked)
        if asked.space is not None:
            ways = self._narrowed(task, ways, asked.space, lambda registry: registry.configuration)
        return self._orchestrator.explain(
            ways.described, inputs, ways.strategies, configuration=ways.configuration
        )

    def _answer(
        self, task: Task, inputs: Mapping[str, Any], asked: Options, request: Request | None
    ) -> Result:
        ways = self._ways_for(task, inputs, asked)
        with deadline.within(self._timeout_s if asked.timeout_s is None else asked.timeout_s):
            if request is None:
                return self._run(task, inputs, asked, ways, has_older=False)
            entry = self._cache.fetch(request, ways.described)
            if entry is not None:
                return self._recalled(request, entry)
            return self._run_once(task, inputs, asked, ways, request)

    def _run_once(
        self, task: Task, inputs: Mapping[str, Any], asked: Options, ways: Ways, request: Request
    ) -> Result:
        """Run what is not known yet, together with whoever asks the same meanwhile."""
        mine: list[Result] = []

        def lead() -> Result:
            # Whoever asked the same may have been answered since it was looked for.
            entry = self._cache.recall(request)
            if entry is not None:
                return self._recalled(request, entry)
            older = self._cache.fetch(request, ways.described, stale=True)
            try:
                result = self._run(task, inputs, asked, ways, request=request, has_older=older is not None)
            except DspexError as error:
                if older is None or not _is_overflow(error):
                    raise
                result = self._recalled(request, older, is_stale=True)
            else:
                self._cache.put(request, ways.described, result)
            mine.append(result)
            return result

        remaining = deadline.remaining_s()
        result = self._flights.do(request, lead, timeout_s=None if math.isinf(remaining) else remaining)
        if mine:
            return result
        entry = self._cache.recall(request)
        return result if entry is None else self._recalled(request, entry)

    def _run(
        self,
        task: Task,
        inputs: Mapping[str, Any],
        asked: Options,
        ways: Ways,
        *,
        request: Request | None = None,
        has_older: bool,
        shown: Shown | None = None,
    ) -> Result:
        space = asked.space
        if space is not None and asked.adapter not in (None, AUTO, BRIDGED):
            raise _values_need_bridging("space=...", asked.adapter)
        if space is not None:
            ways = self._narrowed(task, ways, space, Registry.use)
        self._protect(ways, asked.pin)
        done = self._orchestrator.orchestrate(
            ways.described,
            inputs,
            ways.strategies,
            _Attempt(ways, inputs, asked, self._within_budgets, shown),
            pool=self._pool.name,
            pin=asked.pin,
            explore=asked.explore,
            configuration=ways.configuration,
            learn=None if space is None else partial(space.learn, objective=self._objective),
            session=None if asked.session is None else asked.session.name,
            has_older=has_older,
        )
        return Result(done, on_rating=partial(self._rate, space, request))

    def _protect(self, ways: Ways, pin: Strategy | None) -> None:
        """See to it that each model has its guard, and that the machine can take the call."""
        if self._protection is None:
            return
        guards = self._protection.guards
        for strategy in ways.strategies:
            if guards.find(strategy.model) is not None:
                continue
            if ways.is_foreign:
                guards.of(strategy.model)
            else:
                lm = ways.lm(strategy)
                guards.of(strategy.model, key=asking.key_of(lm), is_local=asking.is_local(lm))
        self._protection.check_load(ways.strategies if pin is None else [pin])

    # ── the cache ───────────────────────────────────────────────────────────────────────────────

    def _request(self, task: Task, inputs: Mapping[str, Any], asked: Options) -> Request | None:
        """Name what is asked, or return None if it is to be asked in any case."""
        if asked.cache is False or asked.space is not None:
            if asked.cache:
                raise DefinitionError(
                    "calls with a registry teach it, so they are not cached; got cache=True and space=...",
                    hint="leave one of them out",
                )
            return None
        if (asked.cache is None and not self._caches_by_default) or isinstance(asked.adapter, Adapter):
            return None
        adapter = program_bridge.adapter_in_force()
        name: Any = task if type(task) is str else id(task)
        if asked.adapter is not None:
            name = (name, asked.adapter)
        seen = self._seen.get(name)
        if seen is None or not seen.still_holds(task, adapter):
            seen = self._look(task, adapter, asked.adapter, is_asked_for=asked.cache is True)
            if seen is None:
                return None
            if not program_bridge.is_program(task):
                if len(self._seen) >= _REMEMBERED:
                    self._seen.clear()
                self._seen[name] = seen
        key, prefix = inputs_key(inputs), seen.prefix
        if asked.session is not None and (defaults := asked.defaults):
            wanted = inputs_key(defaults)
            prefix, key = f"{prefix} {wanted!r}", None if wanted is None else key
        return None if key is None else Request(prefix, asked.pin, asked.rollout_id, key)

    def _look(self, task: Task, adapter: Any, by: str | None, *, is_asked_for: bool) -> _Seen | None:
        """Find out what the answers to a task depend on; None if that cannot be told, and nobody vouches for it."""
        is_program = program_bridge.is_program(task)
        if not is_asked_for and (is_program or not self._is_pure):
            return None
        ways = self.ways(task, by)
        models = [self._lm(each) for each in dict.fromkeys(each.model for each in ways.strategies)]
        settings = tuple((lm, dict(lm.kwargs)) for lm in models)
        told = [[lm.model, asking.settings_of(lm)] for lm in models]
        prefix = prefix_of(
            ways.described,
            ways.strategies,
            [told, program_bridge.adapter_named(adapter)],
            *([program_bridge.text_key(task)] if is_program else []),
        )
        return _Seen(task, getattr(task, "__doc__", None), settings, adapter, ways.described, prefix)

    def _recalled(self, request: Request, entry: Entry, *, is_stale: bool = False) -> Result:
        return Result.recalled(entry, on_rating=partial(self._rate, None, request), is_stale=is_stale)

    def _rate(
        self, space: Registry | None, request: Request | None, execution_id: str, quality: float
    ) -> None:
        label = self._orchestrator.rate(execution_id, quality)
        if request is not None and quality < _WRONG:
            self._cache.forget(request)
        if space is not None:
            space.learn(label, self._objective)

    # ── what a task is ──────────────────────────────────────────────────────────────────────────

    def _ways_for(self, task: Task, inputs: Mapping[str, Any], asked: Options) -> Ways:
        """Return the ways a task can be run after its session has had its say."""
        ways, defaults = self.ways(task, asked.adapter), asked.defaults
        ways.described.check_inputs(inputs)
        if not defaults:
            return ways
        if asked.adapter not in (None, AUTO, BRIDGED):
            raise _values_need_bridging("session=...", asked.adapter)
        ways = self._bridged(task, ways)
        return with_defaults(ways, defaults, is_program=program_bridge.is_program(task), lm=self._lm)

    def _bridged(self, task: Task, ways: Ways) -> Ways:
        """Leave only DSPy's programs, to which values can be bound."""
        return self.ways(task, BRIDGED) if any(each.adapter != BRIDGED for each in ways.strategies) else ways

    def ways(self, task: Task, adapter: str | Adapter | None = None) -> Ways:
        """Return what a task is, the ways it can be run, and the program and model for each way."""
        if isinstance(adapter, Adapter):
            return self._foreign(task, adapter)
        if not program_bridge.is_program(task):
            described = signature(task)
            names = self._adapter_names if adapter is None else names_of(adapter)
            return Ways(
                described,
                strategies_of(self._models, self._modules, names, asked_for=adapter is not None),
                program=lambda strategy: self.program(described, strategy.module),
                lm=lambda strategy: self._lm(strategy.model),
                make=lambda module: program_bridge.make(described.to_dspy(), module),
                configuration={} if adapter is None else {"adapter": adapter},
                adapter=lambda strategy: self.adapters.of(self._lm(strategy.model), strategy),
            )
        if adapter not in (None, BRIDGED, AUTO):
            raise DefinitionError(
                f"a program runs as it is, which is adapter='bridged'; got {adapter!r}",
                hint="give a signature instead of the program",
            )
        described = Signature.from_dspy(program_bridge.signature_of(task))
        kind, own = type(task).__name__, program_bridge.models_of(task)
        if own:
            # An optimized program brings its own models; another one would be another program.
            return Ways(
                described,
                [Strategy(" + ".join(own), kind)],
                program=lambda _: task,
                lm=lambda _: self._lm(self._models[0]),
                make=lambda _: task,
            )
        return Ways(
            described,
            [Strategy(model, kind) for model in self._models],
            program=lambda _: task,
            lm=lambda strategy: self._lm(strategy.model),
            make=lambda _: task,
        )

    @staticmethod
    def _foreign(task: Task, adapter: Adapter) -> Ways:
        """Return the one way there is when the user hands over the adapter to use."""
        if program_bridge.is_program(task):
            task = program_bridge.signature_of(task)
        module = str(getattr(adapter, "module", "Predict"))
        strategy = Strategy(adapter.model or adapter.name, module, adapter.name)

        def nothing(_: Strategy) -> Any:
            raise NotImplementedError("the adapter is asked instead")

        return Ways(
            signature(task),
            [strategy],
            program=nothing,
            lm=nothing,
            make=nothing,
            configuration={"adapter": adapter.name},
            adapter=lambda _: adapter,
            is_foreign=True,
        )

    def _streaming(self, task: Task) -> str | None:
        """Say which adapter can show an answer while it is written; the session's own choice if one can."""
        if program_bridge.is_program(task) or any(name != BRIDGED for name in self._adapter_names):
            return None
        described = signature(task)
        suited = suited_adapter(described, "low")
        return suited if set(TAKES.get(suited, ())) & set(self._modules) else None

    def program(self, described: Signature, module: str) -> dspy.Module:
        """Return the program that solves a signature through a module, made once."""
        key = (described.key, module)
        fields, program = self._programs.get(key, (None, None))
        # A class that was defined anew in a notebook has the old one's name, and is another type.
        if program is None or fields != described.fields:
            program = program_bridge.make(described.to_dspy(), self._modules[module])
            self._programs[key] = described.fields, program
        return program

    def _narrowed(
        self, task: Task, ways: Ways, space: Registry, read: Callable[[Registry], Configuration]
    ) -> Ways:
        if not isinstance(space, Registry):
            raise DefinitionError(
                f"a task runs with the values of a registry, got {space!r}",
                hint="space=dspex.Registry(space)",
            )
        is_program = program_bridge.is_program(task)
        return narrowed(self._bridged(task, ways), space, read(space), is_program=is_program, lm=self._lm)

    # ── what it may cost ────────────────────────────────────────────────────────────────────────

    def _within_budgets(self, asked: Options, spent: Usage) -> AbstractContextManager[None]:
        """Refuse the next attempt if this call, or the session, has spent what it may."""
        if asked.budget is not None:
            limit = asked.budget if isinstance(asked.budget, Budget) else Budget(usd=asked.budget)
            check(limit, spent, whose="call")
        return self._spending.attempt(self._budget, whose="session")


class _Attempt:
    """Runs a task one way, within the deadline, if it may still spend anything."""

    def __init__(
        self,
        ways: Ways,
        inputs: Mapping[str, Any],
        asked: Options,
        within_budgets: Callable[[Options, Usage], AbstractContextManager[None]],
        shown: Shown | None = None,
    ) -> None:
        self._ways, self._inputs, self._asked = ways, inputs, asked
        self._within_budgets = within_budgets
        self._spent = Usage()
        self._shown = shown
        self._failed: str | None = None

    def __call__(self, strategy: Strategy) -> Outcome:
        if self._shown is not None:
            self._shown.check(self._failed)
        with self._within_budgets(self._asked, self._spent):
            outcome = self._run(strategy)
        self._spent += outcome.usage
        self._failed = outcome.error
        return self._judged(outcome)

    def _run(self, strategy: Strategy) -> Outcome:
        run, is_local = self._runner(strategy)
        remaining = deadline.remaining_s()
        if math.isinf(remaining) or is_local:
            return run()
        return asking.in_time(run, remaining, strategy.model)

    def _runner(self, strategy: Strategy) -> tuple[Callable[[], Outcome], bool]:
        """Return what asks once, and whether it does so in this process."""
        asked, ways, inputs, shown = self._asked, self._ways, self._inputs, self._shown
        adapter = ways.adapter(strategy)
        if adapter is not None:
            is_local = not ways.is_foreign and asking.is_local(ways.lm(strategy))

            def ask() -> Outcome:
                with observe.drawing(asked.rollout_id):
                    if shown is None:
                        return outcome_of(adapter, ways.described, inputs)
                    return streamed(adapter, ways.described, inputs, shown)

            return ask, is_local
        lm = asking.asker(ways.lm(strategy), past_caches=asked.cache is False, rollout=asked.rollout_id)
        program = ways.program(strategy)

        def run() -> Outcome:
            with observe.drawing(asked.rollout_id):
                return program_bridge.run(program, inputs, lm)[1]

        if shown is None:
            return run, asking.is_local(lm)
        return partial(shown_whole, run, ways.described.outputs, shown), asking.is_local(lm)

    def _judged(self, outcome: Outcome) -> Outcome:
        ways = self._ways
        broken = ways.described.broken_constraints(outcome.output) if outcome.output is not None else None
        # An answer out of bounds is a failed attempt: another model may keep to them.
        return outcome if broken is None else replace(outcome, output=None, error=broken)


def _read(options: Mapping[str, Any]) -> Options:
    """Read a call's options, and find the session that is named in them."""
    asked = Options(**options)
    if asked.session is None:
        return asked
    owner = named.session(asked.session) if isinstance(asked.session, str) else asked.session
    owner.touch()
    return asked._replace(session=owner)


def _values_need_bridging(given: str, adapter: object) -> DefinitionError:
    return DefinitionError(
        "the values of a registry or a session are set on DSPy's programs, which only the bridged adapter runs; "
        f"got {given} and adapter={adapter!r}",
        hint="leave one of them out",
    )


def _is_overflow(error: DspexError) -> bool:
    """Whether a call failed for want of room alone."""
    if isinstance(error, ExhaustedError):
        return bool(error.failures) and all(map(is_overflow, error.failures))
    return is_overflow(error)
