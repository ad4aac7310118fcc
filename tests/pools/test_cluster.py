"""A dask cluster is reached, checked, and left; what is wrong with it is said."""

from __future__ import annotations

import importlib.util
import socket
import threading

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


@pytest.fixture
def scheduler():
    """Have a scheduler that answers."""
    with distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=None) as cluster:
        yield cluster.scheduler_address


@pytest.mark.parametrize("answers", ["nobody", "127.0.0.1", "scheduler"])
def test_what_cannot_be_used_leaves_nothing(request, monkeypatch, answers):
    """Neither a thread nor a client that the garbage collector would have to end."""
    address = answers if answers[0].isdigit() else request.getfixturevalue(answers)
    monkeypatch.setattr("dspex.pools.cluster.check_versions", interrupted)
    clients, threads = set(distributed.Client._instances), set(threading.enumerate())
    with pytest.raises((ClusterError, DefinitionError, KeyboardInterrupt)):
        Cluster(address, patience_s=0.3)
    assert {each.status for each in set(distributed.Client._instances) - clients} <= {"closed"}
    assert set(threading.enumerate()) <= threads


def interrupted(*_):
    """Be where the user loses patience."""
    raise KeyboardInterrupt


def test_without_distributed(monkeypatch):
    """Where it is not installed, the error says how to install it."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(NotSupportedError, match=r"pip install 'dspex\[cluster\]'"):
        Cluster("tcp://127.0.0.1:1")
