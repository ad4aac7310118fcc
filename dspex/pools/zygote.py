"""Zygotes: a warm process a pool, from which its workers are forked in milliseconds.

A zygote is the standard library's fork server with modules imported and frozen. Workers share its memory until
they write to it. Where this is not safe or does not work, workers begin from nothing, as loky's do.
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import threading
from multiprocessing import connection, spawn, util
from multiprocessing.context import reduction, set_spawning_popen  # type: ignore[attr-defined]  # not in the stubs
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loky.backend.context import LokyContext
from loky.backend.process import LokyProcess

from dspex.errors import PoolError
from dspex.pools import boot

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

if sys.platform != "win32":
    from multiprocessing import forkserver, popen_forkserver

_PATIENCE_S = 60.0
_environ_lock = threading.Lock()


def is_safe() -> bool:
    """Whether forking a warm process is safe here: on Linux; macOS' libraries do not survive it."""
    return sys.platform.startswith("linux")


class Zygote:
    """A warm process that workers are forked from; it is started when the first worker is.

    Parameters
    ----------
    preload
        Modules to import.
    env
        Environment variables to set before that.
    """

    def __init__(self, preload: Sequence[str], env: Mapping[str, str]) -> None:
        self._preload = tuple(preload)
        self._env = dict(env)
        self._server = forkserver.ForkServer()
        self._server.set_forkserver_preload(["dspex.pools.boot"])

    @property
    def pid(self) -> int | None:
        """Its process, once there is one."""
        pid: int | None = self._server._forkserver_pid  # type: ignore[attr-defined]  # noqa: SLF001  # not in the stubs
        return pid

    def ensure_running(self) -> None:
        """Start it, or start it again if it died."""
        _complete_main()
        plan = json.dumps(
            {
                "preload": self._preload,
                "env": self._env,
                "path": [each or str(Path.cwd()) for each in sys.path],
            }
        )
        with _environ_lock:
            os.environ[boot.PLAN] = plan
            try:
                self._server.ensure_running()
            finally:
                del os.environ[boot.PLAN]

    def fork(self, fds: list[int]) -> tuple[int, int]:
        """Ask for a new process; returns the pipe that tells its pid and exit code, and the one for its work."""
        self.ensure_running()
        return self._server.connect_to_new_process(fds)

    def close(self) -> None:
        """Let it end; workers that still live keep it until they end."""
        pid = self.pid
        if pid is None:
            return
        try:
            os.kill(pid, signal.SIGKILL)  # a child of ours that nobody else reaps: the pid is still its own
            self._server._stop()  # type: ignore[attr-defined]  # noqa: SLF001  # there is no other way
        except (OSError, ChildProcessError):
            return


class Recorder(LokyContext):  # type: ignore[misc]  # loky is untyped
    """A context that remembers the one process it made; without a zygote, loky starts it."""

    def __init__(self, zygote: Zygote | None) -> None:
        super().__init__()
        self._zygote = zygote
        self.process: BaseProcess | None = None

    def Process(self, *, target: Callable[..., Any], args: tuple[Any, ...], env: Any = None) -> BaseProcess:  # noqa: N802  # multiprocessing's name
        """Make the process."""
        if self._zygote is None:
            self.process = LokyProcess(target=target, args=args, env=env)
        else:
            self.process = _ForkedProcess(self._zygote, target=target, args=args)
        return self.process


class _ForkedProcess(BaseProcess):
    _start_method = None

    def __init__(self, zygote: Zygote, **options: Any) -> None:
        super().__init__(**options)
        self._zygote = zygote

    @staticmethod
    def _Popen(process: Any) -> Any:  # noqa: N802  # multiprocessing's name
        zygote = vars(process).pop("_zygote")  # it stays here: the rest of the process object travels
        return _Popen(process, zygote)


def _complete_main() -> None:
    """Give ``__main__`` what multiprocessing asks it for; a module that a shell made up may lack it."""
    main = sys.modules["__main__"]
    if not hasattr(main, "__spec__"):
        main.__spec__ = None


def _close_all(*fds: int) -> None:
    for fd in fds:
        os.close(fd)


if sys.platform != "win32":

    class _Popen(popen_forkserver.Popen):
        """The standard fork server's `Popen`, with a server of one's own and no `__main__` in the child."""

        def __init__(self, process: Any, zygote: Zygote) -> None:
            self._fds: list[int]
            self._zygote = zygote
            self._polling = threading.Lock()
            super().__init__(process)

        def _launch(self, process: Any) -> None:
            _complete_main()
            preparation = spawn.get_preparation_data(process._name)  # noqa: SLF001  # as the standard library
            for name in ("init_main_from_path", "init_main_from_name"):
                preparation.pop(name, None)
            buffer = io.BytesIO()
            set_spawning_popen(self)
            try:
                reduction.dump(preparation, buffer)
                reduction.dump(process, buffer)
            finally:
                set_spawning_popen(None)
            self.sentinel, work = self._zygote.fork(self._fds)
            kept = os.dup(work)
            self.finalizer = util.Finalize(self, _close_all, (kept, self.sentinel))
            with open(work, "wb", closefd=True) as file:  # noqa: PTH123  # a descriptor
                file.write(buffer.getbuffer())
            if not connection.wait([self.sentinel], _PATIENCE_S):
                raise PoolError(f"the zygote did not answer within {_PATIENCE_S:.0f} s")
            try:
                self.pid = forkserver.read_signed(self.sentinel)
            except EOFError as error:
                raise PoolError("the zygote died while a worker was started") from error

        def poll(self, flag: int = os.WNOHANG) -> int | None:
            # loky's threads and the supervisor all ask; the exit code can be read from the pipe only once.
            if self.returncode is None and flag != os.WNOHANG:
                connection.wait([self.sentinel])
            with self._polling:
                return super().poll(os.WNOHANG)
