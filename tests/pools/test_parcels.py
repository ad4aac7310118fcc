"""Arrays travel by shared memory, without copies, and nothing of them is left."""

from __future__ import annotations

import errno
import gc
import os
import signal

import joblib
import numpy as np
import pytest
from conformance import until
from tasks import where_it_lies

from dspex import pools
from dspex.errors import DefinitionError, ShippingError, WorkerCrashedError
from dspex.pools import parcels
from dspex.pools.board import folder

TIMEOUT_S = 30
pytestmark = pytest.mark.skipif(not folder().is_dir() or os.name != "posix", reason="no shared memory")


def left():
    """Find the arrays that lie in shared memory for this process."""
    return sorted(each.name for each in folder().glob(f"dspex-{os.getpid()}-*.board-*"))


@pytest.fixture
def pool(make_pool):
    return make_pool(workers=2, memory_mib=512)


@pytest.fixture
def table():
    return np.arange(1 << 18, dtype=np.float64)


def write_to(array):
    array[0] = 1


def make_zeros(n):
    return np.zeros(n)


def give_then_die(n):
    """Leave a result in shared memory that its worker cannot hand over any more."""
    parcels.Segment(f"{_results()}-77", memoryview(bytes(n)))
    os.kill(os.getpid(), signal.SIGSEGV)


def _results():
    from dspex.pools import worker

    return worker._worker._results


def test_an_argument_is_the_shared_memory_itself(pool, table):
    """In the worker the array lies in the file that was written, uncopied, and cannot be written to."""
    place, total, is_writeable = pool.submit(where_it_lies, table).result(TIMEOUT_S)
    assert place.startswith(str(folder() / f"dspex-{os.getpid()}-"))
    assert (total, is_writeable) == (table.sum(), False)
    with pytest.raises(ValueError, match="read-only"):
        pool.submit(write_to, table).result(TIMEOUT_S)


def test_a_result_is_the_shared_memory_itself(pool):
    """A result lies uncopied in what the worker wrote, is the caller's own to change, and has no file any more."""
    array = pool.submit(make_zeros, 1 << 18).result(TIMEOUT_S)
    assert where_it_lies(array)[0].startswith(str(folder() / f"dspex-{os.getpid()}-"))
    array[0] = 1
    assert array.sum() == 1
    assert left() == []


def test_what_is_small_goes_in_the_message(pool):
    """A file would cost more than it saves."""
    assert pool.submit(where_it_lies, np.ones(100)).result(TIMEOUT_S)[0] == ""


def test_nothing_is_left(make_pool, table):
    """Files go with their tasks, whether these were done, failed, cancelled or refused; results with their workers."""
    pool = make_pool(workers=1, queue_limit=1)
    running = pool.submit(where_it_lies, table)
    running.result(TIMEOUT_S)
    pool.submit(write_to, table).exception(TIMEOUT_S)
    with pytest.raises(DefinitionError):
        pool.submit(where_it_lies, table, session="s", timeout_s=-1)
    with pytest.raises(WorkerCrashedError):
        pool.submit(give_then_die, 1 << 20, idempotent=False).result(TIMEOUT_S)
    assert left() == []
    waiting = pool.submit(where_it_lies, table)
    waiting.cancel()
    pool.close()
    assert left() == []


def test_a_future_that_is_kept_keeps_no_arguments(pool, table):
    """A future that is done has let go of what its task was given."""
    future = pool.submit(where_it_lies, table)
    future.result(TIMEOUT_S)
    until(lambda: left() == [])
    assert future.task.arguments == parcels.EMPTY


def test_a_task_that_lost_its_worker_finds_its_arguments_again(pool, table, tmp_path):
    """What is tried again reads the same file, and poisonous arguments are told apart by what is in them."""
    died = tmp_path / "died"

    def once(array):
        if not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return float(array.sum())

    assert pool.submit(once, table).result(TIMEOUT_S) == table.sum()
    one, other = (parcels.wrap((each,), {}, str(tmp_path / "x")) for each in (table, table + 1))
    assert len({one.digest, other.digest, parcels.wrap((table,), {}, str(tmp_path / "y")).digest}) == 2


def test_a_result_with_arrays_is_bounded(make_pool):
    """What lies in shared memory counts as what is in the message does."""
    pool = make_pool(workers=1, max_result_mib=1)
    with pytest.raises(ShippingError, match="larger than the 1 MiB"):
        pool.submit(make_zeros, 1 << 18).result(TIMEOUT_S)
    assert pool.submit(make_zeros, 1 << 16).result(TIMEOUT_S).sum() == 0
    assert left() == []


def test_full_shared_memory_is_no_matter(pool, table, monkeypatch):
    """Where there is no room, arrays travel in the message."""

    def full(path, raw):
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(parcels, "_write", full)
    assert pool.submit(where_it_lies, table).result(TIMEOUT_S)[:2] == ("", table.sum())


def test_an_array_that_is_shared_is_written_once(pool):
    """Within `sharing`, an array is written for the first task only, until it is gone, views of it apart."""
    table, shelf = np.arange(1 << 18), parcels.Shelf()
    with shelf.open():
        places = {pool.submit(where_it_lies, table).result(TIMEOUT_S)[0] for _ in range(3)}
        places |= {pool.submit(where_it_lies, table.reshape(2, -1).T).result(TIMEOUT_S)[0]}
        assert len(places) == 1
        assert pool.submit(where_it_lies, table[: 1 << 17]).result(TIMEOUT_S)[0] not in places
        assert pool.submit(where_it_lies, table + 1).result(TIMEOUT_S)[1] == table.sum() + len(table)
    assert len(shelf._known) == 2
    del table
    gc.collect()
    assert not shelf._known
    until(lambda: left() == [])


def test_sharing_ends(pool, table):
    """After `sharing`, an array may be changed, and goes as it is then."""
    with pools.sharing():
        before = [pool.submit(where_it_lies, table).result(TIMEOUT_S)[0] for _ in range(2)]
    assert len(set(before)) == 1
    table[0] = 7
    place, total, _ = pool.submit(where_it_lies, table).result(TIMEOUT_S)
    assert (place not in before, total) == (True, table.sum())
    until(lambda: left() == [])


def test_joblib_shares_arrays(pool):
    """All calls of one `Parallel` read the one copy of an array, and nothing is left then."""
    pools.named._pools["shared"] = pool
    table = np.ones((1000, 100))
    try:
        with joblib.parallel_config(backend="dspex", pool="shared", n_jobs=2):
            told = joblib.Parallel(batch_size=1)(joblib.delayed(where_it_lies)(table) for _ in range(6))
    finally:
        del pools.named._pools["shared"]
    assert len({place for place, _, _ in told}) == 1
    assert told[0][0].startswith(str(folder()))
    until(lambda: left() == [])
