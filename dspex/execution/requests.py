"""What is asked, as a key: everything that an answer depends on, found out once for each task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from dspex.adapters.base import Adapter
from dspex.bridge import asking
from dspex.bridge import program as program_bridge
from dspex.errors import DefinitionError
from dspex.orchestrator.cache import Request, inputs_key, prefix_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    import dspy

    from dspex.execution.options import Options, Task
    from dspex.execution.tasks import Tasks
    from dspex.native.signature import Signature

_REMEMBERED = 1_000
"""Tasks whose keys are kept; who makes a new class for each call must not fill the memory."""


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


class Requests:
    """Names what calls ask.

    Parameters
    ----------
    caches_by_default
        Whether a call that says nothing about it may be answered from the cache.
    """

    def __init__(self, tasks: Tasks, *, caches_by_default: bool) -> None:
        self._tasks, self._caches_by_default = tasks, caches_by_default
        self._seen: dict[Any, _Seen] = {}

    def name(self, task: Task, inputs: Mapping[str, Any], asked: Options) -> Request | None:
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
        if not is_asked_for and (is_program or not self._tasks.is_pure):
            return None
        ways = self._tasks.ways(task, by)
        models = [self._tasks.lm(each) for each in dict.fromkeys(each.model for each in ways.strategies)]
        settings = tuple((lm, dict(lm.kwargs)) for lm in models)
        told = [[lm.model, asking.settings_of(lm)] for lm in models]
        prefix = prefix_of(
            ways.described,
            ways.strategies,
            [told, program_bridge.adapter_named(adapter)],
            *([program_bridge.text_key(task)] if is_program else []),
        )
        return _Seen(task, getattr(task, "__doc__", None), settings, adapter, ways.described, prefix)
