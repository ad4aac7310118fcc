"""What the adapters' tests share: one server for all of them, and no fault left over."""

import pytest

from dspex import sandbox


@pytest.fixture(scope="session")
def running():
    with sandbox.serve() as server:
        yield server


@pytest.fixture
def server(running):
    running.set_faults(None)
    yield running
    running.set_faults(None)
