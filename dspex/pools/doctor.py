"""The doctor: what this machine can do for pools, tried out rather than assumed."""

from __future__ import annotations

import os
import platform
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dspex.errors import DspexError, WorkerMemoryError
from dspex.pools import devices, gpus, named
from dspex.pools.spec import DEFAULTS, Machine, PoolSpec, excess, scaled
from dspex.pools.sweep import sweep

if TYPE_CHECKING:
    from dspex.pools.gpus import Gpu
    from dspex.pools.spec import Start

_PROBED_MIB = 256
_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found."""

    machine: Machine
    pools: dict[str, PoolSpec]
    """The pools as they are on this machine."""
    notices: tuple[str, ...]
    starts: dict[str, str]
    """How workers can begin → how long the first took, or why it did not."""
    memory_limit: str
    """Whether a task that wants too much fails by itself."""
    gpus: tuple[Gpu, ...]
    swept: tuple[str, ...]
    """What was left by dead processes, and is gone now."""

    def __str__(self) -> str:
        lines = [
            f"machine    {self.machine.cpus} processors, {self.machine.memory_mib} MiB; {platform.platform()}",
            f"python     {platform.python_version()}",
            *(f"pool       {name:<10} {_shown(spec)}" for name, spec in self.pools.items()),
            *(f"notice     {notice}" for notice in self.notices),
            *(f"start      {how:<10} {found}" for how, found in self.starts.items()),
            f"limits     {self.memory_limit}",
            *(
                f"gpu        {gpu.name}, {gpu.free_mib} of {gpu.total_mib} MiB free, {gpu.uuid}"
                for gpu in self.gpus
            ),
            *([] if self.gpus else ["gpu        none found: pools for GPUs work on processors"]),
            f"swept      {len(self.swept)} leftovers of dead processes",
        ]
        return "\n".join(lines)


def _shown(spec: PoolSpec) -> str:
    memory = "no limit" if spec.memory_mib is None else f"{spec.memory_mib} MiB each"
    preload = f", preloads {', '.join(spec.preload)}" if spec.preload else ""
    return f"{spec.workers} workers, {memory}, {spec.device}{preload}"


def doctor() -> Diagnosis:
    """Look at the machine, start a worker in each way there is, and sweep up."""
    machine = Machine.here()
    found = {name: scaled(name, spec, machine) for name, spec in DEFAULTS.items()}
    there, visible = gpus.probe(), os.environ.get("CUDA_VISIBLE_DEVICES")
    placed = {name: devices.plan(name, each.spec, there, visible) for name, each in found.items()}
    pools = {name: each.spec for name, each in placed.items()}
    too_much = excess(pools, machine)
    said = [*(each.notice for each in found.values()), *(each.notice for each in placed.values())]
    said += [
        f"pool {name!r}: its breaker is {each.breaker}"
        for name, each in named.stats().items()
        if each.breaker != "closed"
    ]
    notices = [notice for notice in said if notice is not None]
    ways: tuple[Start, ...] = ("zygote", "spawn") if sys.platform.startswith("linux") else ("spawn",)
    return Diagnosis(
        machine,
        pools,
        tuple(notices + ([too_much] if too_much is not None else [])),
        {how: _tried(how) for how in ways},
        _tried_limit(),
        tuple(there),
        tuple(sweep()),
    )


def _tried(how: Start) -> str:
    pool = named.make("doctor", PoolSpec(workers=1, start=how))
    began = time.monotonic()
    try:
        pool.submit(abs, -1).result(_PATIENCE_S)
    except (DspexError, TimeoutError) as error:
        return f"does not work: {error}"
    finally:
        pool.close()
    return f"works, the first answer after {time.monotonic() - began:.2f} s"


def _tried_limit() -> str:
    pool = named.make("doctor", PoolSpec(workers=1, memory_mib=_PROBED_MIB))
    try:
        pool.submit(bytearray, 2 * _PROBED_MIB << 20).result(_PATIENCE_S)
    except WorkerMemoryError:
        return "a task that wants too much memory fails, and its worker stays"
    except (DspexError, TimeoutError) as error:
        return f"a task that wants too much memory ends in {error}"
    finally:
        pool.close()
    return "memory is not limited by the system: workers that hold too much are replaced"
