"""What dead processes left in shared memory is removed, and nothing else."""

import os
import subprocess
import sys

from dspex.pools.sweep import sweep


def test_only_what_the_dead_left_is_swept(tmp_path):
    """Semaphores and boards of a dead process go; those of a living one, and other files, stay."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    gone = [f"sem.loky-{dead.pid}-abc", f"dspex-{dead.pid}-general-1f.board"]
    kept = [
        f"sem.loky-{os.getpid()}-abc",
        f"dspex-{os.getpid()}-general-1f.board",
        "dspex-notes",
        "sem.other-1-a",
    ]
    for name in (*gone, *kept):
        (tmp_path / name).touch()
    assert sweep(tmp_path) == sorted(gone)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)
