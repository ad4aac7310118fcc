"""Limits of a worker: how much memory it may hold, and the threads of numerical libraries."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    import psutil

    from dspex.pools.spec import PoolSpec

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
_TORCH_OUT_OF_MEMORY = re.compile(r"can't allocate memory|not enough memory|out of memory")


def environment(spec: PoolSpec) -> Mapping[str, str]:
    """Return the variables that workers of a pool are started with, whatever else they see."""
    made = dict.fromkeys(_THREAD_VARIABLES, str(spec.threads))
    # loky replaces a worker that has grown, and with it every session; recycling is this pool's own.
    made["LOKY_MAX_MEMORY_LEAK_SIZE"] = "1e15"
    # Otherwise importing litellm asks the network for prices.
    made["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    if spec.device == "cpu":
        made["CUDA_VISIBLE_DEVICES"] = ""
    return {**made, **spec.env}


def limit_memory(mib: int) -> bool:
    """Let this process fail to allocate more than so much; returns whether the system can.

    The limit is on data, not on addresses: torch alone maps more than it uses.
    """
    if not sys.platform.startswith("linux"):
        return False
    import resource

    wanted = mib << 20
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (wanted if hard < 0 else min(wanted, hard), hard))
    return True


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, in the words of Python, numpy or torch.

    Examples
    --------
    >>> is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ..."))
    True
    """
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and _TORCH_OUT_OF_MEMORY.search(str(error)) is not None


def peak_mib() -> int:
    """Return the most memory that this process has held."""
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return int(psutil.Process().memory_info().peak_wset) >> 20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak >> 20 if sys.platform == "darwin" else peak >> 10


def held_mib(process: psutil.Process) -> float:
    """Return what a process holds for itself: resident memory without the files it shares."""
    memory = process.memory_info()
    return float(memory.rss - getattr(memory, "shared", 0)) / (1 << 20)
