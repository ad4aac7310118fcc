"""Let the tests of this folder import their worlds, and share finished studies."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dspex.optimizers.study import Study

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def experiment() -> Iterator[Study]:
    """Run a search once, with a holdout; tests read it and leave it as it is."""
    from spaces import SIGNATURE, SPACE, TRIAGE

    import dspex as dx

    runtime = dx.Runtime(dx.sandbox.MODELS, store="memory")
    yield runtime.optimize(
        SIGNATURE,
        space=SPACE,
        trainset=TRIAGE.train,
        valset=TRIAGE.dev[:70],
        metric=dx.metrics.exact_match,
        budget=dx.Budget(trials=10),
        holdout=TRIAGE.test[:60],
        name="experiment",
        tags=["paper", "first"],
    ).wait()
    runtime.close()


@pytest.fixture(scope="session")
def compiled() -> Iterator[Study]:
    """Run one of DSPy's optimizers once, with a share held out; tests read it and leave it as it is."""
    from spaces import SIGNATURE, TRIAGE

    import dspex as dx

    runtime = dx.Runtime(["sandbox/small"], store="memory")
    yield runtime.optimize(
        SIGNATURE,
        trainset=TRIAGE.train[:40],
        valset=TRIAGE.dev[:50],
        metric=dx.metrics.exact_match,
        optimizer=dx.optimizers.BootstrapFewShotWithRandomSearch(num_candidate_programs=3),
        holdout=0.4,
        name="compiled",
    ).wait()
    runtime.close()
