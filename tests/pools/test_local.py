"""The local engine does what every engine does, on real processes."""

import pytest
from conformance import EngineConformance


class TestProcesses(EngineConformance):
    @pytest.fixture
    def make(self, make_pool):
        return make_pool
