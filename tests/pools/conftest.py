"""Pools of every engine, closed after the test; nothing of them may be left."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from dspex.pools import PoolSpec, named

# The conformance suite stands beside the tests that inherit it, which are no package.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def events():
    """Hear what happens in any pool."""
    heard = []
    stop = named.subscribe(heard.append)
    yield heard
    stop()


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
