"""Pools in a real IPython kernel: functions from cells, prints, interrupt, restart, and the end."""

from __future__ import annotations

import contextlib
import os
import queue
import signal

import psutil
import pytest
from conformance import until

pytestmark = pytest.mark.kernel
TIMEOUT_S = 60

BEGIN = """
import dspex as dx, os, time
pool = dx.pools.define("mine", dx.pools.PoolSpec(workers=2))
factor = 3
class CellError(Exception): ...
def times(x):
    print("said", x)
    if x < 0:
        raise CellError(x)
    return factor * x
print(pool.submit(times, 2).result())
try:
    pool.submit(times, -1).result()
except CellError as error:
    print("caught", error)
pids = {each.pid for each in pool.stats().workers}
"""


@pytest.fixture
def kernel():
    from jupyter_client.manager import KernelManager

    manager = KernelManager()
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(TIMEOUT_S)
    yield manager, client
    client.stop_channels()
    manager.shutdown_kernel(now=True)
    manager.cleanup_resources()


def children_of(manager):
    return psutil.Process(manager.provisioner.pid).children(recursive=True)


def lives(process):
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def run(client, code):
    """Execute a cell; returns what it printed and the name of the error it ended in."""
    said = []

    def hear(message):
        if message["msg_type"] == "stream":
            said.append(message["content"]["text"])

    reply = client.execute_interactive(code, output_hook=hear, timeout=TIMEOUT_S, store_history=False)
    return "".join(said), reply["content"].get("ename")


INTERRUPTED = """
other = pool.submit(time.sleep, 2)
mine = pool.submit(time.sleep, 1000)
print("begun")
mine.result()
"""


def interrupted(manager, client):
    """Interrupt a cell that waits for a task; returns the name of the error it ends in."""
    identifier = client.execute(INTERRUPTED, stop_on_error=False)
    while "begun" not in client.get_iopub_msg(timeout=TIMEOUT_S)["content"].get("text", ""):
        pass
    for _ in range(3):  # one that arrives while the kernel prints is lost in it; a user presses again
        manager.interrupt_kernel()
        with contextlib.suppress(queue.Empty):
            while (reply := client.get_shell_msg(timeout=5))["parent_header"].get("msg_id") != identifier:
                pass
            return reply["content"]["ename"]
    return None


def test_a_kernels_life(kernel):
    """Cells run their own functions, an interrupt stops the cell's task alone, a restart leaves nothing."""
    manager, client = kernel
    said, error = run(client, BEGIN)
    assert (said, error) == ("said 2\n6\nsaid -1\ncaught -1\n", None)
    assert run(client, "factor = 5\nprint(pool.submit(times, 2).result())")[0] == "said 2\n10\n"
    awaited = "import asyncio\nprint(await asyncio.gather(pool.asubmit(pow, 2, 3), pool.asubmit(pow, 2, 4)))"
    assert run(client, awaited)[0] == "[8, 16]\n"

    assert interrupted(manager, client) == "KeyboardInterrupt"
    assert run(client, "print(other.result())")[0] == "None\n"
    until(lambda: run(client, "print(pool.stats().running)")[0] == "0\n")
    check = "print(pids <= {each.pid for each in pool.stats().workers}, pool.stats().crashed, pool.stats().stopped)"
    assert run(client, check)[0] == "True 0 0\n"

    children = children_of(manager)
    assert len(children) >= 3
    manager.restart_kernel(now=False)
    client.wait_for_ready(TIMEOUT_S)
    until(lambda: not any(map(lives, children)), "the end of the workers")
    assert run(client, BEGIN)[1] is None


def test_a_killed_kernel_leaves_nothing(kernel):
    """After kill -9 of the kernel alone, its workers are gone, busy ones too."""
    manager, client = kernel
    run(client, BEGIN)
    run(client, "pool.submit(sum, range(10**11)); pool.submit(time.sleep, 1000); time.sleep(0.2)")
    children = children_of(manager)
    assert len(children) >= 3
    os.kill(manager.provisioner.pid, signal.SIGKILL)
    until(lambda: not any(map(lives, children)), "the end of the workers", 10)
