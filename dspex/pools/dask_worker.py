"""The inside of a dask worker: what a pool keeps there, how a task runs, is told to stop, and answers.

All that goes home goes one way and in order, as events on the pool's own topic: prints, chunks, and the reply.
What is large is fetched from here instead, as the scheduler keeps the last thousand events.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import pickle
import threading
import time
import uuid
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

from dspex.events import correlation_id
from dspex.pools import dask_output, limits
from dspex.pools.shipping import Known, pack_error, pack_within, unpack
from dspex.pools.task import is_inside, notes
from dspex.pools.worker import Reply, Stopped

if TYPE_CHECKING:
    from distributed import Worker

    from dspex.pools.output import Stream

_CREDIT = 100
_LARGE = 1 << 14
"""Bytes. More do not go through an event."""
_NONE = object()


class DaskOrder(NamedTuple):
    """A task, as a dask worker gets it; its arguments go beside it, as they may be large."""

    topic: str
    guest: str
    """Whom it is for. The same address may be another process by now, which must not run it."""
    number: int
    digest: bytes
    function: bytes
    session: tuple[str, bytes | None] | None
    """A session's name, and its factory if this worker has not got the session yet."""
    correlation: str | None
    is_stream: bool
    limit: int
    """Bytes that a result may have."""


class Running:
    """A task that runs: the thread it runs on, and whether it may be interrupted."""

    def __init__(self, guest: Guest, number: int) -> None:
        self.number = number
        self.outputs = dask_output.for_task(self._say)
        self._guest = guest
        self._thread = threading.get_ident()
        self._lock = threading.Lock()
        self._is_armed = False
        self._is_asked = False
        self._credit = threading.Condition()
        self._taken = 0

    def arm(self) -> None:
        """Let it be interrupted from now on; raises if it was asked to stop already."""
        with self._lock:
            self._is_armed = True
        if self._is_asked:
            self.disarm()
            raise Stopped

    def disarm(self) -> None:
        """Let it be interrupted no more; an interrupt that is on its way is called back."""
        with self._lock:
            if self._is_armed:
                self._is_armed = False
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread), None)

    def stop(self) -> None:
        """Interrupt it, at the next step of its Python code."""
        with self._lock:
            if not self._is_asked and self._is_armed:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(self._thread), ctypes.py_object(Stopped)
                )
            self._is_asked = True
        with self._credit:
            self._credit.notify()

    def credit(self, taken: int) -> None:
        """Note how many of its chunks were read."""
        with self._credit:
            self._taken = taken
            self._credit.notify()

    def wait_for_credit(self, number: int) -> None:
        """Wait until the reader of a stream is close enough."""
        with self._credit:
            self._credit.wait_for(lambda: number - self._taken < _CREDIT or self._is_asked)

    def send(self, kind: str, *content: Any) -> bool:
        """Send a message home."""
        self._guest.send(kind, self.number, *content)
        return True

    def _say(self, stream: Stream, text: str) -> bool:
        return self.send("output", stream, text)


current: ContextVar[Running | None] = ContextVar("dspex_dask_running", default=None)


class Guest:
    """What one pool keeps in a dask worker: functions, the states of sessions, and the tasks that run."""

    def __init__(self, host: Worker, topic: str) -> None:
        self.name = uuid.uuid4().hex
        self._host = host
        self._topic = topic
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._building = threading.RLock()
        self._functions: Known[Any] = Known()
        self._states: dict[str, Any] = {}
        self._factories: dict[str, bytes] = {}
        self._notes: dict[str, dict[Any, Any]] = {}
        self._running: dict[int, Running] = {}
        self._stops: set[int] = set()
        self._parcels: dict[str, bytes] = {}

    # ── what it is asked ────────────────────────────────────────────────────────────────────────

    def stop(self, number: int) -> None:
        """Interrupt a task; one that is on its way does not begin."""
        self._stops.add(number)
        if number in self._running:
            self._running[number].stop()

    def stop_all(self) -> None:
        """Interrupt every task."""
        for number in list(self._running):
            self.stop(number)

    def credit(self, number: int, taken: int) -> None:
        """Let a streaming task go on."""
        if number in self._running:
            self._running[number].credit(taken)

    def forget(self, session: str) -> None:
        """Forget a session."""
        for kept in (self._states, self._factories, self._notes):
            kept.pop(session, None)

    def fetch(self, parcel: str) -> bytes:
        """Hand out what was too large for an event."""
        return self._parcels.pop(parcel)

    # ── what it says ────────────────────────────────────────────────────────────────────────────

    def send(self, kind: str, number: int, *content: Any) -> None:
        """Send a message home, or, if it is large, a note that it lies here."""
        data = pickle.dumps((kind, number, *content))
        if len(data) > _LARGE:
            parcel = uuid.uuid4().hex
            self._parcels[parcel] = data
            data = pickle.dumps(("parcel", number, parcel))
        self._host.log_event(self._topic, {"guest": self.name, "message": data})

    # ── a task ──────────────────────────────────────────────────────────────────────────────────

    def run(self, order: DaskOrder, arguments: bytes) -> None:
        """Run a task and send its reply; whatever happens in it becomes the reply."""
        running = self._running[order.number] = Running(self, order.number)
        if order.number in self._stops:
            running.stop()
        began = time.perf_counter()
        tokens: tuple[tuple[ContextVar[Any], Any], ...] = (
            (current, current.set(running)),
            (is_inside, is_inside.set(True)),
            (correlation_id, correlation_id.set(order.correlation)),
            (notes, notes.set(None if order.session is None else self._noted(order.session[0]))),
        )
        try:
            status, content = self._outcome(running, order, arguments)
        except Stopped:
            status, content = "stopped", b""
        if os.getpid() != self._pid:
            os._exit(0)  # the task forked, and this is the copy: the answer is the original's to give
        for variable, token in tokens:
            variable.reset(token)
        for output in running.outputs.values():
            output.flush()
        del self._running[order.number]
        self._stops.discard(order.number)
        peak = limits.peak_mib() if status == "memory" else 0
        reply = Reply(status, content, 0, time.perf_counter() - began, peak)
        self.send("reply", order.number, tuple(reply), _held_mib())

    def _noted(self, session: str) -> dict[Any, Any]:
        return self._notes.setdefault(session, {})

    def _outcome(self, running: Running, order: DaskOrder, arguments: bytes) -> tuple[str, bytes]:
        try:
            try:
                running.arm()
                return "done", pack_within(self._call(running, order, arguments), order.limit)
            finally:
                running.disarm()
        except Stopped:
            raise
        except BaseException as error:  # noqa: BLE001  # what ends a task is its answer, not the worker's end
            if not limits.is_out_of_memory(error):
                return "failed", pack_error(error)
            error.__traceback__ = None  # the frames hold what was too much
            error.__context__ = None
            gc.collect()
            return "memory", str(error).encode()

    def _call(self, running: Running, order: DaskOrder, arguments: bytes) -> Any:
        function = self._function(order)
        args, kwargs = unpack(arguments)
        if order.session is not None and (state := self._state(*order.session)) is not _NONE:
            args = (state, *args)
        if not order.is_stream:
            return function(*args, **kwargs)
        for number, chunk in enumerate(function(*args, **kwargs)):
            running.wait_for_credit(number)
            running.send("chunk", pack_within(chunk, order.limit))
        return None

    def _function(self, order: DaskOrder) -> Any:
        """Read a function once; its next calls find it as the last one left it, as in any process."""
        with self._lock:
            self._functions.use(order.digest, order.function)
            found = self._functions[order.digest]
        if isinstance(found, bytes):
            found = unpack(found)
            with self._lock:
                self._functions[order.digest] = found
        return found

    def _state(self, name: str, factory: bytes | None) -> Any:
        if factory is not None:
            self._factories[name] = factory
        with self._building:
            if name not in self._states and name in self._factories:
                self._states[name] = unpack(self._factories[name])()
        return self._states.get(name, _NONE)


# ── what is called ──────────────────────────────────────────────────────────────────────────────

_guests: dict[str, Guest] = {}
_environment: set[str] = set()


def join(topic: str, log_level: int, dask_worker: Worker) -> tuple[str, int]:
    """Make room for a pool in this worker; returns what its guest is called, and the process."""
    dask_output.route(current, log_level)
    guest = _guests.get(topic)
    if guest is None:
        guest = _guests[topic] = Guest(dask_worker, topic)
    return guest.name, os.getpid()


def tell(topic: str, what: str, *values: Any) -> Any:
    """Pass a request on to a pool's guest; if it is gone, nobody needs it."""
    guest = _guests.get(topic)
    return None if guest is None else getattr(guest, what)(*values)


def leave(topic: str) -> None:
    """Stop what runs for a pool, and forget it."""
    guest = _guests.pop(topic, None)
    if guest is not None:
        guest.stop_all()
    if not _guests:
        dask_output.restore()


def see(environment: str) -> None:
    """Have variables of the kernel's environment here, and those that are gone there gone here too.

    They come as JSON and by themselves, so that a key of an API never stands in a task.
    """
    wanted = json.loads(environment)
    for name in _environment - set(wanted):
        os.environ.pop(name, None)
    _environment.clear()
    _environment.update(wanted)
    os.environ.update(wanted)


def preload(modules: tuple[str, ...]) -> None:
    """Import what tasks will need."""
    import importlib

    for module in modules:
        importlib.import_module(module)


def run(order: bytes, arguments: bytes) -> None:
    """Run a task; what dask calls. Bytes alone, as dask takes a tuple of text and numbers for one of its own keys."""
    read = DaskOrder(*pickle.loads(order))  # noqa: S301  # from our own kernel
    guest = _guests.get(read.topic)
    if guest is not None and guest.name == read.guest:
        guest.run(read, arguments)


def _held_mib() -> float:
    import psutil

    return limits.held_mib(psutil.Process())
