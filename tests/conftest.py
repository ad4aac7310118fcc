"""What every test stands on: a store and caches of its own, and a runtime on the sandbox."""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING

# Before dspy is imported: its disk cache must not reach from one test run into the next.
os.environ["DSPY_CACHEDIR"] = tempfile.mkdtemp(prefix="dspex-test-cache-")
os.environ["DSPEX_STORE"] = "memory"

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    import dspex as dx


@pytest.fixture
def runtime() -> Iterator[dx.Runtime]:
    """Make the session's runtime, on all three sandbox models, with a store in memory."""
    from dspex import sandbox, session

    yield session.configure(sandbox.MODELS, store="memory")
    session.current().close()
