"""The inside of a worker: how it begins, runs a task, is told to stop, and ends with its kernel."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` without its enumerations, which cost more than a task
import gc
import json
import os
import pickle
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from dspex.events import correlation_id
from dspex.pools import devices, limits, parcels
from dspex.pools.board import Board
from dspex.pools.parcels import Parcel
from dspex.pools.shipping import Known, pack_error, pack_within, unpack
from dspex.pools.task import is_inside, notes

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from types import FrameType

    from dspex.pools.devices import Placement
    from dspex.pools.output import Routed, Stream

_SIGINT, _IGNORE = int(signal.SIGINT), int(signal.SIG_IGN)
_SOFT = int(signal.SIGUSR1) if hasattr(signal, "SIGUSR1") else None
_CREDIT = 100


class Plan(NamedTuple):
    """What a worker is told when it begins."""

    pool: str
    name: str
    record: int
    board: str
    environment: str
    """JSON, so that a key of an API never stands in a pickle."""
    memory_mib: int | None
    beat_s: float
    log_level: int
    line: Connection
    """Both ways: prints, logs and chunks go out, requests to stop come in."""
    lifeline: Connection
    """Never written to. It ends when the kernel does, however that happens."""
    device: Placement | None = None


class Order(NamedTuple):
    """A task, as a worker gets it."""

    number: int
    digest: bytes
    function: bytes | None
    """None if this worker has it already."""
    arguments: bytes
    paths: tuple[str, ...]
    """Where the arguments' large buffers lie."""
    session: tuple[str, bytes | None] | None
    """A session's name, and its factory if this worker has not got the session yet."""
    correlation: str | None
    environment: str | None
    """JSON, if it changed."""
    is_stream: bool
    limit: int
    """Bytes that a result may have."""


class Reply(NamedTuple):
    """What a worker answers."""

    status: str
    """``done``, ``failed``, ``stopped``, ``memory``, or ``device memory``."""
    content: bytes
    sent: int
    """How many messages it had put on the line, all of which belong before the answer."""
    seconds: float
    peak_mib: int = 0
    paths: tuple[str, ...] = ()
    """Where the content's large buffers lie; they are the reader's from now on."""


class Stopped(BaseException):  # no error: a request, which no `except Exception` must swallow
    """Raised inside a task that was told to stop."""


class Worker:
    """The one worker that this process is."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.pid = os.getpid()
        self.board = Board.open(plan.board)
        self.functions: Known[Any] = Known()
        self.sessions: dict[str, Any] = {}
        self.factories: dict[str, bytes] = {}
        self.current = 0
        self.notes: dict[str, dict[Any, Any]] = {}
        self._handler = self._on_stop
        self._armed = False
        self._stops: set[int] = set()
        self._sent = 0
        self._done = 0
        self._line_lock = threading.Lock()
        self._outputs: tuple[Routed, ...] = ()
        self._credit = threading.Condition()
        self._taken = 0
        self._main = threading.main_thread().ident
        self._results = parcels.results_of(plan.board, self.pid)

    # ── beginning ───────────────────────────────────────────────────────────────────────────────

    def begin(self) -> None:
        """Make this process a worker."""
        self.see(self.plan.environment)
        if self.plan.device is not None:
            devices.limit(self.plan.device)
        self.mind_signals()
        _die_with(self.plan.lifeline)
        if self.plan.memory_mib is not None:
            limits.limit_memory(self.plan.memory_mib)
        _reseed()
        self._route_output()
        threading.Thread(target=self._listen, name="dspex-worker", daemon=True).start()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_follow_parent)

    def see(self, environment: str) -> None:
        """Make the environment what it is in the kernel."""
        wanted = {**json.loads(environment), **devices.environment(self.plan.device)}
        for name in set(os.environ) - set(wanted):
            del os.environ[name]
        os.environ.update(wanted)

    def mind_signals(self) -> None:
        """Listen to requests to stop, and to nothing else; a task may have changed that."""
        # The terminal sends an interrupt to every process: the kernel decides what it means.
        if _signal.getsignal(_SIGINT) != _IGNORE:
            _signal.signal(_SIGINT, _IGNORE)
        if _SOFT is not None and _signal.getsignal(_SOFT) != self._handler:
            _signal.signal(_SOFT, self._handler)

    def _route_output(self) -> None:
        import logging

        from dspex.pools.output import Forwarding, Routed

        sys.stdout = Routed("stdout", self._say, sys.__stdout__)
        sys.stderr = Routed("stderr", self._say, sys.__stderr__)
        self._outputs = (sys.stdout, sys.stderr)
        root = logging.getLogger()
        root.handlers[:] = [Forwarding(lambda fields: self.send(("log", self.current, fields)))]
        root.setLevel(self.plan.log_level)

    # ── the line ────────────────────────────────────────────────────────────────────────────────

    def send(self, message: tuple[Any, ...]) -> bool:
        """Put a message on the line. A request to stop waits until it is there whole."""
        if os.getpid() != self.pid:
            return False
        if threading.get_ident() != self._main:  # requests to stop are for the main thread alone
            self._put(message)
            return True
        armed, self._armed = self._armed, False
        try:
            self._put(message)
        finally:
            self._armed = armed
        if armed:
            self._stop_if_asked()
        return True

    def _put(self, message: tuple[Any, ...]) -> None:
        with self._line_lock:
            self.plan.line.send_bytes(pickle.dumps(message))
            self._sent += 1

    def _say(self, stream: Stream, text: str) -> bool:
        return self.current != 0 and self.send(("output", self.current, stream, text))

    def _listen(self) -> None:
        """Show that the worker lives, and take what comes in."""
        line, beat_s = self.plan.line, self.plan.beat_s
        try:
            while True:
                self.board.beat(self.plan.record, time.monotonic())
                if line.poll(beat_s):
                    self._obey(*pickle.loads(line.recv_bytes()))  # noqa: S301  # from our own kernel
        except (EOFError, OSError):
            os._exit(0)

    def _obey(self, what: str, value: Any) -> None:
        if what == "stop":
            self._stops.add(value)
            if value == self.current and _SOFT is not None and self._main is not None:
                signal.pthread_kill(self._main, _SOFT)
        elif what == "credit":
            with self._credit:
                number, taken = value
                if number == self.current:
                    self._taken = taken
                    self._credit.notify()
        elif what == "forget":
            for kept in (self.sessions, self.factories, self.notes):
                kept.pop(value, None)

    # ── a task ──────────────────────────────────────────────────────────────────────────────────

    def run(self, order: Order) -> Reply:
        """Run a task; whatever happens in it becomes the answer."""
        self._taken = 0
        self.current = order.number
        self.board.begin(self.plan.record, task=order.number, now=time.monotonic())
        began = time.perf_counter()
        token = correlation_id.set(order.correlation)
        noted = notes.set(None if order.session is None else self.notes.setdefault(order.session[0], {}))
        try:
            status, content = self._outcome(order)
        except Stopped:
            status, content = "stopped", parcels.EMPTY
        self._armed = False
        if os.getpid() != self.pid:
            os._exit(0)  # the task forked, and this is the copy: the answer is the original's to give
        correlation_id.reset(token)
        notes.reset(noted)
        for output in self._outputs:
            output.flush()
        self._stops.discard(self.current)
        self.current = 0
        self.mind_signals()
        self._done += 1
        self.board.end(self.plan.record, self._done)
        paths = tuple(each.hand_over() for each in content.segments)
        seconds = time.perf_counter() - began
        return Reply(status, content.data, self._sent, seconds, _peak_mib(status), paths)

    def _outcome(self, order: Order) -> tuple[str, Parcel]:
        try:
            self.functions.use(order.digest, order.function)
            if order.environment is not None:
                self.see(order.environment)
            self._armed = True
            self._stop_if_asked()
            value = self._call(order)
            if self.plan.device is not None:
                devices.finish()
            content = parcels.wrap_within(value, order.limit, self._results)
            self._armed = False
        except Stopped:
            self._armed = False
            raise
        except BaseException as error:  # noqa: BLE001  # what ends a task is its answer, not the worker's end
            self._armed = False
            status, text = self._failure(error)
            return status, Parcel(text)
        return "done", content

    def _failure(self, error: BaseException) -> tuple[str, bytes]:
        ailment = devices.ailment(error) if self.plan.device is not None else None
        if ailment == "broken":
            self._give_up(error)
        if ailment is None and not limits.is_out_of_memory(error):
            return "failed", pack_error(error)
        text = str(error).encode()
        error.__traceback__ = None  # the frames hold what was too much
        error.__context__ = error.__cause__ = None
        gc.collect()
        return ("memory" if ailment is None else "device memory"), text

    def _give_up(self, error: BaseException) -> NoReturn:
        """End this process, as nothing works on its device any more; the pool tries the task again elsewhere."""
        for output in self._outputs:
            output.flush()
        self.send(("dying", self.current, str(error).partition("\n")[0]))
        os._exit(1)

    def _call(self, order: Order) -> Any:
        function = self._function(order.digest)
        args, kwargs = unpack(order.arguments, parcels.view(order.paths))
        if order.session is not None and (state := self._state(*order.session)) is not _NONE:
            args = (state, *args)
        if not order.is_stream:
            return function(*args, **kwargs)
        for number, chunk in enumerate(function(*args, **kwargs)):
            self._wait_for_credit(number)
            self.send(("chunk", order.number, pack_within(chunk, order.limit)))
        return None

    def _function(self, digest: bytes) -> Any:
        """Read a function once; its next calls find it as the last one left it, as in any process."""
        found = self.functions[digest]
        if isinstance(found, bytes):
            found = self.functions[digest] = unpack(found)
        return found

    def _state(self, name: str, factory: bytes | None) -> Any:
        if factory is not None:
            self.factories[name] = factory
        if name not in self.sessions and name in self.factories:
            self.sessions[name] = unpack(self.factories[name])()
        return self.sessions.get(name, _NONE)

    def _wait_for_credit(self, number: int) -> None:
        with self._credit:
            self._credit.wait_for(lambda: number - self._taken < _CREDIT)

    # ── stopping ────────────────────────────────────────────────────────────────────────────────

    def _on_stop(self, _signal: int, _frame: FrameType | None) -> None:
        if self._armed:
            self._stop_if_asked()

    def _stop_if_asked(self) -> None:
        if self.current in self._stops:
            self._armed = False
            raise Stopped


def _peak_mib(status: str) -> int:
    if status == "device memory":
        return devices.empty_cache()
    return limits.peak_mib() if status == "memory" else 0


_NONE = object()
_worker: Worker | None = None


def enter(plan: Plan) -> None:
    """Make this process a worker; loky's initializer."""
    global _worker  # noqa: PLW0603  # a process is one worker
    _worker = Worker(plan)
    _worker.begin()


def hello() -> int:
    """Say that the worker is there, by its process id."""
    return os.getpid()


def run(*order: Any) -> tuple[Any, ...]:
    """Run a task; what loky calls. Plain tuples, so that nothing but bytes is pickled twice."""
    assert _worker is not None
    return tuple(_worker.run(Order(*order)))


def is_worker() -> bool:
    """Whether this process is a worker of a pool."""
    return _worker is not None or is_inside.get()


def _reseed() -> None:
    """Give this worker random numbers of its own: forked generators would all give the same."""
    import random

    random.seed()
    seed = int.from_bytes(os.urandom(4), "little")
    if (numpy := sys.modules.get("numpy")) is not None:
        numpy.random.seed(seed)
    if (torch := sys.modules.get("torch")) is not None:
        torch.manual_seed(seed)


def _die_with(lifeline: Connection) -> None:
    """Have this process killed when the other end of the lifeline closes, which not even SIGKILL prevents.

    On Linux the system does it, so that a worker that is stopped or deep in C goes too; elsewhere a thread.
    """
    if not _follow(lifeline.fileno()):
        threading.Thread(target=_end_with, args=(lifeline,), name="dspex-lifeline", daemon=True).start()


def _follow(fd: int) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    import fcntl

    fcntl.fcntl(fd, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(fd, _F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_ASYNC)
    return True


_F_SETSIG = 10  # fcntl.F_SETSIG is missing from some builds


def _end_with(lifeline: Connection) -> None:
    try:
        lifeline.recv_bytes()
    except (EOFError, OSError):
        os._exit(0)


def _follow_parent() -> None:
    """In a copy that a task forked: end with the worker, if the system can see to that."""
    if sys.platform.startswith("linux"):
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
