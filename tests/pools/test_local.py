"""The local engine does what every engine does, on real processes."""

import pytest
from worker_conformance import WorkerConformance


class TestProcesses(WorkerConformance):
    @pytest.fixture
    def make(self, make_pool):
        return make_pool
