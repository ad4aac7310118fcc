"""Pools as a joblib backend: `joblib.Parallel` and scikit-learn run in workers that may die without harm.

::

    with joblib.parallel_config(backend="dspex", pool="general"):
        GridSearchCV(...).fit(x, y)

This room imports joblib; `offer` has joblib know of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from joblib._parallel_backends import (
    AutoBatchingMixin,
    FallbackToBackend,
    ParallelBackendBase,
    SequentialBackend,
)

from dspex.errors import DefinitionError
from dspex.pools import named
from dspex.pools.parcels import Shelf

if TYPE_CHECKING:
    from collections.abc import Callable

    from dspex.pools.task import TaskFuture


class DspexBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]  # joblib is untyped
    """Runs joblib's batches in a pool.

    Parameters
    ----------
    pool
        The pool's name.
    """

    supports_retrieve_callback = True
    default_n_jobs = -1

    def __init__(self, pool: str = "general", **options: Any) -> None:
        super().__init__(**options)
        self.pool = pool
        self._futures: set[TaskFuture] = set()
        self._shelf = Shelf()

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Say how many batches run at once: no more than the pool has workers."""
        if n_jobs == 0:
            raise DefinitionError("n_jobs must not be 0", hint="n_jobs=-1 takes every worker")
        workers = named.get(self.pool).workers
        if n_jobs is None:
            return 1
        return min(n_jobs, workers) if n_jobs > 0 else max(workers + 1 + n_jobs, 1)

    def configure(self, n_jobs: int = 1, parallel: Any = None, **_: Any) -> int:
        """Begin; one batch at a time needs no pool."""
        self.parallel = parallel
        n_jobs = self.effective_n_jobs(n_jobs)
        if n_jobs == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        return n_jobs

    def submit(self, func: Callable[[], Any], callback: Callable[[Any], Any] | None = None) -> TaskFuture:
        """Give a batch to the pool; joblib itself sees to it that they are not too many."""
        with self._shelf.open():
            future: TaskFuture = named.get(self.pool).submit_exempt(_run, func)
        self._futures.add(future)
        future.add_done_callback(self._futures.discard)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, out: TaskFuture) -> Any:
        """Return what a batch gave."""
        return out.result()

    def get_nested_backend(self) -> tuple[Any, int | None]:
        """Have parallel calls within a worker run one after the other: it has no workers of its own."""
        return SequentialBackend(nesting_level=(self.nesting_level or 0) + 1), None

    def abort_everything(self, ensure_ready: bool = True) -> None:  # noqa: ARG002  # it always is
        """Stop what is left of this call, and nothing else that runs in the pool."""
        for future in list(self._futures):
            future.stop()

    def stop_call(self) -> None:
        """Forget which arrays are shared: until the next call they may be changed."""
        self._shelf.clear()

    def terminate(self) -> None:
        """Forget how long batches took."""
        self.reset_batch_stats()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_futures": set(), "parallel": None, "_shelf": Shelf()}


def _run(batch: Callable[[], Any]) -> Any:
    return batch()
