"""Devices: each worker gets its share of one, and what fails on a device costs a worker only if it must."""

from __future__ import annotations

import logging
import os
import sys
from types import SimpleNamespace

import pytest
from tasks import environment, fail_with, push

from dspex.errors import PoisonTaskError, WorkerMemoryError
from dspex.events import PoolDegraded, WorkerDied
from dspex.pools import PoolSpec, devices
from dspex.pools.devices import Placement, plan
from dspex.pools.gpus import Gpu

TIMEOUT_S = 60
FULL = "CUDA out of memory. Tried to allocate 20.00 GiB."
BROKEN = "CUDA error: device-side assert triggered"
A, B = Gpu("GPU-a", "fake", 24_576, 23_552), Gpu("GPU-b", "fake", 24_576, 12_288)
SPEC = PoolSpec(workers=4, memory_mib=8192, device="gpu")


# ── planning ────────────────────────────────────────────────────────────────────────────────────


def test_workers_share_a_large_device():
    """Four workers fit on one large device, each with its share of the memory, and nothing is said."""
    found = plan("neural", SPEC, [Gpu("GPU-h", "H200", 143_771, 143_000)])
    assert found == (SPEC, (Placement("GPU-h", 0.057),) * 4, None)


@pytest.mark.parametrize(
    ("visible", "expected"),
    [(None, "aba"), ("0", "aa"), ("1,0", "aba"), ("GPU-b", "b"), ("", ""), ("7", "")],
)
def test_only_visible_devices_are_used(visible, expected):
    """What this process may not use, its workers may not either."""
    found = plan("neural", SPEC, [A, B], visible)
    assert "".join(each.uuid[-1] for each in found.placements) == expected


def test_a_worker_can_ask_for_another_amount():
    """`gpu_memory_mib` counts on the device, `memory_mib` beside it; without either nothing is limited."""
    spec = PoolSpec(workers=2, memory_mib=8192, gpu_memory_mib=12_288, device="gpu")
    assert plan("mine", spec, [A]).placements == (Placement("GPU-a", 0.5),)
    assert plan("mine", PoolSpec(workers=2, device="gpu"), [A]).placements == (Placement("GPU-a", None),) * 2


def test_a_full_device_is_named():
    """If no device has room, the notice says how much was wanted and how much there was."""
    found = plan("neural", SPEC, [Gpu("GPU-a", "RTX", 24_576, 512)])
    assert (found.spec.device, found.placements) == ("cpu", ())
    assert found.notice == (
        "pool 'neural' works on processors: a worker needs 8892 MiB of a GPU, and the most that is free is "
        "512 MiB, on RTX (GPU-a)"
    )


def test_a_pool_without_devices_plans_nothing():
    """Pools for processors, and pools of threads, have no use for a device."""
    for spec in (PoolSpec(workers=1), PoolSpec(workers=1, profile="thread", device="gpu")):
        assert plan("mine", spec, [A]) == (spec, (), None)


# ── workers ─────────────────────────────────────────────────────────────────────────────────────


def test_each_worker_sees_its_own_device(make_pool, gpus):
    """Two workers on two devices: each finds one variable set, to its own; the kernel's stays as it is."""
    gpus(A, B)
    pool = make_pool(workers=2, device="gpu")
    sessions = [pool.session(name, list) for name in ("left", "right")]
    for each in sessions:
        each.call(push, 1)
    names = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER")
    tasks = [pool.submit(environment_after, names, 2, session=each) for each in sessions]
    found = {tuple(each.result(TIMEOUT_S)) for each in tasks}
    assert found <= {("GPU-a", "PCI_BUS_ID"), ("GPU-b", "PCI_BUS_ID")}
    placed = {slot.name: slot.device.uuid for slot in pool._engine.slots}
    assert len(set(placed.values())) == len(placed)
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def environment_after(_, names, __):
    return environment(names)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="workers are forked on Linux alone")
def test_what_is_preloaded_finds_no_device(make_pool, gpus, monkeypatch, tmp_path):
    """The process that workers are forked from hides every device from what it imports; they see theirs."""
    gpus(A)
    (tmp_path / "curious.py").write_text("import os\nseen = os.environ.get('CUDA_VISIBLE_DEVICES')\n")
    monkeypatch.syspath_prepend(tmp_path)
    pool = make_pool(workers=1, device="gpu", preload=("curious",), start="zygote")
    assert pool.submit(seen_by, "curious").result(TIMEOUT_S) == ("", "GPU-a")


def seen_by(name):
    return sys.modules[name].seen, os.environ["CUDA_VISIBLE_DEVICES"]


def test_working_on_processors_is_said_aloud(make_pool, gpus, events, caplog):
    """Without a device the pool works all the same, hides what there is, and says so twice."""
    gpus()
    with caplog.at_level(logging.WARNING, logger="dspex.pools"):
        pool = make_pool(workers=1, device="gpu")
    assert pool.submit(environment, ["CUDA_VISIBLE_DEVICES"]).result(TIMEOUT_S) == [""]
    notice = "pool 'test0' works on processors: this machine has no GPU that can be used"
    assert [each.getMessage() for each in caplog.records] == [notice]
    assert PoolDegraded("test0", notice) in events


def test_a_full_device_keeps_the_worker(make_pool, gpus):
    """A task that wants too much of its device fails alone, in words, and the session is still there."""
    gpus(A)
    pool = make_pool(workers=1, device="gpu", gpu_memory_mib=8192, preload=())
    session = pool.session("s", list)
    session.call(push, "kept")
    before = session.call(pid_of)
    with pytest.raises(
        WorkerMemoryError, match="may hold 8192 MiB of its GPU, and the task wanted"
    ) as caught:
        session.call(fail_with, RuntimeError, FULL)
    assert caught.value.limit_mib == 8192
    assert (session.call(push, "too"), session.call(pid_of)) == (2, before)


def pid_of(_):
    return os.getpid()


def test_a_broken_device_costs_the_worker(make_pool, gpus, events):
    """After an error that no process gets over the call is tried in a new one, and then no more."""
    gpus(A)
    pool = make_pool(workers=1, device="gpu")
    before = pool.submit(os.getpid).result(TIMEOUT_S)
    with pytest.raises(
        PoisonTaskError, match=r"cost 2 workers, the last by an error of CUDA .*device-side"
    ) as caught:
        pool.submit(fail_with, None, RuntimeError, BROKEN).result(TIMEOUT_S)
    assert caught.value.kind == "cuda"
    assert pool.submit(os.getpid).result(TIMEOUT_S) != before
    assert [each.kind for each in events if isinstance(each, WorkerDied)] == ["cuda", "cuda"]


def test_words_alone_break_nothing_without_a_device(make_pool):
    """A pool on processors takes the same error for what it is: a task's."""
    pool = make_pool(workers=1)
    before = pool.submit(os.getpid).result(TIMEOUT_S)
    with pytest.raises(RuntimeError, match="device-side"):
        pool.submit(fail_with, None, RuntimeError, BROKEN).result(TIMEOUT_S)
    assert pool.submit(os.getpid).result(TIMEOUT_S) == before


# ── inside ──────────────────────────────────────────────────────────────────────────────────────


def test_errors_are_told_apart():
    """By torch's own classes, by their words, and through what they were caused by; other errors say nothing."""
    torch = pytest.importorskip("torch")
    outer = ValueError("the batch failed")
    outer.__cause__ = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
    assert devices.ailment(outer) == "broken"
    assert devices.ailment(torch.OutOfMemoryError("Allocation on device")) == "full"
    assert devices.ailment(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED")) == "full"
    assert devices.ailment(ValueError(BROKEN)) is None
    assert devices.ailment(RuntimeError("shapes differ")) is None


class FakeCuda:
    def __init__(self, *, is_used):
        self.is_initialized = lambda: is_used
        self.called = []

    def _lazy_call(self, function):
        function()

    def __getattr__(self, name):
        return lambda *values: self.called.append((name, *values)) or 5 << 20


@pytest.fixture
def cuda(monkeypatch):
    def make(*, is_used):
        fake = FakeCuda(is_used=is_used)
        monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=fake))
        return fake

    return make


def test_a_share_of_the_device_is_kept_to(cuda):
    """Torch is told the fraction; without one it is left alone."""
    fake = cuda(is_used=False)
    devices.limit(Placement("GPU-a", 0.25))
    devices.limit(Placement("GPU-a", None))
    assert fake.called == [("set_per_process_memory_fraction", 0.25)]


def test_a_task_ends_with_what_it_left_running(cuda):
    """A process that has used CUDA waits for it and gives memory back; another does not even begin to use it."""
    fake = cuda(is_used=True)
    devices.finish()
    assert devices.empty_cache() == 5
    assert fake.called == [("synchronize",), ("max_memory_allocated",), ("empty_cache",)]
    unused = cuda(is_used=False)
    devices.finish()
    assert (devices.empty_cache(), unused.called) == (0, [])
