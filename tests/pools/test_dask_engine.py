"""The dask engine does what every engine does, on a real cluster of separate processes."""

import pytest
from worker_conformance import WorkerConformance

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def cluster():
    """Start a scheduler in this process, and two workers of their own on loopback."""
    quick = {"distributed.worker.multiprocessing-method": "forkserver"}
    with dask.config.set(quick), distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=30
    ) as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def on_cluster(cluster):
    from dspex.pools import named

    cluster.wait_for_workers(2, timeout=30)
    named.use(cluster)
    yield
    named.use(None)


class TestDask(WorkerConformance):
    killed = ("lost", None)

    @pytest.fixture
    def make(self, make_pool):
        return make_pool
