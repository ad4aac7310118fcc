"""The sandbox over HTTP: an OpenAI-compatible server, for tests, notebooks, and other tools."""

from __future__ import annotations

import importlib.util
import socket
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, Union

from dspex.errors import DefinitionError, ExecutionError

if TYPE_CHECKING:
    import asyncio
    from types import TracebackType

    from dspex.sandbox.serving.app import Call, Desk
    from dspex.sandbox.serving.mishaps import Plan

Faults = Union["Plan", "Path", str, Sequence[Mapping[str, Any]], None]  # evaluated at run time
"""What shall go wrong: a plan, the TOML file of one, or mappings as in its ``[[fault]]`` tables."""
_START_S = 30.0


class Server:
    """A running server; close it, or use it as a context manager.

    It runs in a thread of its own and answers as the simulated models do. `serve` starts it.
    """

    def __init__(self, desk: Desk, *, host: str, port: int) -> None:
        self._desk = desk
        self._socket = _listen(host, port)
        self.host, self.port = self._socket.getsockname()[:2]
        self._running = _uvicorn(desk)
        self._thread = threading.Thread(target=self._run, name="dspex-sandbox-server", daemon=True)

    def __repr__(self) -> str:
        return f"<sandbox server at {self.url}, {len(self._desk.calls)} calls>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """What clients call ``base_url`` or ``api_base``."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/v1"

    @property
    def calls(self) -> list[Call]:
        """Every request for a completion so far."""
        return list(self._desk.calls)

    def set_faults(self, faults: Faults) -> None:
        """Let other things go wrong from now on; calls and seconds are counted anew."""
        self._desk.follow(_plan(faults))

    def start(self) -> Self:
        """Start, and return when it listens."""
        self._thread.start()
        if not self._running.is_ready.wait(_START_S):
            raise ExecutionError(f"the sandbox server did not start within {_START_S:g} s")
        return self

    def run(self) -> None:
        """Serve in this thread until it is interrupted."""
        self._running.run(sockets=[self._socket])

    def close(self) -> None:
        """Stop; answers that are under way are cut off."""
        self._running.should_exit = True
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        try:
            self.run()
        finally:
            # A server that could not start must not be waited for.
            self._running.is_ready.set()


def serve(
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    faults: Faults = None,
    api_key: str | None = None,
    seed: int = 0,
    pace: float = 0.0,
) -> Server:
    """Serve the simulated models as OpenAI would, and return when the server listens.

    Parameters
    ----------
    host
        Where to listen; the default is this machine only.
    port
        0 for one that is free.
    faults
        What shall go wrong: a TOML file, or a list of mappings as in its ``[[fault]]`` tables.
        Its names and values are those of `dspex.sandbox.serving.mishaps.Mishap`.
    api_key
        The only key that is taken; None if any is.
    seed
        Another seed is another model with the same chances.
    pace
        The share of a simulated answer's latency that is really waited for.

    Raises
    ------
    DataError
        If the faults cannot be read.
    DefinitionError
        If the server's libraries are not installed, or the address is not free.

    Examples
    --------
    >>> with serve(faults=[{"kind": "rate_limit", "share": 0.1}]) as server:
    ...     server.calls
    []
    """
    return server(host=host, port=port, faults=faults, api_key=api_key, seed=seed, pace=pace).start()


def server(
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    faults: Faults = None,
    api_key: str | None = None,
    seed: int = 0,
    pace: float = 0.0,
) -> Server:
    """Make a server that does not run yet; takes what `serve` does."""
    missing = [name for name in ("starlette", "uvicorn") if importlib.util.find_spec(name) is None]
    if missing:
        raise DefinitionError(
            f"the sandbox server needs {', '.join(missing)}", hint="pip install 'dspex[serve]'"
        )
    if not pace >= 0:
        raise DefinitionError(
            f"pace must be 0 or more, got {pace}", hint="1 waits as long as the model would"
        )
    from dspex.sandbox.serving.app import Desk

    return Server(Desk(api_key, seed, pace, _plan(faults)), host=host, port=port)


def _plan(faults: Faults) -> Plan:
    from dspex.sandbox.serving.mishaps import Plan

    if isinstance(faults, Plan):
        return faults
    if isinstance(faults, str | Path):
        return Plan.read(Path(faults))
    return Plan.of(faults or [])


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except (OSError, OverflowError) as error:
        listening.close()
        raise DefinitionError(
            f"cannot listen on {host}:{port}: {error}", hint="port=0 takes one that is free"
        ) from error
    return listening


def _uvicorn(desk: Desk) -> Any:
    import uvicorn
    from uvicorn.protocols.http.h11_impl import H11Protocol

    from dspex.sandbox.serving.app import application

    class Protocol(H11Protocol):
        """Hands the connection to the routes, which may reset it."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
            super().connection_made(transport)
            connection = transport.get_extra_info("socket")
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.app_state = {**self.app_state, "transport": transport}

    class Running(uvicorn.Server):
        """Says when it listens, and lets go of whoever hangs when it ends."""

        def __init__(self, config: uvicorn.Config) -> None:
            super().__init__(config)
            self.is_ready = threading.Event()

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            self.is_ready.set()

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            desk.closing.set()
            await super().shutdown(sockets)

    config = uvicorn.Config(
        application(desk),
        http=Protocol,
        lifespan="off",
        log_level="critical",
        access_log=False,
        timeout_keep_alive=60,
        timeout_graceful_shutdown=1,
        server_header=False,
    )
    return Running(config)
