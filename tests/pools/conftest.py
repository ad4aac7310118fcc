"""Pools of every engine, closed after the test; nothing of them may be left."""

from __future__ import annotations

import random
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from dspex.pools import PoolSpec, named
from dspex.reliability import Breaker, BreakerSettings

# The conformance suite stands beside the tests that inherit it, which are no package.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def events():
    """Hear what happens in any pool."""
    heard = []
    stop = named.subscribe(heard.append)
    yield heard
    stop()


class Clock:
    """Time that passes when it is told to."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    """Have the breakers of pools go by this clock, to the second."""
    clock = Clock()

    def made(pool, settings):
        settings = replace(settings or BreakerSettings(), jitter=0, probe_lease_s=float("inf"))
        return Breaker(f"pool {pool!r}", settings, clock=clock, rng=random.Random(0))

    monkeypatch.setattr(named, "_make_breaker", made)
    return clock


@pytest.fixture
def gpus(monkeypatch):
    """Have the machine seem to have these devices."""

    def have(*found):
        monkeypatch.setattr(named, "probe", lambda: list(found))
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    return have


@pytest.fixture
def make_pool():
    """Make pools."""
    made = []

    def make(**options):
        made.append(named.make(f"test{len(made)}", PoolSpec(**options)))
        return made[-1]

    yield make
    for pool in made:
        pool.close()
