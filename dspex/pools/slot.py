"""A slot: one worker's life, from its start to its end, as a loky executor of one process."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import signal
import time
from collections import deque
from multiprocessing import Pipe
from typing import TYPE_CHECKING, Any

from dspex.pools import limits, worker
from dspex.pools.shipping import Known

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

    from dspex.pools.board import Board
    from dspex.pools.spec import PoolSpec
    from dspex.pools.task import Task
    from dspex.pools.zygote import Zygote

_EXIT_PATIENCE_S = 0.5


class Slot:
    """One worker. It is never restarted: a new one takes its place.

    Parameters
    ----------
    pool
        The pool's name.
    name
        The worker's, as users see it.
    record
        Its place on the board.
    """

    def __init__(self, pool: str, name: str, record: int, spec: PoolSpec, board: Board) -> None:
        self.pool = pool
        self.name = name
        self.record = record
        self.state = "starting"
        self.inflight: deque[tuple[Task, Future[Any]]] = deque()
        self.functions: Known[bool] = Known()
        self.sessions: set[str] = set()
        self.environment = ""
        self.began_at = time.monotonic()
        self.idle_since = self.began_at
        self.tasks = 0
        self.received = 0
        """Messages that came over its line."""
        self.parked: list[tuple[int, Task, Callable[[], None]]] = []
        """Answers that wait for messages that belong before them."""
        self.held_mib = 0.0
        self.peak_mib = 0.0
        self.killed_for: str | None = None
        self.replaces: Slot | None = None
        self.due: str | None = None
        """Why it is to be replaced."""
        self.was_ready = False
        self.is_gone = False
        """Whether its process has ended."""
        self.is_silent = False
        """Whether its line has."""
        self.suspect_since: float | None = None
        self.suspect_cpu_s = 0.0
        self.error: BaseException | None = None
        self.process: BaseProcess | None = None
        self.line: Connection | None = None
        self._spec = spec
        self._board = board
        self._executor: Any = None
        self._lifeline: Connection | None = None
        self._pidfd: int | None = None
        self._psutil: Any = None

    def __repr__(self) -> str:
        return f"<worker {self.name}: {self.state}, {self.tasks} tasks>"

    # ── life ────────────────────────────────────────────────────────────────────────────────────

    def start(self, zygote: Zygote | None, environment: str) -> Future[Any]:
        """Start the process; the returned future is done once the worker can work."""
        import psutil

        from dspex.pools.executor import OneWorkerExecutor
        from dspex.pools.zygote import Recorder

        self.environment = environment
        context = Recorder(zygote)
        here, there = Pipe()
        ends, self._lifeline = Pipe(duplex=False)
        plan = worker.Plan(
            self.pool,
            self.name,
            self.record,
            self._board.path,
            environment,
            self._spec.memory_mib if self._spec.device == "cpu" else None,
            self._spec.beat_s,
            logging.getLogger().getEffectiveLevel(),
            there,
            ends,
        )
        try:
            self._executor = OneWorkerExecutor(
                context, worker.enter, plan, dict(limits.environment(self._spec))
            )
            greeting: Future[Any] = self._executor.submit(worker.hello)
        finally:
            there.close()
            ends.close()
        self.process = context.process
        assert self.process is not None
        self._executor.seal()
        if hasattr(os, "pidfd_open"):
            with contextlib.suppress(OSError):
                self._pidfd = os.pidfd_open(self.process.pid or 0)
        with contextlib.suppress(psutil.Error):
            self._psutil = psutil.Process(self.process.pid)
        self.line = here
        return greeting

    def kill(self, reason: str | None = None) -> None:
        """End the process at once. It is named by a descriptor, so that a reused pid is never hit."""
        if reason is not None and self.killed_for is None:
            self.killed_for = reason
        if self.process is None:
            return
        for child in self._children():
            with contextlib.suppress(Exception):
                child.kill()
        with contextlib.suppress(ProcessLookupError, OSError):
            if self._pidfd is not None:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            elif self._psutil is not None:
                self._psutil.kill()  # it compares the process's start time first

    def _children(self) -> list[Any]:
        """Find what the worker's tasks started."""
        try:
            return self._psutil.children(recursive=True) if self._psutil is not None else []
        except Exception:  # noqa: BLE001  # psutil's errors: the process is gone already
            return []

    def close(self) -> int | None:
        """Let go of everything, once the process is dead; returns its exit code."""
        exit_code = self._exit_code()
        executor = self.let_go()
        if executor is not None:
            executor.shutdown(wait=False, kill_workers=True)
        return exit_code

    def _exit_code(self) -> int | None:
        """Read the exit code; loky's thread may be about to, and then only it gets to know."""
        until = time.monotonic() + _EXIT_PATIENCE_S
        while self.process is not None and time.monotonic() < until:
            code = self.process.exitcode
            if code is not None:
                return code
            time.sleep(0.001)
        return None

    def let_go(self) -> Any:
        """Close what is ours; returns the executor, which has threads to wait for."""
        for connection in (self.line, self._lifeline):
            if connection is not None:
                connection.close()
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None
        self.state = "dead"
        return self._executor

    # ── work ────────────────────────────────────────────────────────────────────────────────────

    def send(self, task: Task, environment: str, max_result: int) -> Future[Any]:
        """Give the worker a task, with what it needs for it and has not got yet."""
        is_known = self.functions.use(task.function.digest, True)
        session = task.session
        given = None
        if session is not None:
            factory = (
                None if session.key in self.sessions else session.shipped_factory(again=session.lost > 0)
            )
            given = (session.key, factory)
        order = (
            task.number,
            task.function.digest,
            None if is_known else task.function.data,
            task.arguments.data,
            task.arguments.paths,
            given,
            task.correlation,
            None if environment == self.environment else environment,
            task.stream is not None,
            max_result,
        )
        future: Future[Any] = self._executor.submit(worker.run, *order)
        self.environment = environment
        if session is not None:
            self.sessions.add(session.key)
        self.inflight.append((task, future))
        return future

    def task(self, number: int) -> Task | None:
        """Find a task of this worker's that is not over."""
        tasks = [*(task for task, _ in self.inflight), *(task for _, task, _ in self.parked)]
        return next((task for task in tasks if task.number == number), None)

    def tell(self, what: str, value: Any) -> None:
        """Send the worker a request; if it is gone, nobody needs it."""
        if self.line is not None:
            with contextlib.suppress(OSError, ValueError):
                self.line.send_bytes(pickle.dumps((what, value)))

    @property
    def pid(self) -> int | None:
        """Its process."""
        return None if self.process is None else self.process.pid

    @property
    def is_open(self) -> bool:
        """Whether it can be given work at once."""
        return self.state == "ready" and not self.inflight

    def measure(self) -> float:
        """Look up how much memory it holds, in MiB."""
        if self._psutil is not None:
            with contextlib.suppress(Exception):  # the process may be gone
                self.held_mib = limits.held_mib(self._psutil)
                self.peak_mib = max(self.peak_mib, self.held_mib)
        return self.held_mib

    def cpu_s(self) -> float:
        """Look up how much processor time it has used."""
        try:
            times = self._psutil.cpu_times()
        except Exception:  # noqa: BLE001  # the process may be gone
            return self.suspect_cpu_s
        return float(times.user + times.system)
