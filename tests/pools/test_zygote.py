"""Workers are forked from a warm process, and begin from nothing where that does not work."""

from __future__ import annotations

import os
import signal
import sys
import types

import pytest
from conformance import until
from tasks import square

from dspex.errors import CircuitOpenError, PoolError, WorkerStartError
from dspex.events import PoolDegraded
from dspex.pools import zygote

TIMEOUT_S = 30


def loaded(name):
    return name in sys.modules


def test_preloaded_modules_are_there(make_pool):
    """A module that is preloaded is there without being imported, and one that does not exist harms nobody."""
    pool = make_pool(workers=1, preload=("colorsys", "no.such.module"))
    assert pool.submit(loaded, "colorsys").result(TIMEOUT_S)
    assert not make_pool(workers=1).submit(loaded, "colorsys").result(TIMEOUT_S)
    assert "zygote" in pool.stats().how


def test_a_zygote_that_dies_is_started_again(make_pool):
    """Without its zygote a pool replaces its workers all the same."""
    pool = make_pool(workers=1)
    pid = pool.submit(os.getpid).result(TIMEOUT_S)
    parent = pool.submit(os.getppid).result(TIMEOUT_S)
    assert parent != os.getpid()
    os.kill(parent, signal.SIGKILL)
    until(lambda: pid not in {each.pid for each in pool.stats().workers})
    assert pool.submit(square, 3).result(TIMEOUT_S) == 9


def test_a_made_up_main_module_is_no_matter(make_pool, monkeypatch):
    """Workers are forked although ``__main__`` lacks what modules have, as a shell's may."""
    made_up = types.ModuleType("__main__")
    del made_up.__spec__
    monkeypatch.setitem(sys.modules, "__main__", made_up)
    pool = make_pool(workers=1)
    assert pool.submit(square, 3).result(TIMEOUT_S) == 9
    assert pool.stats().how == "zygote"


def test_where_nothing_can_be_forked_workers_begin_from_nothing(make_pool, monkeypatch, events, caplog):
    """A zygote that cannot start is given up, aloud, and the pool works."""

    def refuse(self, fds):
        raise PoolError("no forks here")

    monkeypatch.setattr(zygote.Zygote, "fork", refuse)
    pool = make_pool(workers=1)
    assert pool.submit(square, 3).result(TIMEOUT_S) == 9
    assert pool.stats().how == "spawn"
    assert "workers cannot be forked here" in caplog.text
    assert [type(each) for each in events if isinstance(each, PoolDegraded)] == [PoolDegraded]


def test_a_pool_whose_workers_cannot_start_says_so(make_pool, monkeypatch, caplog):
    """When no worker can be started at all, tasks fail instead of waiting for ever."""

    def refuse(self, fds):
        raise PoolError("no forks here")

    monkeypatch.setattr(zygote.Zygote, "fork", refuse)
    pool = make_pool(workers=1, start="zygote")
    with pytest.raises(
        PoolError, match="cannot work: its workers cannot start: could not start: no forks here"
    ):
        pool.submit(square, 3).result(TIMEOUT_S)
    assert "cannot start" in caplog.text


def test_a_pool_whose_workers_can_start_again_recovers(make_pool, monkeypatch, clock):
    """While they cannot, tasks are soon refused at once; when they can, one task finds out, and all is well."""
    fork, is_refused = zygote.Zygote.fork, True

    def refuse(self, fds):
        if is_refused:
            raise PoolError("no forks here")
        return fork(self, fds)

    monkeypatch.setattr(zygote.Zygote, "fork", refuse)
    pool = make_pool(workers=1, start="zygote")
    for _ in range(3):
        with pytest.raises(WorkerStartError):
            pool.submit(square, 3).result(TIMEOUT_S)
    with pytest.raises(CircuitOpenError, match=r"3 failures in a row; the last: .* no forks here"):
        pool.submit(square, 3)
    clock.now = 5.0
    with pytest.raises(WorkerStartError):
        pool.submit(square, 3).result(TIMEOUT_S)
    assert "degraded" in pool.stats().how
    with pytest.raises(CircuitOpenError, match=r"for 10\.0 s: a probe failed"):
        pool.submit(square, 3)
    clock.now, is_refused = 15.0, False
    assert [pool.submit(square, k).result(TIMEOUT_S) for k in range(3)] == [0, 1, 4]
    until(lambda: pool.stats().how == "zygote")


def test_workers_that_begin_from_nothing_do_the_same(make_pool):
    """Without a zygote a pool does its work, and its workers have its environment."""
    pool = make_pool(workers=1, start="spawn", env={"DSPEX_TEST": "here"})
    assert pool.submit(os.getenv, "DSPEX_TEST").result(TIMEOUT_S) == "here"
    assert pool.stats().how == "spawn"
