"""What a task is, and the ways it can be run."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dspex.adapters.base import Adapter
from dspex.bridge import program as program_bridge
from dspex.bridge.clients import takes_any_prompt
from dspex.errors import DefinitionError
from dspex.native.signature import Signature, signature
from dspex.orchestrator.analyze import suited_adapter
from dspex.orchestrator.asking import AUTO, Adapters, names_of, strategies_of
from dspex.orchestrator.ways import Ways, with_defaults
from dspex.orchestrator.ways import narrowed as narrow
from dspex.records import BRIDGED, Strategy
from dspex.variables.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import dspy

    from dspex.execution.options import Options, Task
    from dspex.records import Configuration, Field


class Tasks:
    """Finds the ways a task can be run, and the program for each.

    Parameters
    ----------
    lm
        Finds a model by its name.
    models, modules
        What strategies are made of.
    adapters
        Which may be chosen where a call does not say; ``auto`` for what each model is known to understand.
    """

    def __init__(
        self,
        *,
        lm: Callable[[str | dspy.BaseLM], dspy.BaseLM],
        models: Sequence[str],
        modules: Mapping[str, Callable[..., Any]],
        adapters: str | Sequence[str] = AUTO,
    ) -> None:
        self.lm = lm
        names_of(adapters)  # what is wrong with them is said now
        self._allowed, self.adapters = adapters, Adapters()
        self._models, self._modules = models, modules
        self._programs: dict[tuple[str, str], tuple[tuple[Field, ...], dspy.Module]] = {}
        self._own = {name for name, module in modules.items() if program_bridge.is_pure(module)}
        self.is_pure = len(self._own) == len(modules)

    def ways_for(
        self, task: Task, inputs: Mapping[str, Any], asked: Options, *, streaming: bool = False
    ) -> Ways:
        """Return the ways a task can be run after its session has had its say; those that suit a stream, if there are any."""
        ways, defaults = self.ways(task, asked.adapter), asked.defaults
        ways.described.check_inputs(inputs)
        if streaming and asked.pin is None:
            # A module that DSPy runs has nothing to show before its end, and one text is no JSON.
            suited = suited_adapter(ways.described, "low")
            showing = [each for each in ways.strategies if each.adapter == suited]
            ways = replace(ways, strategies=showing or ways.strategies)
        if not defaults:
            return ways
        if asked.adapter not in (None, AUTO, BRIDGED):
            raise values_need_bridging("session=...", asked.adapter)
        ways = self._bridged(task, ways)
        return with_defaults(ways, defaults, is_program=program_bridge.is_program(task), lm=self.lm)

    def ways(self, task: Task, adapter: str | Adapter | None = None) -> Ways:
        """Return what a task is, the ways it can be run, and the program and model for each way."""
        if isinstance(adapter, Adapter):
            return self._foreign(task, adapter)
        if not program_bridge.is_program(task):
            described = signature(task)
            return Ways(
                described,
                self._strategies(adapter),
                program=lambda strategy: self.program(described, strategy.module),
                lm=lambda strategy: self.lm(strategy.model),
                make=lambda module: program_bridge.make(described.to_dspy(), module),
                configuration={} if adapter is None else {"adapter": adapter},
                adapter=lambda strategy: self.adapters.of(self.lm(strategy.model), strategy),
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
                lm=lambda _: self.lm(self._models[0]),
                make=lambda _: task,
            )
        return Ways(
            described,
            [Strategy(model, kind) for model in self._models],
            program=lambda _: task,
            lm=lambda strategy: self.lm(strategy.model),
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

    def _strategies(self, adapter: str | None) -> list[Strategy]:
        """List what a signature may be run by; a choice that nobody made takes nothing for granted."""
        given = self._allowed if adapter is None else adapter
        found = strategies_of(
            self._models, self._modules, names_of(given), own=self._own, asked_for=adapter is not None
        )
        if given != AUTO:
            return found
        chose_format = program_bridge.has_chosen_format()
        lean = {each: not chose_format and takes_any_prompt(self.lm(each)) for each in self._models}
        return [each for each in found if each.adapter == BRIDGED or lean[each.model]]

    def program(self, described: Signature, module: str) -> dspy.Module:
        """Return the program that solves a signature through a module, made once."""
        key = (described.key, module)
        fields, program = self._programs.get(key, (None, None))
        # A class that was defined anew in a notebook has the old one's name, and is another type.
        if program is None or fields != described.fields:
            program = program_bridge.make(described.to_dspy(), self._modules[module])
            self._programs[key] = described.fields, program
        return program

    def narrowed(
        self, task: Task, ways: Ways, space: Registry, read: Callable[[Registry], Configuration]
    ) -> Ways:
        """Return the ways after a registry has had its say; `read` says how its values are taken."""
        if not isinstance(space, Registry):
            raise DefinitionError(
                f"a task runs with the values of a registry, got {space!r}",
                hint="space=dspex.Registry(space)",
            )
        is_program = program_bridge.is_program(task)
        return narrow(self._bridged(task, ways), space, read(space), is_program=is_program, lm=self.lm)

    def _bridged(self, task: Task, ways: Ways) -> Ways:
        """Leave only DSPy's programs, to which values can be bound."""
        if all(each.adapter == BRIDGED for each in ways.strategies):
            return ways
        return replace(self.ways(task, BRIDGED), configuration=ways.configuration)


def values_need_bridging(given: str, adapter: object) -> DefinitionError:
    """Say that values cannot be set on what an adapter asks by itself."""
    return DefinitionError(
        "the values of a registry or a session are set on DSPy's programs, which only the bridged adapter runs; "
        f"got {given} and adapter={adapter!r}",
        hint="leave one of them out",
    )
