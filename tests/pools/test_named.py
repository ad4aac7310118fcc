"""The pools by name."""

from __future__ import annotations

import logging
import os

import pytest

import dspex as dx
from dspex.errors import CircuitOpenError, DefinitionError, UnknownNameError, WorkerCrashedError
from dspex.pools import PoolSpec, make_pool, named
from dspex.pools.doctor import doctor
from dspex.pools.spec import DEFAULTS, Machine, excess, scaled
from dspex.reliability import BreakerSettings

TIMEOUT_S = 60


@pytest.fixture(autouse=True)
def _closed():
    """Forget what other tests and this one have used and defined."""
    forget()
    yield
    forget()


def forget():
    named.close()
    for name in set(named._specs) - set(DEFAULTS):
        del named._specs[name]


def test_three_pools_are_always_there():
    """They have names, start nothing by themselves, and fit the machine."""
    assert dx.pools.names() == ["general", "neural", "optimizer"]
    assert dx.pools.general is dx.pools.get("general")
    assert dx.pools.general.workers <= 8
    assert dx.pools.stats()["general"].workers == ()
    assert "general" in dir(dx.pools)


def test_the_general_pool_works():
    """A function runs in it."""
    assert dx.pools.general.submit(pow, 2, 10).result(TIMEOUT_S) == 1024
    assert dx.pools.stats()["general"].done == 1


def test_a_notice_says_what_was_scaled(caplog, monkeypatch, gpus):
    """On a small machine the pools are smaller, and say so when they are first used."""
    monkeypatch.setattr(Machine, "here", classmethod(lambda cls: cls(cpus=2, memory_mib=6000)))
    gpus()
    with caplog.at_level(logging.WARNING, logger="dspex.pools"):
        assert dx.pools.general.workers == 4
        assert (dx.pools.neural.workers, dx.pools.neural.spec.memory_mib) == (1, 6000)
    assert [record.getMessage() for record in caplog.records] == [
        "pool 'general': 4 workers instead of 8, as this machine has 2 processors and 6000 MiB of memory",
        "pool 'neural': 1 worker instead of 4 and 6000 MiB each instead of 8192, as this machine has 2 processors and 6000 MiB of memory",
        "pool 'neural' works on processors: this machine has no GPU that can be used",
    ]


def test_a_large_machine_changes_nothing():
    """Where there is room, the pools are what they would like to be."""
    big = Machine(cpus=16, memory_mib=128_000)
    assert all(scaled(name, spec, big) == (spec, None) for name, spec in DEFAULTS.items())
    assert excess(DEFAULTS, big) is None


def test_pools_of_ones_own(caplog):
    """A pool is defined by name, is found under it, and one that wants more than there is says so."""
    mine = dx.pools.define("mine", PoolSpec(workers=1))
    assert dx.pools.mine is mine
    assert mine.submit(pow, 2, 3).result(TIMEOUT_S) == 8
    with caplog.at_level(logging.WARNING, logger="dspex.pools"):
        other = dx.pools.define("mine", PoolSpec(workers=4, memory_mib=10_000_000))
    assert dx.pools.mine is other
    assert (
        "the limits of the pools add up to 40000000 MiB (mine 4 x 10000000), this machine has" in caplog.text
    )
    for name in ("not one", "queue", "define"):
        with pytest.raises(DefinitionError, match=f"a pool cannot be called '{name}'"):
            dx.pools.define(name, PoolSpec(workers=1))


def test_a_breaker_as_one_likes_it(clock):
    """`PoolSpec` says when a pool is taken to be broken; closing it begins anew."""
    with pytest.raises(
        DefinitionError, match=r"breaker must be True, False or .*BreakerSettings\(...\), got 3"
    ):
        PoolSpec(workers=1, breaker=3)
    soon = BreakerSettings(consecutive=1, cool_down_s=2.0)
    pool = dx.pools.define("mine", PoolSpec(workers=1, breaker=soon))
    with pytest.raises(WorkerCrashedError):
        pool.submit(os._exit, 3, idempotent=False).result(TIMEOUT_S)
    assert dx.pools.stats()["mine"].breaker.startswith("open for 2.0 s: a failure; the last: ")
    assert "wait; breaker open for 2.0 s: a failure; the last: the worker died with" in repr(pool)
    with pytest.raises(CircuitOpenError):
        pool.submit(pow, 2, 3)
    assert any("pool 'mine': its breaker is open for 2.0 s" in each for each in doctor().notices)
    dx.pools.close("mine")
    assert dx.pools.mine.submit(pow, 2, 3).result(TIMEOUT_S) == 8


def test_an_unknown_pool_names_the_nearest():
    """A pool that does not exist is refused with the ones that do."""
    with pytest.raises(
        AttributeError, match="there is no pool 'genral'; known: general, neural, optimizer; did you"
    ):
        _ = dx.pools.genral
    with pytest.raises(UnknownNameError, match="did you mean 'neural'"):
        dx.pools.get("nural")
    assert not hasattr(dx.pools, "_nothing")


def test_a_session_is_found_in_whichever_pool_it_is():
    """A session is found by its name alone, as long as only one pool has one of that name."""
    one, other = (dx.pools.define(name, PoolSpec(workers=1, profile="thread")) for name in ("one", "other"))
    ann = one.session("ann")
    assert named.session("ann") is ann
    other.session("ann")
    with pytest.raises(DefinitionError, match="a session 'ann' in each of the pools one, other"):
        named.session("ann")
    with pytest.raises(UnknownNameError, match="unknown session 'bob'"):
        named.session("bob")


def test_what_executions_can_run_on():
    """Executions and studies run on threads; asking for worker processes says so."""
    with pytest.raises(
        UnknownNameError, match=r"executions and studies run on threads .* dx\.pools\.general\.submit"
    ):
        make_pool("general", 1)


def test_a_spec_reports_all_that_is_wrong():
    """Every wrong value is named at once."""
    with pytest.raises(DefinitionError) as caught:
        PoolSpec(workers=True, memory_mib=1, timeout_s=-1, beat_s=0, min_workers=9, profile="fibre")
    assert str(caught.value).splitlines() == [
        "this is no pool:",
        "  - workers must be a whole number > 0, got True",
        "  - memory_mib must be at least 128, got 1",
        "  - timeout_s must be > 0 or None, got -1",
        "  - beat_s must be > 0, got 0",
        "  - min_workers must lie in [0, workers = True], got 9",
        "  - profile must be one of process, thread, got 'fibre'",
    ]
