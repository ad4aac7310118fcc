"""What tests have workers do; light, as workers import it."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

from dspex.pools import correlation_id, named, state

TIMEOUT_S = 30


def square(x):
    return x * x


def fail(text):
    raise ValueError(text)


def touch_and_wait(began, gate):
    """Say that the task runs, and end when the file `gate` appears."""
    began.touch()
    deadline = time.monotonic() + TIMEOUT_S
    while not gate.exists() and time.monotonic() < deadline:
        time.sleep(0.002)
    return "through"


def append(path, text):
    with path.open("a") as file:
        file.write(text)


def count_to(n):
    yield from range(n)


def count_then_fail(n):
    yield from range(n)
    raise ValueError("the source ran dry")


def count_slowly(path):
    for k in range(10_000):
        append(path, "x")
        yield k


def push(state, item):
    state.append(item)
    return len(state)


def correlation():
    return correlation_id.get()


def die(how):
    if how == "exit":
        os._exit(3)
    if how == "abort":
        os.abort()
    os.kill(os.getpid(), getattr(signal, how))


def die_once(path):
    if not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "well"


def nap_and_square(x):
    time.sleep(0.002)
    return x * x


class There:
    def exists(self):
        return True


def long_answer_then_die(_):
    import threading

    threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGKILL)).start()
    return Slow()


class Slow:
    def __reduce__(self):
        time.sleep(0.2)
        return bytes, (bytes(1 << 26),)


def note_and_make(path):
    append(path, "x")
    return ["rebuilt"]


class Rebuild:
    def __init__(self, path):
        self.path = path

    def __call__(self):
        return note_and_make(self.path)


class Unreadable:
    def __reduce__(self):
        return refuse, ()


def refuse():
    raise ValueError("not today")


class PickyError(Exception):
    """Takes keywords only, so that it does not survive plain pickling."""

    def __init__(self, *, code):
        super().__init__(f"code {code}")
        self.code = code


class HoldingError(Exception):
    """Holds something that cannot travel."""


class HopelessError(Exception):
    """Refuses to be made from what it holds."""

    def __new__(cls, text):
        return super().__new__(cls) if text == "once" else refuse()

    def __init__(self, text):
        super().__init__("twice")


def raise_picky():
    raise PickyError(code=7)


def raise_holding():
    error = HoldingError("held", threading.Lock())
    error.lock, error.note = threading.Lock(), "kept"
    raise error


def raise_hopeless():
    raise HopelessError("once")


def raise_(kind):
    raise kind


def zeros(n):
    import numpy as np

    return np.zeros(n).sum()


def sleep_with(_, seconds):
    time.sleep(seconds)


def ignore_everything():
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    while True:
        time.sleep(0.01)


def swallow_everything():
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(10)


def print_for_ever():
    token = "x" * 50
    while True:
        print(token)  # noqa: T201  # what is printed is the point


def fork_and_go_on(path):
    child = os.fork()
    append(path, "c" if child == 0 else "p")
    if child:
        os.waitpid(child, 0)
    return child != 0


def use_a_pool():
    return named.get("general")


def draw():
    import numpy as np

    return random.random(), float(np.random.rand())  # noqa: NPY002  # the global generator is the point


def environment(names):
    return [os.environ.get(name) for name in names]


def note(key):
    state()[key] = True
    return dict(state())


def speak():
    print("to out")  # noqa: T201  # what is printed is the point
    print("to err", file=sys.stderr)  # noqa: T201  # what is printed is the point
    print("no newline", end="")  # noqa: T201  # what is printed is the point
    sys.stdout.buffer.write(b"\xff\xfe raw\n")
    logging.getLogger("speaker").warning("logged %s", "well")
    return "said"


def hold(state, mib, seconds=0):
    """Hold so much memory for as long as the state lives, or for some time."""
    state.append(bytearray(os.urandom(1 << 20) * mib))
    time.sleep(seconds)
    return len(state)


def where_it_lies(array):
    """Name the file of shared memory that an array lies in, its sum, and whether it can be changed."""
    address, place = array.__array_interface__["data"][0], ""
    for line in Path("/proc/self/maps").read_text(encoding="ascii").splitlines():
        span, *_, name = line.split(maxsplit=5)
        first, last = (int(each, 16) for each in span.split("-"))
        if first <= address < last and "/dspex-" in name:
            place = name.removesuffix(" (deleted)")
    return place, float(array.sum()), array.flags.writeable
