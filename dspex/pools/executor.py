"""loky's executor for one worker, with two short ways for what is small and plain.

loky prepares for anything: each message gets a new pickler, and goes by a thread of its own. Ours are tuples of
bytes, pickled before; written at once and by plain `pickle`, a call costs a third less than loky's own. The large
ones go loky's way, as writing them would hold up the thread that takes the answers.
"""

from __future__ import annotations

import contextlib
import pickle
from typing import TYPE_CHECKING, Any

from loky import ProcessPoolExecutor
from loky.backend.queues import Full, SimpleQueue
from loky.process_executor import _SafeQueue

from dspex.pools.shipping import is_small

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspex.pools.zygote import Recorder


class _Calls(_SafeQueue):  # type: ignore[misc]  # loky is untyped
    """What goes to the worker."""

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        if item is not None and not is_small(item.args):
            super().put(item, block, timeout)
            return
        if not self._sem.acquire(block, timeout):
            raise Full
        with contextlib.suppress(BrokenPipeError):  # a dead worker is noticed elsewhere
            _write(self, item)


class _Answers(SimpleQueue):  # type: ignore[misc]  # loky is untyped
    """What comes back."""

    def put(self, item: Any) -> None:
        _write(self, item)


def _write(queue: Any, item: Any) -> None:
    data = pickle.dumps(item)
    with queue._wlock or contextlib.nullcontext():  # noqa: SLF001  # Windows' pipes need no lock
        queue._writer.send_bytes(data)  # noqa: SLF001  # what this class is for


class OneWorkerExecutor(ProcessPoolExecutor):  # type: ignore[misc]  # loky is untyped
    """An executor of one process, which is started at once.

    Parameters
    ----------
    context
        Makes the process.
    enter, plan
        Called in it first.
    env
        Variables for it; a zygote's children have the zygote's instead.
    """

    def __init__(
        self, context: Recorder, enter: Callable[[Any], None], plan: object, env: dict[str, str]
    ) -> None:
        super().__init__(1, context=context, initializer=enter, initargs=(plan,), env=env)

    def _setup_queues(self, job_reducers: Any, result_reducers: Any, queue_size: int | None = None) -> None:
        super()._setup_queues(job_reducers, result_reducers, queue_size)
        self._call_queue.__class__ = _Calls
        self._result_queue.__class__ = _Answers

    def seal(self) -> None:
        """Close this process's copies of the worker's pipe ends, once it has them.

        With them open, a worker that dies in the middle of a long message leaves loky's threads waiting for the
        rest of it for ever.
        """
        self._result_queue._writer.close()  # noqa: SLF001  # loky offers no other way
        self._call_queue._reader.close()  # noqa: SLF001  # as above
