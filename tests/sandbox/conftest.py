"""What the sandbox's tests share: DSPy without its caches, and programs made in one line."""

import dspy
import pytest


@pytest.fixture(autouse=True, scope="session")
def no_cache():
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)


@pytest.fixture
def program_of():
    def make(task, module="Predict", demos=0, instructions=None):
        program = getattr(dspy, module)(dspy.Signature(task.signature, instructions or task.instructions))
        program.predictors()[0].demos = task.train[:demos]
        return program

    return make
