"""The thread engine does what every engine does."""

import pytest
from conformance import EngineConformance


class TestThreads(EngineConformance):
    @pytest.fixture
    def make(self, make_pool):
        return lambda **options: make_pool(profile="thread", **options)
