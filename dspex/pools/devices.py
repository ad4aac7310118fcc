"""Devices of workers: which GPU each one gets, how much of it, and what it means when one fails.

No kernel and no zygote touches CUDA. A worker sees one device, named by its identifier, and calls it ``cuda:0``.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from dspex.pools.gpus import Gpu
    from dspex.pools.spec import PoolSpec

CONTEXT_MIB = 700
"""What CUDA itself takes of a device, for each process."""

_CHECK = {"PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
"""Has torch count devices without beginning to use them."""
HIDDEN = {"CUDA_VISIBLE_DEVICES": "", **_CHECK}
"""For a zygote: what it preloads must find no GPU, as a process that has used CUDA cannot be forked."""


class Placement(NamedTuple):
    """One worker's share of a device."""

    uuid: str
    fraction: float | None
    """Of the device's whole memory; None for no limit."""


class DevicePlan(NamedTuple):
    """A pool as its devices allow it, where its workers go, and what is to be said about that."""

    spec: PoolSpec
    placements: tuple[Placement, ...]
    notice: str | None


def plan(name: str, spec: PoolSpec, gpus: Sequence[Gpu], visible: str | None = None) -> DevicePlan:
    """Place a pool's workers by free memory; where none fits, they work on processors, and the notice says so.

    Parameters
    ----------
    visible
        ``CUDA_VISIBLE_DEVICES`` of this process, which holds for its workers too.

    Examples
    --------
    >>> from dspex.pools.gpus import Gpu
    >>> from dspex.pools.spec import DEFAULTS
    >>> two = [Gpu("GPU-a", "RTX", 24_576, 23_552), Gpu("GPU-b", "RTX", 24_576, 12_288)]
    >>> found = plan("neural", DEFAULTS["neural"], two)
    >>> found.placements
    (Placement(uuid='GPU-a', fraction=0.3333), Placement(uuid='GPU-b', fraction=0.3333), Placement(uuid='GPU-a', fraction=0.3333))
    >>> found.notice
    "pool 'neural': 3 workers instead of 4, as each needs 8892 MiB of a GPU"
    >>> plan("neural", DEFAULTS["neural"], []).notice
    "pool 'neural' works on processors: this machine has no GPU that can be used"
    """
    if spec.device == "cpu" or spec.profile == "thread":
        return DevicePlan(spec, (), None)
    usable = _visible(gpus, visible)
    needed = spec.gpu_memory_mib or spec.memory_mib
    placements = tuple(_placed(usable, spec.workers, needed))
    if not placements:
        return DevicePlan(replace(spec, device="cpu"), (), _fallback(name, usable, needed))
    if len(placements) == spec.workers:
        return DevicePlan(spec, placements, None)
    workers = len(placements)
    fewer = replace(spec, workers=workers, min_workers=min(spec.min_workers, workers))
    notice = (
        f"pool {name!r}: {workers} worker{'s' * (workers > 1)} instead of {spec.workers}, "
        f"as each needs {(needed or 0) + CONTEXT_MIB} MiB of a GPU"
    )
    return DevicePlan(fewer, placements, notice)


def _visible(gpus: Sequence[Gpu], visible: str | None) -> list[Gpu]:
    """Keep what this process may use itself: devices named by their order or by how their identifiers begin."""
    if visible is None:
        return list(gpus)
    names = [name.strip() for name in visible.split(",") if name.strip()]
    found = [
        gpu
        for name in names
        for number, gpu in enumerate(gpus)
        if name == str(number) or (not name.isdigit() and gpu.uuid.startswith(name))
    ]
    return list(dict.fromkeys(found))


def _placed(gpus: Sequence[Gpu], workers: int, needed: int | None) -> Iterable[Placement]:
    """Give each worker the device with the fewest workers, and of those the one with the most memory left."""
    free = {gpu: gpu.free_mib for gpu in gpus}
    taken = (needed or 0) + CONTEXT_MIB
    here: Counter[Gpu] = Counter()
    for _ in range(workers):
        fitting = [gpu for gpu in gpus if free[gpu] >= taken]
        if not fitting:
            return
        best = min(fitting, key=lambda gpu: (here[gpu], -free[gpu]))
        here[best] += 1
        free[best] -= taken
        yield Placement(best.uuid, None if needed is None else min(1.0, round(needed / best.total_mib, 4)))


def _fallback(name: str, gpus: Sequence[Gpu], needed: int | None) -> str:
    if not gpus:
        return f"pool {name!r} works on processors: this machine has no GPU that can be used"
    most = max(gpus, key=lambda gpu: gpu.free_mib)
    return (
        f"pool {name!r} works on processors: a worker needs {(needed or 0) + CONTEXT_MIB} MiB of a GPU, "
        f"and the most that is free is {most.free_mib} MiB, on {most.name} ({most.uuid})"
    )


def least_used(placements: Sequence[Placement], taken: Iterable[Placement | None]) -> Placement | None:
    """Choose where the next worker goes, given where the others are.

    Examples
    --------
    >>> a, b = Placement("GPU-a", 0.5), Placement("GPU-b", 0.5)
    >>> least_used([a, b, a], [a, b]), least_used([], [None])
    (Placement(uuid='GPU-a', fraction=0.5), None)
    """
    left = Counter(placements)
    left.subtract(each for each in taken if each is not None)
    return max(left, key=lambda each: left[each], default=None) if placements else None


def environment(placement: Placement | None) -> Mapping[str, str]:
    """Return the variables that give a worker its device; CUDA reads them when it is first used."""
    if placement is None:
        return {}
    return {
        "CUDA_VISIBLE_DEVICES": placement.uuid,
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        **_CHECK,
    }


# ── in the worker ───────────────────────────────────────────────────────────────────────────────


def limit(placement: Placement) -> None:
    """Have torch take no more than this share of the device, from when CUDA is first used."""
    if placement.fraction is None:
        return
    try:
        torch: Any = importlib.import_module("torch")
    except ImportError:
        return
    fraction = placement.fraction
    # torch's own list of what is to be done then: to use CUDA here and now would cost every worker a second.
    torch.cuda._lazy_call(lambda: torch.cuda.set_per_process_memory_fraction(fraction))  # noqa: SLF001


def finish() -> None:
    """Wait for what a task left running on the device, so that its errors are its own and not the next one's."""
    torch = _used()
    if torch is not None:
        torch.cuda.synchronize()


def empty_cache() -> int:
    """Give back memory that torch keeps; returns the most that it had held, in MiB."""
    torch = _used()
    if torch is None:
        return 0
    peak = int(torch.cuda.max_memory_allocated()) >> 20
    torch.cuda.empty_cache()
    return peak


def _used() -> Any:
    """Return torch, if this process has used CUDA."""
    torch = sys.modules.get("torch")
    return torch if torch is not None and torch.cuda.is_initialized() else None


_FULL = re.compile(r"(cuda|cublas|cudnn|device).*(out of memory|alloc_failed)", re.IGNORECASE | re.DOTALL)
_BROKEN = re.compile(
    r"device-side assert|illegal memory access|illegal address|illegal instruction|misaligned address|"
    r"invalid (address space|program counter)|hardware stack error|unspecified launch failure|"
    r"launch timed out|uncorrectable ecc|(cublas|cudnn)_status_(execution_failed|internal_error|not_initialized)",
    re.IGNORECASE,
)


def ailment(error: BaseException) -> Literal["full", "broken"] | None:
    """Say what an exception means for its device: its memory is full, or nothing works on it any more.

    After some errors of CUDA every later call in the same process fails too; only a new process helps.

    Examples
    --------
    >>> ailment(RuntimeError("CUDA error: device-side assert triggered"))
    'broken'
    >>> ailment(RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB."))
    'full'
    >>> ailment(RuntimeError("CUDA error: invalid device ordinal")) is None
    True
    """
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        if type(each).__name__ == "OutOfMemoryError" or _says(each, _FULL):
            return "full"
        if _says(each, _BROKEN):
            return "broken"
        each = each.__cause__ or each.__context__
    return None


def _says(error: BaseException, pattern: re.Pattern[str]) -> bool:
    return isinstance(error, RuntimeError) and pattern.search(str(error)) is not None
