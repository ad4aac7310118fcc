"""One sick pool does not stall another."""

from __future__ import annotations

import os
import signal

import pytest
from conformance import until
from tasks import square, touch_and_wait

from dspex.errors import PoolSaturatedError

TIMEOUT_S = 30


def hang_in_c(gate, began):
    """Wait where no signal and no other thread of this process gets a turn."""
    import ctypes

    began.touch()
    ctypes.PyDLL(None).sleep(TIMEOUT_S)


@pytest.mark.parametrize("how", ["stopped by a signal", "deep in C", "its queue is full"])
def test_a_hung_pool_does_not_stall_another(make_pool, tmp_path, how):
    """While every worker of one pool hangs and its queue is full, another starts, answers and ends."""
    sick, well = make_pool(workers=1, queue_limit=2), make_pool(workers=2)
    began, gate = tmp_path / "began", tmp_path / "gate"
    task = hang_in_c if how == "deep in C" else touch_and_wait
    hung = sick.submit(task, *((gate, began) if task is hang_in_c else (began, gate)))
    until(began.exists)
    if how == "stopped by a signal":
        os.kill(sick.stats().workers[0].pid, signal.SIGSTOP)
    waiting = [sick.submit(square, k) for k in range(2)]
    with pytest.raises(PoolSaturatedError):
        sick.submit(square, 3)
    assert list(well.map(square, range(300))) == [k * k for k in range(300)]
    assert well.session("s", list).call(len) == 0
    well.shutdown()
    assert not hung.done()
    assert not any(each.done() for each in waiting)
    sick.close()
    assert hung.exception(TIMEOUT_S) is not None
