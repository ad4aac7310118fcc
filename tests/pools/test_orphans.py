"""No process outlives the one that made the pool, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil
import pytest
from conformance import until

SCRIPT = """
import os, sys, time
from dspex.pools import PoolSpec, named

pool = named.make("orphans", PoolSpec(workers=2, start=sys.argv[1]))
pool.submit(sum, range(10**11))
pool.submit(time.sleep, 1000)
while pool.stats().running < 2 or len(pool.stats().workers) < 2 or any(w.state != "ready" for w in pool.stats().workers):
    time.sleep(0.01)
print("ready", flush=True)
if sys.argv[2] == "stay":
    time.sleep(1000)
if sys.argv[2] == "raise":
    raise SystemExit(3)
"""


def lives(process):
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def begin(start, how):
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, start, how], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )


@pytest.mark.parametrize("start", ["zygote", "spawn"])
def test_a_killed_parent_leaves_nothing(start):
    """After kill -9, all processes are gone, one in C code and one that is stopped included."""
    with begin(start, "stay") as parent:
        assert parent.stdout.readline() == b"ready\n"
        children = psutil.Process(parent.pid).children(recursive=True)
        assert len(children) >= 3
        for child in children:
            if "resource_tracker" not in " ".join(child.cmdline()) and "forkserver" not in " ".join(
                child.cmdline()
            ):
                os.kill(child.pid, signal.SIGSTOP)
                break
        parent.kill()
    until(lambda: not any(map(lives, children)), "the end of all processes", 10)


@pytest.mark.parametrize("how", ["end", "raise"])
def test_a_parent_that_ends_waits_for_nobody(how):
    """Tasks that run do not hold the interpreter, and no process is left."""
    with begin("zygote", how) as parent:
        assert parent.stdout.readline() == b"ready\n"
        assert parent.wait(30) == (3 if how == "raise" else 0)
    left = [each for each in psutil.process_iter(["ppid"]) if each.info["ppid"] == parent.pid]
    assert not any(map(lives, left))
