"""The dask engine does what every engine does, on a real cluster of separate processes."""

import os
import signal
import threading

import pytest
from conformance import Gate, until
from tasks import append, die, environment, nap_and_square, square, swallow_everything
from worker_conformance import WorkerConformance

import dspex as dx
from dspex.errors import PoisonTaskError, PoolError, TaskTimeoutError, WorkerMemoryError
from dspex.events import PoolDegraded
from dspex.pools import named

TIMEOUT_S = 30
dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def cluster():
    """Start a scheduler in this process, and two workers of their own on loopback."""
    settings = {
        "distributed.worker.multiprocessing-method": "forkserver",
        # Or a worker that happens to be down so long after another's death would be closed for good.
        "distributed.deploy.lost-worker-timeout": "1h",
    }
    with (
        dask.config.set(settings),
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            dashboard_address="127.0.0.1:0",
            silence_logs=50,
        ) as cluster,
    ):
        ended = threading.Event()
        healing = threading.Thread(target=heal, args=(cluster, ended))
        healing.start()
        yield cluster
        ended.set()
        healing.join()


def heal(cluster, ended):
    """Replace nannies that gave up: one whose worker was killed while it began does not start another."""
    while not ended.wait(0.5):
        for name, nanny in list(cluster.workers.items()):
            if nanny.status.name in {"closed", "failed"}:
                cluster.workers.pop(name)
        cluster.scale(2)


def whole(cluster):
    """Whether both workers are there."""
    return [each.status.name for each in cluster.scheduler.workers.values()] == ["running"] * 2


@pytest.fixture(autouse=True)
def on_cluster(cluster):
    until(lambda: whole(cluster), "the cluster")
    named.use(cluster)
    yield
    named.use(None)


class TestDask(WorkerConformance):
    killed = ("lost", None)

    @pytest.fixture
    def make(self, make_pool):
        return make_pool

    # ── what is dask's own ──────────────────────────────────────────────────────────────────────

    def test_a_worker_killed_in_mid_run_loses_nothing(self, make, tmp_path):
        """Of many tasks on two workers of which one is killed, each is answered, and what it had done is not redone."""
        pool = make(workers=2)
        pool.submit(square, 1).result(TIMEOUT_S)
        futures = [pool.submit(nap_and_square, k) for k in range(100)]
        done = pool.submit(append, tmp_path / "log", "x", priority=1, idempotent=False)
        done.result(TIMEOUT_S)
        os.kill(pool.stats().workers[0].pid, signal.SIGKILL)
        assert [each.result(TIMEOUT_S) for each in futures] == [k * k for k in range(100)]
        assert (tmp_path / "log").read_text() == "x"
        until(lambda: pool.stats().crashed == 1)
        assert pool.stats().reconciles

    def test_a_task_that_kills_workers_is_not_tried_for_ever(self, make):
        """A call that has cost three workers fails with what they died of, and is refused from then on."""
        pool = make(workers=1)
        future = pool.submit(die, "SIGKILL")
        with pytest.raises(
            PoisonTaskError, match=r"has cost 3 workers, the last by lost by the cluster \(tcp"
        ):
            future.result(TIMEOUT_S)
        with pytest.raises(PoisonTaskError):
            pool.submit(die, "SIGKILL")

    def test_what_heeds_nothing_costs_its_worker(self, make):
        """A task that ignores being told to stop is ended with its worker, which the nanny replaces."""
        pool = make(workers=1, grace_s=0.2)
        pool.submit(environment, ()).result(TIMEOUT_S)  # what the task stands in is imported
        with pytest.raises(TaskTimeoutError, match="it did not heed that, so its worker was replaced"):
            pool.submit(swallow_everything, timeout_s=0.2).result(TIMEOUT_S)
        assert pool.submit(square, 3, timeout_s=None).result(TIMEOUT_S) == 9
        assert pool.stats().stopped == 1

    def test_too_much_memory_is_said_to_be(self, make, tmp_path):
        """A worker that its nanny ended for its memory fails the task with the limit."""
        pool = make(workers=1)
        gate = Gate(pool, tmp_path)
        (running,) = gate.fill()
        (room,) = pool._engine.rooms.values()
        # What a nanny says before it ends a worker; to have it say so takes a machine's memory.
        named._cluster._on_memory((0.0, {"worker": room.home.address}))
        os.kill(room.pid, signal.SIGKILL)
        with pytest.raises(WorkerMemoryError, match=f"may hold {room.home.memory_mib} MiB") as caught:
            running.result(TIMEOUT_S)
        assert caught.value.limit_mib == room.home.memory_mib

    def test_large_calls_and_answers(self, make):
        """What is too large for a message goes another way, both ways, in a stream too."""
        pool = make(workers=1)
        data = os.urandom(3 << 20)
        assert pool.submit(bytes.__add__, data, b"!").result(TIMEOUT_S) == data + b"!"
        assert list(pool.stream(iter, [data, b"small", data])) == [data, b"small", data]

    def test_what_is_this_machines_stays_here(self, make, monkeypatch):
        """Keys go to the workers; what says how this machine is set up does not."""
        monkeypatch.setenv("DSPEX_KEY", "secret")
        monkeypatch.setenv("XDG_DATA_HOME", "/here")
        pool = make(workers=1, env={"FLAVOUR": "a"})
        names = ["DSPEX_KEY", "XDG_DATA_HOME", "FLAVOUR"]
        assert pool.submit(environment, names).result(TIMEOUT_S) == ["secret", None, "a"]

    def test_a_pool_without_its_gpus_says_so(self, make, events):
        """Where no worker has a GPU resource, tasks run on processors, and an event says so."""
        pool = make(workers=1, device="gpu")
        assert pool.submit(square, 2).result(TIMEOUT_S) == 4
        reasons = [each.reason for each in events if isinstance(each, PoolDegraded)]
        assert reasons == ["no worker of the cluster has a GPU resource: tasks run on processors"]

    def test_programs_run_there(self, cluster):
        """A DSPy program on the sandbox runs in the cluster's workers, kept in a session."""
        dx.configure(["sandbox/large"], store="memory", cluster=cluster)
        session = dx.pools.general.session("solver", make_solver)
        answers = [session.submit(solve, f"Tom has {k} apples and buys 4 more. How many?") for k in range(3)]
        pids = {os.getpid()} | {each.result(60)[1] for each in answers}
        assert len(pids) == 2
        assert all(each.result(0)[0] for each in answers)
        assert dx.pools.general.stats().how.startswith("dask at tcp://")

    def test_one_may_come_back(self, cluster):
        """Pools begin anew where `configure` says: on the cluster, or on this machine again."""
        try:
            dx.configure(store="memory", cluster=cluster.scheduler_address)
            before = dx.pools.define("mine", dx.pools.PoolSpec(workers=1))
            assert before.submit(os.getppid).result(TIMEOUT_S) != os.getpid()
            assert before.stats().how == f"dask at {cluster.scheduler_address}"
            dx.configure(store="memory")
            with pytest.raises(PoolError, match="is closed"):
                before.submit(square, 2)
            assert dx.pools.mine.submit(square, 2).result(TIMEOUT_S) == 4
            assert "dask" not in dx.pools.mine.stats().how
        finally:
            named.close("mine")
            del named._specs["mine"]

    def test_joblib_runs_there(self, cluster):
        """Joblib's own calls run on the cluster, through the pool, and end when workers die."""
        import joblib

        pids = set()
        with joblib.parallel_config(backend="dspex", pool="general", n_jobs=2):
            pids |= set(joblib.Parallel()(joblib.delayed(os.getpid)() for _ in range(20)))
            with pytest.raises(PoisonTaskError):
                joblib.Parallel()(joblib.delayed(die)("SIGKILL") for _ in range(2))
        assert os.getpid() not in pids
        named.close("general")


def make_solver():
    import dspy

    import dspex as dx

    dspy.configure(lm=dx.lm("sandbox/large"))
    return dspy.Predict("question -> answer: int")


def solve(solver, question):
    return solver(question=question).answer, os.getpid()
