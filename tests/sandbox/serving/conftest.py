"""One server for all tests of this room; each may set its faults, and none are left over."""

import pytest

from dspex import sandbox

KEY = "sk-planted-4711-planted"


@pytest.fixture(scope="session")
def running():
    with sandbox.serve(api_key=KEY) as server:
        yield server


@pytest.fixture
def server(running):
    running.set_faults(None)
    yield running
    running.set_faults(None)


@pytest.fixture
def key():
    return KEY
