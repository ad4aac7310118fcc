"""A dask cluster: reaching it, checking that it fits, and hearing of its workers."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from dspex.errors import ClusterError, DefinitionError, NotSupportedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from distributed import Client

_log = logging.getLogger("dspex.pools")
Change = Literal["came", "retired", "lost", "full"]
"""What can happen to a worker; ``full`` is its nanny ending it for the memory it holds, before it is lost."""
Watcher = Callable[[Change, str], None]
_TOPICS = ("all", "worker-restart-memory")
_PATIENCE_S = 10.0
_SAME = ("python", "dspex", "cloudpickle", "distributed")
"""What must be the same everywhere, to the second number of its version: code and calls travel written by them."""
_DEEP = 2


class Home(NamedTuple):
    """A worker of the cluster, as its scheduler describes it."""

    address: str
    name: str
    threads: int
    memory_mib: int | None
    gpus: int
    has_nanny: bool

    @classmethod
    def of(cls, address: str, described: Mapping[str, Any]) -> Home:
        """Read the scheduler's description."""
        return cls(
            address,
            str(described["name"]),
            int(described["nthreads"]),
            int(described["memory_limit"]) >> 20 if described["memory_limit"] else None,
            int(described["resources"].get("GPU", 0)),
            described["nanny"] is not None,
        )


class Cluster:
    """A connection to a cluster: its own, whatever else its user does with it.

    Parameters
    ----------
    given
        The scheduler's address, or a `distributed.Client` or a cluster object to read it from.
    patience_s
        How long to wait for the scheduler.

    Raises
    ------
    NotSupportedError
        If `distributed` is not installed.
    ClusterError
        If the scheduler does not answer, or the cluster has other versions.
    """

    def __init__(self, given: object, *, patience_s: float = _PATIENCE_S) -> None:
        if importlib.util.find_spec("distributed") is None:
            raise NotSupportedError(
                "pools on a cluster need dask.distributed, which is not installed",
                hint="pip install 'dspex[cluster]'",
            )
        self.address, security = _address_of(given)
        self.client = _connected(self.address, security, patience_s)
        self._watchers: list[Watcher] = []
        try:
            check_versions(self.client.get_versions(packages=["dspex", "dspy"]), self.address)
        except BaseException:  # an interrupt too: nobody else has the client
            self.client.close()
            raise
        for topic, handler in zip(_TOPICS, (self._on_change, self._on_memory), strict=True):
            self.client.subscribe_topic(topic, handler)

    def __repr__(self) -> str:
        return f"<Cluster at {self.address}: {len(self.homes())} workers>"

    @property
    def is_up(self) -> bool:
        """Whether there is a connection."""
        return bool(self.client.status == "running")

    def homes(self) -> list[Home]:
        """Ask the scheduler for its workers."""
        described = self.client.scheduler_info(n_workers=-1)["workers"]
        return sorted(Home.of(address, each) for address, each in described.items())

    # ── hearing of workers ──────────────────────────────────────────────────────────────────────

    def watch(self, watcher: Watcher) -> Callable[[], None]:
        """Call `watcher` with what happens to workers; returns the function that stops it."""
        self._watchers.append(watcher)
        return lambda: self._watchers.remove(watcher)

    def _on_change(self, event: tuple[float, Any]) -> None:
        change = event[1]
        if not isinstance(change, dict) or "worker" not in change:
            return
        if change.get("action") == "add-worker":
            self._pass_on("came", change["worker"])
        elif change.get("action") == "remove-worker":
            self._pass_on("retired" if change.get("expected") else "lost", change["worker"])

    def _on_memory(self, event: tuple[float, Any]) -> None:
        self._pass_on("full", event[1]["worker"])

    def _pass_on(self, what: Change, address: str) -> None:
        for watcher in list(self._watchers):
            watcher(what, address)

    # ── speaking to workers ─────────────────────────────────────────────────────────────────────

    def tell(self, address: str, function: Callable[..., Any], *args: Any) -> Any:
        """Have a worker call a function, beside its tasks, and wait for what it returns."""
        return self.client.run(function, *args, workers=[address])[address]

    def note(self, address: str, function: Callable[..., Any], *args: Any) -> None:
        """Have a worker call a function, and do not wait; if it is gone, nobody needs it."""
        self.soon(self.client.run, function, *args, workers=[address], on_error="ignore", asynchronous=True)

    def restart(self, address: str) -> None:
        """Have a worker's nanny replace it, and do not wait."""
        self.soon(
            self.client.scheduler.restart_workers,
            workers=[address],
            timeout=_PATIENCE_S,
            wait_for_workers=False,
            on_error="return",
            stimulus_id="dspex",
        )

    def soon(self, function: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> None:
        """Do something on the client's own thread, and do not wait; if the cluster is gone, nobody needs it."""

        async def attempt() -> None:
            try:
                await function(*args, **kwargs)
            except Exception as error:  # noqa: BLE001  # whatever it is, the loss of a worker is told elsewhere
                _log.debug("asking %s failed: %r", self.address, error)

        self.client.loop.add_callback(attempt)

    def close(self) -> None:
        """Let go of it; its workers are its own."""
        for topic in _TOPICS:  # or the scheduler would tell this client that it has gone
            self.client.unsubscribe_topic(topic)
        self.client.close()


def _address_of(given: object) -> tuple[str, Any]:
    """Return a scheduler's address, and what it takes to be let in."""
    if isinstance(given, str):
        return given, None
    scheduler = getattr(given, "scheduler", None)
    address = getattr(given, "scheduler_address", None) or getattr(scheduler, "address", None)
    if not isinstance(address, str):
        raise _no_cluster(given)
    return address, getattr(given, "security", None)


def _no_cluster(given: object) -> DefinitionError:
    return DefinitionError(
        f"a cluster is an address or a dask.distributed Client, got {given!r}",
        hint='dx.configure(cluster="tcp://scheduler:8786")',
    )


def _connected(address: str, security: Any, patience_s: float) -> Client:
    from distributed import Client

    client = Client.__new__(Client)  # in hand before it begins, to be ended if it cannot
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about versions, of which `check_versions` knows more
            Client.__init__(
                client, address, security=security, timeout=patience_s, set_as_default=False, name="dspex"
            )
    except ValueError as error:
        raise _no_cluster(address) from error
    except OSError as error:
        raise ClusterError(
            f"the scheduler at {address} did not answer within {patience_s:g} s: {error}",
            hint="is it running, and can this machine reach it? `dask scheduler` prints the address to use",
        ) from error
    finally:
        if client.status != "running":
            _end(client)
    return client


def _end(client: Client) -> None:
    """End a client that could not begin.

    Left alone, its thread would run for ever, and the garbage collector would end the client: in any thread, and
    with a lock that may be held by whoever waits for that thread.
    """
    client.close()
    client._loop_runner.stop()  # noqa: SLF001  # `close` does not, when nobody answered


def check_versions(found: Mapping[str, Any], address: str) -> None:
    """Refuse a cluster whose versions could not read what is sent to it.

    Raises
    ------
    ClusterError
        With every difference.

    Examples
    --------
    >>> ours = {"packages": {"python": "3.12.1", "dspex": "0.1.0"}}
    >>> theirs = {"packages": {"python": "3.11.9", "dspex": None}}
    >>> check_versions({"client": ours, "workers": {"tcp://w:1": theirs}}, "tcp://s:8786")
    Traceback (most recent call last):
    dspex.errors.ClusterError: the cluster at tcp://s:8786 has other versions than this process:
      - python is 3.11.9 on tcp://w:1, and 3.12.1 here
      - dspex is missing on tcp://w:1, and 0.1.0 here
      → install the same on all of them
    """
    ours = found["client"]["packages"]
    failures = [
        f"{name} is {there or 'missing'} on {worker}, and {ours[name]} here"
        for worker, described in found["workers"].items()
        for name in _SAME
        if name in ours and _deep(there := described["packages"].get(name)) != _deep(ours[name])
    ]
    if failures:
        raise ClusterError.of_all(
            f"the cluster at {address} has other versions than this process:",
            failures,
            hint="install the same on all of them",
        )


def _deep(version: str | None) -> list[str]:
    return [] if version is None else version.split(".")[:_DEEP]
