"""A dask cluster is reached, checked, and left; what is wrong with it is said."""

from __future__ import annotations

import importlib.util
import socket

import pytest

import dspex as dx
from dspex.errors import ClusterError, DefinitionError, NotSupportedError
from dspex.pools import named
from dspex.pools.cluster import Cluster

distributed = pytest.importorskip("distributed")


@pytest.fixture
def nobody():
    """Find an address at which nobody answers."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"tcp://127.0.0.1:{taken.getsockname()[1]}"


def test_a_scheduler_that_does_not_answer(nobody):
    """The error names the address and how long was waited, and says what to look at."""
    with pytest.raises(
        ClusterError, match=rf"the scheduler at {nobody} did not answer within 0\.3 s"
    ) as caught:
        Cluster(nobody, patience_s=0.3)
    assert "dask scheduler" in caught.value.hint


def test_all_stays_as_it_was(nobody, monkeypatch):
    """A cluster that cannot be used changes neither the runtime nor the pools."""
    monkeypatch.setattr("dspex.pools.cluster._PATIENCE_S", 0.3)
    before = dx.configure(store="memory")
    with pytest.raises(ClusterError):
        dx.configure(store="memory", cluster=nobody)
    assert dx.session.current() is before
    assert named._cluster is None
    before.close()


@pytest.mark.parametrize("given", [8786, "127.0.0.1", ["tcp://a:1"]])
def test_what_is_no_cluster(given):
    """Something else than an address or a client is refused, with an address as an example."""
    with pytest.raises(DefinitionError, match=r"a cluster is an address or .* Client, got"):
        Cluster(given, patience_s=0.3)


def test_without_distributed(monkeypatch):
    """Where it is not installed, the error says how to install it."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(NotSupportedError, match=r"pip install 'dspex\[cluster\]'"):
        Cluster("tcp://127.0.0.1:1")
